"""The comb on real servers: Ray Serve LLM's batcher is named with its period, an HAProxy that lets Nagle's
algorithm wait is named, and where nothing gathers tokens all is silent: twenty runs, no alarm."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rvtop.contract.command import Stop
from rvtop.contract.snapshot import Snapshot
from tests.backends.backend_process import BackendProcess
from tests.faults.sessions import Watched, request
from tests.mock.fast import any_mock
from tests.mock.haproxy import proxied

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]

#: Two cores for engine, client and test.
LITTLE = ("--threads", "1", "--dtype", "float32", "--max-model-len", "512", "--gpu-memory-utilization", "0.2")
#: Answers that say the same again and again, so that n-grams are found in them.
NGRAM = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 3, "prompt_lookup_min": 1}
RUN_S = 10.0
NAMED_S = 10.0


@dataclass(frozen=True)
class Load:
    """One of the five loads of each server."""

    phase: dict[str, Any]
    prompt_tokens: int = 30
    output_tokens: int = 64


LOADS = (
    Load({"rate": 1}),
    Load({"rate": 3, "arrivals": "poisson"}),
    Load({"concurrency": 1}, prompt_tokens=100),
    Load({"concurrency": 4}, output_tokens=128),
    Load({"concurrency": 8}, prompt_tokens=10, output_tokens=32),
)
#: Servers behind which nothing gathers tokens.
SILENT = {
    "rsv without its batcher": ("rsv", ("--stream-batching-ms", "0")),
    "vllm": ("vllm", ()),
    "rvc": ("rvc", ()),
    "vllm with n-grams": ("vllm", ("--engine-arg", f"speculative_config={json.dumps(NGRAM)}")),
}


@contextlib.contextmanager
def server(topology: str, arguments: tuple[str, ...], model: Path, log: Path) -> Iterator[str]:
    """The URL of a topology of ours, which ends with the block."""
    process = BackendProcess(topology, "--lease", "--model", f"tiny={model}", *LITTLE, *arguments, log=log)
    try:
        yield process.url
        process.end_lease()
        process.wait()
    finally:
        process.kill()


@contextlib.asynccontextmanager
async def session(url: str, out: Path, load: Load) -> AsyncIterator[Watched]:
    workload = {
        "kind": "synthetic",
        "prompt_tokens": load.prompt_tokens,
        "output_tokens": load.output_tokens,
        "ignore_eos": True,
    }
    phase = {"name": "hold", "duration": "60m", "drain": "30s"} | load.phase
    watched = Watched(request(url, out, phase, workload=workload))
    try:
        await watched.until(lambda s: s.load.ok > 0, "the first answer")
        yield watched
    finally:
        watched.send(Stop())
        await watched.end()


def alarms(watched: Watched) -> list[str]:
    """What was said of a comb."""
    return [row["text"] for row in watched.rows("events.jsonl") if row["kind"] == "comb"]


async def named(watched: Watched) -> tuple[Snapshot, float]:
    """The picture in which a comb is first shown, and how long after the load's first answer."""
    began = watched.now.t_s
    s = await watched.until(lambda s: s.comb is not None, "a comb", 60.0)
    return s, s.t_s - began


async def test_serve_llm_as_it_ships_is_named(tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    pytest.importorskip("vllm")
    with server("rsv", (), tiny_model, tmp_path / "log") as url:
        async with session(url, tmp_path / "run", LOADS[3]) as watched:
            began = watched.now.t_s
            s, after_s = await named(watched)
            assert s.comb is not None
            print(f"\n{s.comb.period_ms:.1f} ms, {s.comb.lump:.2g} tokens, after {after_s:.1f} s")
            while s.comb is None or abs(s.comb.period_ms - 50.0) > 3.0:  # of few lumps it is a little off
                seq = s.seq
                s = await watched.until(lambda s, seq=seq: s.seq > seq, "the next picture")
                assert s.t_s <= began + NAMED_S, f"not 50 ms in {NAMED_S:g} s: {s.comb}"
        assert "--stream-batching-ms 0" in alarms(watched)[0]


@pytest.mark.parametrize("name", SILENT)
async def test_where_nothing_gathers_tokens_it_is_silent(name: str, tiny_model: Path, tmp_path: Path) -> None:
    topology, arguments = SILENT[name]
    pytest.importorskip("vllm")
    if topology != "vllm":
        pytest.importorskip("ray")
    said: dict[int, list[str]] = {}
    with server(topology, arguments, tiny_model, tmp_path / "log") as url:
        for number, load in enumerate(LOADS):
            async with session(url, tmp_path / f"run-{number}", load) as watched:
                began, gaps = watched.now.t_s, 0
                while watched.now.t_s < began + RUN_S:
                    s = await watched.until(lambda s, at=watched.now.seq: s.seq > at, "the next picture")
                    gaps = max(gaps, s.latency.itl.count)
            said[number] = alarms(watched)
            assert gaps > 50, f"load {number} had too few gaps to tell"
            if "n-grams" in name:
                row = watched.rows("timeline.jsonl")[-1]
                print(number, gaps, {k: v for k, v in row["totals"].items() if k in ("drafted", "accepted")})
    assert said == {number: [] for number in range(len(LOADS))}


@pytest.mark.parametrize("delay", [True, False])
async def test_an_haproxy_that_waits_for_acknowledgements_is_named(tmp_path: Path, *, delay: bool) -> None:
    """Before a server that sends a token each 10 ms; with ``option http-no-delay`` nothing is said."""
    with any_mock(ttft_ms=50, step_ms=10, tokens=64) as mock:
        options = () if delay else ("option http-no-delay",)
        with proxied(mock.url, tmp_path, *options) as proxy:
            async with session(proxy.url, tmp_path / "run", LOADS[3]) as watched:
                if delay:
                    s, after_s = await named(watched)
                    assert s.comb is not None
                    print(f"\n{s.comb.period_ms:.1f} ms, {s.comb.lump:.2g} tokens, after {after_s:.1f} s")
                    assert s.comb.period_ms > 120.0
                else:
                    began = watched.now.t_s
                    await watched.until(lambda s: s.t_s > began + RUN_S, "ten seconds")
            assert ["http-no-delay" in text for text in alarms(watched)] == [True] * delay
