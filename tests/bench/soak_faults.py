"""Mixed load on two nodes with a fault every minute: ``python -m tests.bench.soak_faults`` (40 minutes).

Small Hugging Face engines (`rsc`) on a Ray cluster of two nodes that is not ours answer a load that goes up
and down; each ``--every`` seconds something breaks, in turn: an engine is killed, the router is killed, a
raylet hangs, the head's GCS dies (with its state in Redis, where that is installed), weights are damaged
while an engine dies, a node is announced to go and goes. Then vLLM (`rvc`) answers, and its engine is killed
``--vllm-kills`` times.

Exit code 1 when a request is not accounted for exactly once, a process is left over, an engine is not back,
or the memory of the head's process or of the router grows by more than ``--limit-mb`` after the first third.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.backends import processes
from tests.backends.backend_process import BackendProcess
from tests.backends.redis_server import program, redis
from tests.backends.someones_cluster import SomeonesCluster
from tests.backends.under_load import Load, facts, loaded, until_ready
from tests.bench.soak import Track, memory

_LOW_RPS, _HIGH_RPS = 3.0, 15.0
_WAVE_S = 45.0
_HANG_S = 6.0
_AWAY_S = 8.0
_DRAIN_S = 40
_BACK_LIMIT_S = 240.0
_SAMPLE_S = 2.0


@dataclass
class Stand:
    """What faults are made on."""

    url: str
    backend: BackendProcess
    cluster: SomeonesCluster | None
    weights: Path
    engines: int


Fault = Callable[[Stand], Awaitable[None]]


async def kill_engine(stand: Stand) -> None:
    rows = [row for row in (await facts(stand.url))["engines"] if row["state"] == "ready"]
    os.kill(rows[0]["pid"], signal.SIGKILL)


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
    whole = stand.weights.read_bytes()
    stand.weights.write_bytes(whole[: len(whole) // 2])
    await kill_engine(stand)
    await asyncio.sleep(_AWAY_S)
    stand.weights.write_bytes(whole)


async def lose_node(stand: Stand) -> None:
    """The worker node is announced to go, and another one comes before it does."""
    head = next(node["id"] for node in (await facts(stand.url))["nodes"] if node["head"])
    node = next(node["id"] for node in (await facts(stand.url))["nodes"] if node["id"] != head)
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


async def soak(
    stand: Stand, folder: Path, faults: list[Fault], seconds: float, every_s: float, limit_mb: float
) -> list[str]:
    """What is wrong, a line each."""
    wrong: list[str] = []
    tracks = {"head": Track("head"), "router": Track("router")}
    began = time.monotonic()
    async with loaded(stand.url, folder / "run", rate=_LOW_RPS, seconds=seconds + 900, tokens=8) as load:
        helpers = [
            asyncio.create_task(_waves(load)),
            asyncio.create_task(_weigh(stand, tracks, seconds / 3)),
        ]
        try:
            number = 0
            while time.monotonic() - began < seconds:
                due = began + (number + 1) * every_s
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                fault = faults[number % len(faults)]
                number += 1
                print(f"  {time.monotonic() - began:5.0f} s  {_said(load)}  {fault.__name__}", flush=True)
                await fault(stand)
                back_s = await until_ready(stand.url, stand.engines, _BACK_LIMIT_S)
                print(f"           {stand.engines} engines ready {back_s:.0f} s later", flush=True)
        except AssertionError as error:
            wrong.append(f"an engine is not back: {error}")
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            load.end()
    # `loaded` has checked that each request is accounted for once.
    print(f"  {load.summary['requests']}")
    for track in tracks.values():
        if track.growth is None:
            wrong.append(f"{track.name}: no sample of its memory")
        elif track.growth > limit_mb:
            wrong.append(f"{track.name}: its memory grew by {track.growth:.1f} MB")
        print(
            f"  {track.name}: grew by {track.growth if track.growth is None else round(track.growth, 1)} MB"
        )
    return wrong


def _said(load: Load) -> str:
    now = load.session.snapshot().load
    return f"{now.sent} sent, {now.ok} ok, {sum(count for _, count in now.errors)} failed"


async def _waves(load: Load) -> None:
    """The rate goes up and down."""
    from rvtop.contract.command import SetRate

    while True:
        for rps in (_HIGH_RPS, _LOW_RPS):
            await asyncio.sleep(_WAVE_S / 2)
            load.session.command(SetRate(rps))


async def _weigh(stand: Stand, tracks: dict[str, Track], settle_s: float) -> None:
    await asyncio.sleep(settle_s)
    known: int | None = None
    while True:
        await asyncio.sleep(_SAMPLE_S)
        if (now := memory(stand.backend.pid)) is not None:
            tracks["head"].add(now)
        for router in processes.named(stand.backend.pid, "haproxy")[:1]:
            if known != router.pid:  # one that was killed begins anew
                known, tracks["router"] = router.pid, Track("router")
            if (now := memory(router.pid)) is not None:
                tracks["router"].add(now)


@contextlib.contextmanager
def stand_of(topology: str, model: Path, folder: Path, redis_address: str | None) -> Iterator[Stand]:
    """A backend: `rsc` on a cluster of two nodes, or `rvc` on one of its own."""
    cluster = None
    env: dict[str, str] = {}
    if topology == "rsc":
        given = {} if redis_address is None else {"RAY_REDIS_ADDRESS": redis_address}
        cluster = SomeonesCluster(folder, env=given, apart=True)
        words, env = ["--ray-address", cluster.address, "--num-replicas", "2"], cluster.env
        words += ["--serve-grace", str(_DRAIN_S // 4)]
    else:
        words = ["--num-replicas", "1", "--dtype", "float32", "--engine-arg", "max-num-seqs=8"]
    backend = BackendProcess(
        *(topology, "--lease", "--model", f"tiny={model}", "--threads", "1", *words),
        log=folder / "backend.log",
        env=env,
    )
    try:
        yield Stand(backend.url, backend, cluster, model / "model.safetensors", 2 if cluster else 1)
    finally:
        backend.kill()
        if cluster is not None:
            cluster.close()


async def part(
    topology: str, faults: list[Fault], seconds: float, every_s: float, limit_mb: float, address: str | None
) -> list[str]:
    """One topology under load and faults, and whether anything of it is left afterwards."""
    from backends.models.tiny.tiny import ensure_model

    folder = Path(tempfile.mkdtemp(prefix="rvtop-soak-"))
    try:
        model = folder / "model"
        shutil.copytree(ensure_model("tiny"), model)
        print(f"{topology}: {seconds:.0f} s of load, a fault each {every_s:.0f} s", flush=True)
        with stand_of(topology, model, folder, address) as stand:
            wrong = await soak(stand, folder, faults, seconds, every_s, limit_mb)
            ours = processes.family(stand.backend.pid)
            paths = processes.folders(ours)
        try:
            await asyncio.to_thread(processes.wait_until_gone, ours, paths, 60.0)
        except AssertionError as error:
            wrong.append(f"something is left over: {error}")
        return [f"{topology}: {line}" for line in wrong]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main(arguments: list[str] | None = None) -> int:
    """Prints a line for each fault, and what is wrong at the end; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30, help="of load on two nodes; 0: none")
    parser.add_argument("--every", type=float, default=60, help="seconds between two faults")
    parser.add_argument("--vllm-kills", type=int, default=3, help="of a vLLM engine; 0: none")
    parser.add_argument("--vllm-every", type=float, default=180, help="seconds between two of these")
    parser.add_argument("--limit-mb", type=float, default=40, help="growth that is too much")
    options = parser.parse_args(arguments)
    wrong: list[str] = []
    with contextlib.ExitStack() as stack:
        address = None
        faults = [kill_engine, kill_router, hang_raylet, damage_weights, lose_node]
        if options.minutes and program() is not None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rvtop-redis-")))
            address = stack.enter_context(redis(folder))
            faults.insert(3, kill_gcs)
        elif options.minutes:
            print("no redis-server: the head's GCS is not killed")
        if options.minutes:
            seconds = 60 * options.minutes
            wrong += asyncio.run(part("rsc", faults, seconds, options.every, options.limit_mb, address))
    if options.vllm_kills:
        seconds = options.vllm_kills * options.vllm_every
        limit = options.limit_mb
        wrong += asyncio.run(part("rvc", [kill_engine], seconds, options.vllm_every, limit, None))
    for line in wrong:
        print(f"soak: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
