"""A node is announced to go, as spot machines are, and goes: nothing is lost, and the successor of each
engine on it is up before that one stops."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from tests.backends.backend_process import BackendProcess
from tests.backends.someones_cluster import SomeonesCluster
from tests.backends.under_load import facts, loaded

#: Less than what is left to a node: Serve ends a replica at once where it is more.
GRACE = ("--serve-grace", "10")
VLLM = ("--dtype", "float32", "--engine-arg", "max-num-seqs=8", "--engine-arg", "max-model-len=256")


@pytest.mark.parametrize(
    ("topology", "rate", "deadline_s", "words"),
    [("rsc", 4, 60, GRACE), ("rvc", 4, 60, VLLM), ("rsv", 2, 120, (*VLLM, *GRACE))],
)
async def test_nothing_is_lost(
    topology: str, rate: float, deadline_s: int, words: tuple[str, ...], tiny_model: Path, tmp_path: Path
) -> None:
    theirs = SomeonesCluster(tmp_path, head_cpus=0, apart=True)
    await asyncio.to_thread(theirs.ask, "add")
    placed = ("--placement", "spread") if topology == "rvc" else ()
    backend = BackendProcess(
        *(topology, "--lease", "--model", f"tiny={tiny_model}", "--threads", "1", *placed, *words),
        *("--ray-address", theirs.address),
        log=tmp_path / "backend.log",
        env=theirs.env,
    )
    try:
        url = await asyncio.to_thread(lambda: backend.url)
        await asyncio.to_thread(theirs.ask, "add")  # where its engine moves to
        node = (await facts(url))["engines"][0]["node_id"]
        seconds = deadline_s + 30
        async with loaded(url, tmp_path / "run", rate=rate, seconds=seconds, tokens=32) as load:
            answer = await asyncio.to_thread(theirs.ask, f"drain {deadline_s} {node}")
            assert answer["code"] == 0, answer
            await load.said("(drain announced)")
            began = time.monotonic()
            least, before = await watch_the_move(url, node, deadline_s)
            moved_s = time.monotonic() - began
            shown = load.session.snapshot().cluster
            await asyncio.sleep(2)
            await asyncio.to_thread(theirs.ask, f"kill {node}")
            await load.said("is gone as announced", 30)
            assert not [text for text in load.events if "lost with it" in text]
            load.end()
        print(f"{topology}: {before} of 2 engines on the node, off it after {moved_s:.0f} s, ready at least")
        print(f"  {least} all the time, {load.summary['requests']}")
        assert shown is not None
        assert any(one.state == "draining" for one in shown.nodes)
        assert load.errors.total() == 0
        assert least >= 2  # the successor was up before the one before it stopped
    finally:
        backend.kill()
        theirs.close()


async def watch_the_move(url: str, node: str, limit_s: float) -> tuple[int, int]:
    """Waits until no engine is on the node any more. The fewest engines that were ready at one time, and how
    many were on the node at first."""
    until, least = time.monotonic() + limit_s, 99
    at_first: int | None = None
    while True:
        rows: list[dict[str, Any]] = (await facts(url))["engines"]
        ready = [row for row in rows if row["state"] == "ready"]
        there = [row for row in ready if row["node_id"] == node]
        at_first = len(there) if at_first is None else at_first
        least = min(least, len(ready))
        if not there:
            return least, at_first
        assert time.monotonic() < until, rows
        await asyncio.sleep(0.1)
