"""What a split does beside what it is for: ``python -m tests.bench.canary [SECONDS]``.

Real router, real load client, two mock engines. First 20 changes of the share, by ``POST /rvtop/split`` as
``rvtop split`` does, under 50 requests a second: from the command to the first request that went by the new
share. Then 10 % to the new version and, in the middle of ``SECONDS`` (120), a kill -9 of its engine: what the
old version lost, and its TTFT p99 of each of ten equal parts before and after, whose mean has to stay within
what chance does between the parts before (A against A).
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from backends.settings.split import Arm, Split, SplitOptions
from rvtop.stats.intervals import student_t
from tests.backends.mock_member import routed
from tests.faults.sessions import Watched, request

_RATE = 50.0
_PARTS = 10
_CHANGES = 20
_TTFT_MS, _STEP_MS = 40.0, 5.0
#: What a change may take, seconds.
_LIMIT_S = 1.0
_BODY = {"model": "chat", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}


def split(share: float) -> SplitOptions:
    return SplitOptions((Split("chat", (Arm("v1", 100 - share), Arm("v2", share))),))


async def changes() -> tuple[list[float], int]:
    """Seconds from each change to the first answer by it, and how many requests failed meanwhile."""
    took, failed, stop = list[float](), 0, asyncio.Event()
    seen: list[tuple[float, str]] = []  # (sent at, arm)
    async with (
        routed(("v1", "v2"), split(0), ttft_ms=5, step_ms=1) as (url, _),
        httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client,
    ):

        async def one() -> None:
            nonlocal failed
            sent = time.perf_counter()
            answer = await client.post("/v1/chat/completions", json=_BODY)
            failed += answer.status_code != 200
            seen.append((sent, answer.headers.get("x-rvtop-arm", "")))

        async def load() -> None:
            running = set[asyncio.Task[None]]()
            while not stop.is_set():
                task = asyncio.create_task(one())
                running.add(task)
                task.add_done_callback(running.discard)
                await asyncio.sleep(1 / _RATE)
            await asyncio.gather(*running)

        loading = asyncio.create_task(load())
        for turn in range(_CHANGES):
            await asyncio.sleep(0.5)
            share, arm = ((100, "v2"), (0, "v1"))[turn % 2]
            asked = time.perf_counter()
            (await client.post("/rvtop/split", json={"shares": {"v2": share}})).raise_for_status()
            while not (first := [at for at, by in seen if at >= asked and by == arm]):
                await asyncio.sleep(0.005)
            took.append(first[0] - asked)
        stop.set()
        await loading
    return took, failed


async def kill(seconds: float) -> tuple[list[dict[str, Any]], float]:
    """The lines of a run in whose middle the engine of the new version is killed, and when (s from its
    start)."""
    with tempfile.TemporaryDirectory() as folder:
        async with routed(("v1", "v2"), split(10), ttft_ms=_TTFT_MS, step_ms=_STEP_MS) as (url, members):
            phase = {"name": "p", "rate": _RATE, "duration": f"{seconds:g}s", "arrivals": "poisson"}
            watched = Watched(request(url, Path(folder, "run"), phase, models=("chat",)))
            await watched.until(
                lambda s: s.phase is not None and s.phase.elapsed_s >= seconds / 2, "the middle"
            )
            events_before = len(watched.rows("events.jsonl"))
            os.kill(members["v2"].pid, signal.SIGKILL)
            at = time.time()
            await watched.end()
        began = json.loads(Path(folder, "run", "environment.json").read_text())["t0_unix_ns"] / 1e9
        assert len(watched.rows("events.jsonl")) > events_before, "nothing was said of it"
        return watched.rows(), at - began


def p99s(rows: list[dict[str, Any]], begin_s: float, end_s: float) -> list[float]:
    """TTFT p99 (ms) of equal parts of a time, of requests that were meant for then."""
    edges = np.linspace(begin_s, end_s, _PARTS + 1)
    at = np.array([row["intended_ns"] / 1e9 for row in rows])
    ttft = np.array([(row["first_token_ns"] - row["intended_ns"]) / 1e6 for row in rows])
    parts = [ttft[(at >= low) & (at < high)] for low, high in pairwise(edges)]
    return [float(np.percentile(part, 99)) for part in parts if part.size]


def main(arguments: Sequence[str]) -> int:
    seconds = float(arguments[0]) if arguments else 120.0
    took, failed = asyncio.run(changes())
    print(f"{_CHANGES} changes: median {1e3 * statistics.median(took):.1f} ms, most {1e3 * max(took):.1f} ms")
    print(f"requests that failed meanwhile: {failed}")
    rows, killed_s = asyncio.run(kill(seconds))
    old = [row for row in rows if row.get("arm") == "v1"]
    lost = [row for row in old if row["error"] is not None]
    good = [row for row in old if row["error"] is None]
    intended = [row["intended_ns"] / 1e9 for row in rows]
    before, after = p99s(good, min(intended), killed_s), p99s(good, killed_s, max(intended))
    mean, spread = statistics.fmean(before), statistics.stdev(before)
    half = student_t(95.0, len(before) - 1) * spread * math.sqrt(1 / len(before) + 1 / len(after))
    now = statistics.fmean(after)
    others = sum(row["error"] is not None for row in rows) - len(lost)
    print(f"v1: {len(old)} requests, {len(lost)} lost; of the others {others}")
    print(f"v1 TTFT p99: {mean:.2f} ± {half:.2f} ms before the kill, {now:.2f} ms after it")
    held = max(took) <= _LIMIT_S and not failed and not lost and abs(now - mean) <= half
    print("held" if held else "MISSED")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
