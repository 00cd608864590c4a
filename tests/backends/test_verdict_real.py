"""Bottlenecks planted in real servers on the CPU are named, and Enter's try takes one away: vLLM's own server
with a batch of four, with one place, with a KV cache of a few blocks, with a starved front end; a starved
load client; Ray Serve LLM whose replicas are given two requests at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from rvtop.contract.command import NextPhase, Retarget, Stop
from rvtop.contract.snapshot import Snapshot
from rvtop.target.backend import BackendOptions
from tests.faults.sessions import Watched, request

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]

WORKLOAD = {"kind": "synthetic", "prompt_tokens": 60, "output_tokens": 48, "ignore_eos": True}
SMALL = ("--threads", "1", "--dtype", "float32", "--max-model-len", "512")
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


async def test_vllm_with_a_batch_of_four(tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    phases = (phase("calm", 1), phase("many", 16))
    async with session(tmp_path, "vllm", ("--max-num-seqs", "4"), *phases) as watched:
        calm = watched.now
        await watched.until(lambda s: s.t_s > calm.t_s + 40, "forty seconds of calm")
        print("\ncalm:", watched.now.verdict)
        assert [e.text for e in watched.now.events if e.kind == "verdict"] == []
        topology = json.loads((tmp_path / "run" / "environment.json").read_text())["target_engines"]
        server = next(
            one.pid
            for one in psutil.Process().children(recursive=True)
            if "vllm" in " ".join(one.cmdline()) and "serve" in one.cmdline()
        )
        print(topology, server)
        with starved([server], 0.03, 0.25):
            await named(watched, "router")
        with starved(workers(), 0.05, 0.15):
            await named(watched, "client")
        next_phase(watched)
        s = await named(watched, "batch")
        assert s.verdict is not None
        assert s.verdict.arguments is not None
        assert s.verdict.arguments[-2:] == ("--max-num-seqs", "8")


async def test_vllm_with_one_place_and_the_try_that_enter_makes(tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    async with session(tmp_path, "vllm", ("--max-num-seqs", "1"), phase("many", 6)) as watched:
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


async def test_vllm_with_a_small_kv_cache(tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    arguments = ("--max-num-seqs", "32", "--engine-arg", "num_gpu_blocks_override=6")
    async with session(tmp_path, "vllm", arguments, phase("many", 16)) as watched:
        s = await named(watched, "KV cache")
        assert s.verdict is not None
        assert s.verdict.knob == "num_gpu_blocks_override 6→12"


async def test_ray_serve_llm_whose_replicas_are_given_two_requests(tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    pytest.importorskip("ray")
    arguments = ("--max-ongoing", "2", "--engine-concurrency", "16", "--stream-batching-ms", "0")
    async with session(tmp_path, "rsv", arguments, phase("many", 12)) as watched:
        s = await named(watched, "replicas")
        assert s.verdict is not None
        assert s.verdict.knob == "max_ongoing_requests 2→16"
