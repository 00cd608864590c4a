"""Bottlenecks planted in real servers on the CPU are named, and Enter's try takes one away: vLLM's own server
with a batch of four, with one place, with a KV cache of a few blocks, with a starved front end; a starved
load client; Ray Serve LLM whose replicas are given two requests at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from rvtop.contract.command import NextPhase, Retarget, Stop
from rvtop.contract.snapshot import Snapshot
from rvtop.target.backend import BackendOptions
from tests.faults.sessions import Watched, request
from tests.mock.fast import any_mock

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]

WORKLOAD = {"kind": "synthetic", "prompt_tokens": 60, "output_tokens": 48, "ignore_eos": True}
SMALL = ("--threads", "1", "--dtype", "float32", "--max-model-len", "512")
LITTLE = ("--gpu-memory-utilization", "0.2")  # of the machine's memory, which others use too
START_S = 600.0
NAMED_S = 150.0


def phase(name: str, concurrency: int) -> dict[str, Any]:
    return {"name": name, "concurrency": concurrency, "duration": "60m", "drain": "20s"}


@contextlib.contextmanager
def starved(pids: Sequence[int], runs_s: float, rests_s: float) -> Iterator[None]:
    """Each of ``pids`` runs for a part of the time only, as the CPU limit of a container does it."""
    over = threading.Event()

    def turn(number: signal.Signals) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def throttle() -> None:
        while not over.wait(runs_s):
            turn(signal.SIGSTOP)
            time.sleep(rests_s)
            turn(signal.SIGCONT)

    thread = threading.Thread(target=throttle)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        turn(signal.SIGCONT)


@contextlib.asynccontextmanager
async def session(
    tmp_path: Path, topology: str, arguments: Sequence[str], *phases: dict[str, Any]
) -> AsyncIterator[Watched]:
    """A session that loads a topology of ours, up to its end."""
    options = BackendOptions(topology, models=("tiny=tiny",), arguments=(*SMALL, *arguments))
    asked = replace(request("", tmp_path / "run", *phases, workload=WORKLOAD), url=None, backend=options)
    watched = Watched(asked)
    try:
        await watched.until(lambda s: s.load.ok > 0, "the first answer", START_S)
        yield watched
    finally:
        watched.send(Stop())
        await watched.end(300.0)


async def named(watched: Watched, name: str, *, seconds: int = 10) -> Snapshot:
    """Waits until ``name`` is the verdict, and watches it for some seconds more; prints its figures."""

    def stands(s: Snapshot) -> bool:
        return s.verdict is not None and s.verdict.name == name

    try:
        found = await watched.until(stands, f"bound by {name}", NAMED_S)
    except TimeoutError:
        now = watched.now.verdict
        raise AssertionError(f"not bound by {name}: {now}; {watched.rows('timeline.jsonl')[-3:]}") from None
    for _ in range(seconds):
        await asyncio.sleep(1)
        now = watched.now.verdict
        assert now is not None
        assert now.name == name, now
    verdict = watched.now.verdict
    assert verdict is not None
    print(f"\n{name}: {' · '.join(verdict.figures)} | {verdict.knob}")
    return found


def next_phase(watched: Watched) -> None:
    watched.send(NextPhase())


def workers() -> list[int]:
    """Our load workers."""
    return [
        one.pid
        for one in psutil.Process().children(recursive=True)
        if any("rvtop.load" in word for word in one.cmdline())
    ]


@pytest.fixture
def own_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that others use our client is limited too, and says so first: here only what is planted
    counts."""
    monkeypatch.setattr("rvtop.session.verdict_watch.limited_since", lambda *_: None)


@pytest.mark.usefixtures("own_machine")
async def test_vllm_with_a_batch_of_four_and_a_starved_front_end(tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    # By the clock: one request after the other would begin each time that the front end may run.
    calm_phase = {"name": "calm", "rate": 3, "arrivals": "poisson", "duration": "60m", "drain": "20s"}
    phases = (calm_phase, phase("many", 16))
    async with session(tmp_path, "vllm", (*LITTLE, "--max-num-seqs", "4"), *phases) as watched:
        calm = watched.now
        await watched.until(lambda s: s.t_s > calm.t_s + 40, "forty seconds of calm")
        # On a machine that others use the front end may wait for the cores all the same.
        named_so_far = {v["name"] for row in watched.rows("timeline.jsonl") if (v := row["verdict"])}
        assert named_so_far <= {"not known yet", "nothing", "router"}
        print("\ncalm:", watched.now.verdict and (watched.now.verdict.name, watched.now.verdict.figures))
        with starved([await api_server(calm.target.url)], 0.03, 0.25):
            await named(watched, "router")
        next_phase(watched)
        s = await named(watched, "batch")
        assert s.verdict is not None
        assert s.verdict.arguments is not None
        assert s.verdict.arguments[-2:] == ("--max-num-seqs", "8")


async def test_a_starved_load_client(tmp_path: Path) -> None:
    """Beside a mock: what serves does not matter."""
    with any_mock(ttft_ms=20, step_ms=5, tokens=16) as mock:
        rate = {"name": "a", "rate": 10, "duration": "60m"}
        watched = Watched(request(mock.url, tmp_path / "run", rate, workload=WORKLOAD))
        await watched.until(lambda s: s.load.ok > 5, "answers")
        with starved(workers(), 0.05, 0.2):
            s = await named(watched, "client")
        assert s.verdict is not None
        assert s.verdict.numbers["lag_p99_ms"] > 50
        watched.send(Stop())
        outcome = await watched.end()
        assert outcome.summary is not None
        found = outcome.summary["findings"][0]
        assert (found["kind"], found["name"]) == ("verdict", "client")


async def api_server(url: str) -> int:
    """The process of vLLM that speaks HTTP; its engine is another one."""
    answer = await asyncio.to_thread(httpx.get, f"{url}/rvtop/topology", trust_env=False, timeout=60)
    (engine,) = answer.json()["engines"]
    return int(engine["pid"])


@pytest.mark.usefixtures("own_machine")
async def test_vllm_with_one_place_and_the_try_that_enter_makes(tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    async with session(tmp_path, "vllm", (*LITTLE, "--max-num-seqs", "1"), phase("many", 6)) as watched:
        s = await named(watched, "one at a time", seconds=3)
        verdict = s.verdict
        assert verdict is not None
        assert verdict.arguments is not None
        done = watched.session.commands.follow(
            Retarget(topology=verdict.topology, arguments=verdict.arguments, place="instead"), "keyboard"
        )
        assert done.later is not None
        await done.later
        at = watched.now.t_s
        await watched.until(lambda s: s.t_s > at + 30, "thirty seconds with eight places")
        now = watched.now.verdict
        print("\nafter the try:", now and (now.name, now.figures))
        assert now is not None
        assert now.name != "one at a time"
        (change,) = [row for row in watched.rows("commands.jsonl") if row["cmd"] == "target"]
        assert (change["topology"], change["arguments"]) == ("vllm", list(verdict.arguments))
        assert change["by"] == "keyboard"


@pytest.mark.usefixtures("own_machine")
async def test_vllm_with_a_small_kv_cache(tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    arguments = (*LITTLE, "--max-num-seqs", "32", "--engine-arg", "num_gpu_blocks_override=6")
    async with session(tmp_path, "vllm", arguments, phase("many", 16)) as watched:
        s = await named(watched, "KV cache")
        assert s.verdict is not None
        assert s.verdict.knob == "num_gpu_blocks_override 6→12"


@pytest.mark.usefixtures("own_machine")
async def test_ray_serve_llm_whose_replicas_are_given_two_requests(tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    pytest.importorskip("ray")
    arguments = (*LITTLE, "--max-ongoing", "2", "--engine-concurrency", "16", "--stream-batching-ms", "0")
    async with session(tmp_path, "rsv", arguments, phase("many", 12)) as watched:
        s = await named(watched, "replicas")
        assert s.verdict is not None
        assert s.verdict.knob == "max_ongoing_requests 2→16"
