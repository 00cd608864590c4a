"""What :mod:`tests.bench.soak_faults` breaks: a backend, the cluster below it, the faults, and when all of it
is there again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from backends.scaling.counts import SERIES
from rvtop.net.transport import Transport
from rvtop.target.splits import splits_of
from tests.backends import processes
from tests.backends.backend_process import BackendProcess
from tests.backends.someones_cluster import START_TRIES, SomeonesCluster
from tests.backends.under_load import facts

#: The name that the load asks for, and the two versions behind it.
ALIAS, OLD, NEW = "chat", "v1", "v2"
FIRST_SHARE = 10.0
#: The load has to make two or three replicas of one, on a quiet machine too: an answer takes it 0.1 s there.
_SCALE = "min=1,max=3,initial=1,target=0.3,up=2,down=10,up_factor=1,down_factor=0.5,look_back=5"
#: In the environment of all that a stand starts, whoever its parent becomes.
MARK = "RVTOP_SOAK"

#: Within which all is back after a fault, and the next one finds an engine to kill.
BACK_LIMIT_S = 240.0
_HANG_S = 6.0
_AWAY_S = 8.0
_DRAIN_S = 40
_ASK_S = 10.0
_POLL_S = 0.2
_WANTED = re.compile(rf'^{SERIES}{{model_name="([^"]+)",state="wanted"}} (\d+)', re.MULTILINE)


@dataclass
class Stand:
    """What faults are made on. ``share``: what percent of the alias the new version was given last; None
    where nothing is split. ``killed``: process ids of the engines that a fault ended."""

    url: str
    backend: BackendProcess
    cluster: SomeonesCluster | None
    weights: Path
    models: tuple[str, ...]
    asks_for: str
    share: float | None = None
    killed: set[int] = field(default_factory=set)

    @property
    def scales(self) -> bool:
        """Whether replicas follow the load."""
        return self.cluster is not None


Fault = Callable[[Stand], Awaitable[None]]


async def kill_engine(stand: Stand) -> None:
    _kill(stand, await _victim(stand))


async def _victim(stand: Stand) -> int:
    """The process of an engine that is ready, once one is."""
    until = time.monotonic() + BACK_LIMIT_S
    while True:
        rows = (await facts(stand.url))["engines"]
        pids = [row["pid"] for row in rows if row["state"] == "ready" and row["model"] == stand.models[0]]
        if found := set(pids) - stand.killed:
            return min(found)
        assert time.monotonic() < until, rows
        await asyncio.sleep(_POLL_S)


def _kill(stand: Stand, pid: int) -> None:
    stand.killed.add(pid)
    os.kill(pid, signal.SIGKILL)


async def kill_router(stand: Stand) -> None:
    for router in processes.named(stand.backend.pid, "haproxy")[:1]:
        os.kill(router.pid, signal.SIGKILL)


async def hang_raylet(stand: Stand) -> None:
    await _ask(stand, "stop")
    await asyncio.sleep(_HANG_S)
    await _ask(stand, "cont")


async def kill_gcs(stand: Stand) -> None:
    await _ask(stand, "kill-gcs")
    await asyncio.sleep(_AWAY_S)
    await _ask(stand, "start-gcs")


async def damage_weights(stand: Stand) -> None:
    whole, victim = stand.weights.read_bytes(), await _victim(stand)
    stand.weights.write_bytes(whole[: len(whole) // 2])
    _kill(stand, victim)
    await asyncio.sleep(_AWAY_S)
    stand.weights.write_bytes(whole)


async def lose_node(stand: Stand) -> None:
    """The worker node is announced to go, and another one comes before it does."""
    rows = (await facts(stand.url))["nodes"]
    node = next(row["id"] for row in rows if not row["head"])
    await _ask(stand, "add")
    await _ask(stand, f"drain {_DRAIN_S} {node}")
    until = time.monotonic() + _DRAIN_S
    while time.monotonic() < until:
        if all(row.get("node_id") != node for row in (await facts(stand.url))["engines"]):
            break
        await asyncio.sleep(1)
    await _ask(stand, f"kill {node}")


async def _ask(stand: Stand, command: str) -> None:
    assert stand.cluster is not None
    await asyncio.to_thread(stand.cluster.ask, command)


async def until_whole(stand: Stand) -> float:
    """Waits until each model has as many engines ready as are wanted now, one at least, none of them killed,
    and the alias has the shares that it was given; returns how many seconds that took."""
    began = time.monotonic()
    while True:
        missing = "nothing answers"
        with contextlib.suppress(httpx.HTTPError, ValueError, KeyError):
            missing = await _missing(stand)
        if not missing:
            return time.monotonic() - began
        assert stand.backend.process.poll() is None, stand.backend.events[-2:]
        assert time.monotonic() - began < BACK_LIMIT_S, missing
        await asyncio.sleep(_POLL_S)


async def _missing(stand: Stand) -> str:
    """What is not as it was before the fault; "" when all is."""
    rows: list[dict[str, Any]] = (await facts(stand.url))["engines"]
    ready = Counter(row["model"] for row in rows if row["state"] == "ready")
    if dead := stand.killed & {row["pid"] for row in rows if row["state"] == "ready"}:
        return f"{dead} were killed and are called ready"
    wanted = await _wanted(stand)
    short = {model: max(1, wanted[model]) for model in stand.models if ready[model] < max(1, wanted[model])}
    if short:
        return f"{dict(ready)} ready, wanted {short}: {rows}"
    share = await share_of(stand)
    return "" if share == stand.share else f"{NEW} has {share} % of {ALIAS}, and was given {stand.share}"


async def _wanted(stand: Stand) -> Counter[str]:
    """How many replicas each model is to have, where that follows the load."""
    async with httpx.AsyncClient(timeout=_ASK_S, trust_env=False) as client:
        page = (await client.get(stand.url + "/metrics")).text
    return Counter({model: int(count) for model, count in _WANTED.findall(page)})


async def share_of(stand: Stand) -> float | None:
    """What percent of the alias the new version has; None where nothing is split."""
    for split in await splits_of(stand.url, Transport()):
        return next(arm.share for arm in split.arms if arm.name == NEW)
    return None


@contextlib.contextmanager
def stand_of(topology: str, model: Path, folder: Path, redis_address: str | None) -> Iterator[Stand]:
    """A backend: `rsc` on a cluster of two nodes, two models behind a name and replicas that follow the load;
    or `rvc` on a cluster of its own. It is told to end with the body."""
    cluster = None
    env: dict[str, str] = {}
    first = folder / OLD
    shutil.copytree(model, first)
    models, asks_for, share = ("tiny",), "tiny", None
    words = ["--num-replicas", "1", "--dtype", "float32", "--engine-arg", "max-num-seqs=8"]
    if topology == "rsc":
        given = {} if redis_address is None else {"RAY_REDIS_ADDRESS": redis_address}
        cluster = _cluster(folder, given)
        models, asks_for, share, env = (OLD, NEW), ALIAS, FIRST_SHARE, cluster.env
        words = ["--ray-address", cluster.address, "--autoscale", _SCALE, "--model", f"{NEW}={model}"]
        words += ["--split", f"{ALIAS}={OLD}:{100 - FIRST_SHARE:g},{NEW}:{FIRST_SHARE:g}"]
        words += ["--serve-grace", str(_DRAIN_S // 4)]
    backend = BackendProcess(
        *(topology, "--lease", "--model", f"{models[0]}={first}", "--threads", "1", *words),
        log=folder / "backend.log",
        env=env,
    )
    try:
        yield Stand(backend.url, backend, cluster, first / "model.safetensors", models, asks_for, share)
    finally:
        backend.kill()
        if cluster is not None:
            cluster.close()


def _cluster(folder: Path, env: Mapping[str, str]) -> SomeonesCluster:
    """Of two nodes. Its start is Ray's own, which a busy machine fails now and then: it is tried again."""
    for number in range(START_TRIES):
        (own := folder / f"theirs-{number}").mkdir()
        try:
            return SomeonesCluster(own, env=env, apart=True)
        except AssertionError:
            if number == START_TRIES - 1:
                raise
    raise AssertionError(START_TRIES)


async def end(stand: Stand) -> list[str]:
    """Ends the backend as rvtop does; what it left in a cluster that is not its own, a line each."""
    stand.backend.end_lease()
    code = await asyncio.to_thread(stand.backend.wait)
    wrong = [f"the backend ended with exit code {code}"] if code else []
    if stand.cluster is not None:
        left: Mapping[str, list[str]] = await asyncio.to_thread(stand.cluster.ask, "status")
        wrong += [f"left in the cluster: {kind} {names}" for kind, names in left.items() if names]
    return wrong


def marked(mark: str) -> list[processes.Process]:
    """All processes of this machine that were started with this mark."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for process in processes.family(1):
        with contextlib.suppress(OSError):
            if wanted in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0"):
                found.append(process)
    return found
