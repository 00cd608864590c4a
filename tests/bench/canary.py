"""What a split does beside what it is for: ``python -m tests.bench.canary [PAIRS]`` (24 pairs: 10 minutes).

Real router, real load client, two mock engines. First 20 changes of the share, by ``POST /rvtop/split`` as
``rvtop split`` does, under 50 requests a second: from the command to the first request that went by the new
share. Then 10 % to the new version, and pairs of windows of 10 s, one right after the other. In half of the
pairs, by lot, the second window begins with a kill -9 of the new version's engine, which stays down to its
end; in the others nothing happens. The old version may lose nothing, and the change of its TTFT p99 from the
first window to the second has to stay, in the mean of the pairs with a kill, within what chance does in the
mean of as many pairs without one (A against A). The machine's slow drift meets both kinds of pairs alike.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from backends.process import restart
from backends.settings.split import Arm, Split, SplitOptions
from rvtop.contract.command import NextPhase
from rvtop.stats.intervals import student_t
from tests.backends.mock_member import MockMember, routed
from tests.faults.sessions import Watched, request

_RATE = 50.0
_PAIRS = 24
_CHANGES = 20
_TTFT_MS, _STEP_MS = 40.0, 5.0
#: A window, and the time from when all are up to the next pair, seconds.
_WINDOW_S, _SETTLE_S = 10.0, 3.0
_SEED = 0
#: What a change may take, seconds.
_LIMIT_S = 1.0
_BODY = {"model": "chat", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}


@dataclass(frozen=True)
class Pair:
    """Two windows side by side: when the first began and when the second did (s, Unix time), and whether the
    second began with a kill."""

    first_s: float
    second_s: float
    killed: bool


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


async def pairs(kills: Sequence[bool]) -> tuple[list[dict[str, Any]], list[Pair], float]:
    """The lines of a run of that many pairs, the pairs, and when the run began (s, Unix time)."""
    restart.MAX_DELAY_S = _SETTLE_S  # it dies more often here than engines do
    done = list[Pair]()
    with tempfile.TemporaryDirectory() as folder:
        async with routed(("v1", "v2"), split(10), ttft_ms=_TTFT_MS, step_ms=_STEP_MS) as (url, members):
            phase = {"name": "p", "rate": _RATE, "duration": "24h", "arrivals": "poisson", "drain": "10s"}
            watched = Watched(request(url, Path(folder, "run"), phase, models=("chat",)))
            await watched.until(
                lambda s: s.phase is not None and s.phase.elapsed_s >= _SETTLE_S, "the load to run"
            )
            for killed in kills:
                done.append(await _pair(members["v2"], killed))
            watched.send(NextPhase())  # what is in flight is waited for
            await watched.end()
        began = json.loads(Path(folder, "run", "environment.json").read_text())["t0_unix_ns"] / 1e9
        return watched.rows(), done, began


async def _pair(new: MockMember, killed: bool) -> Pair:
    first = time.time()
    await asyncio.sleep(_WINDOW_S)
    second = time.time()
    if killed:
        new.may_start.clear()
        os.kill(new.pid, signal.SIGKILL)
    await asyncio.sleep(_WINDOW_S)
    new.may_start.set()
    while new.status != "ready":
        await asyncio.sleep(0.1)
    await asyncio.sleep(_SETTLE_S)
    return Pair(first, second, killed)


def change_ms(rows: list[dict[str, Any]], pair: Pair, began_s: float) -> float:
    """TTFT p99 of the second window of a pair less that of its first, ms, of requests meant for then."""
    at = np.array([row["intended_ns"] / 1e9 for row in rows]) + began_s
    ttft = np.array([(row["first_token_ns"] - row["intended_ns"]) / 1e6 for row in rows])
    first, second = (
        float(np.percentile(ttft[(at >= begin) & (at < begin + _WINDOW_S)], 99))
        for begin in (pair.first_s, pair.second_s)
    )
    return second - first


def main(arguments: Sequence[str]) -> int:
    half_of_pairs = (int(arguments[0]) if arguments else _PAIRS) // 2
    took, failed = asyncio.run(changes())
    print(f"{_CHANGES} changes: median {1e3 * statistics.median(took):.1f} ms, most {1e3 * max(took):.1f} ms")
    print(f"requests that failed meanwhile: {failed}", flush=True)
    kills = [True, False] * half_of_pairs
    random.Random(_SEED).shuffle(kills)
    rows, done, began_s = asyncio.run(pairs(kills))
    old = [row for row in rows if row.get("arm") == "v1"]
    good = [row for row in old if row["error"] is None]
    lost = [row["error"] for row in old if row["error"] is not None]
    others = sum(row["error"] is not None for row in rows) - len(lost)
    print(f"in {half_of_pairs} kills of v2, of all but v1 {others} lost")
    print(f"v1: {len(old)} requests, lost: {', '.join(lost) or 'none'}")
    level = float(np.percentile([(row["first_token_ns"] - row["intended_ns"]) / 1e6 for row in good], 99))
    quiet, after_kill = (
        [change_ms(good, pair, began_s) for pair in done if pair.killed is killed] for killed in (False, True)
    )
    mean, spread = statistics.fmean(quiet), statistics.stdev(quiet)
    half = student_t(95.0, len(quiet) - 1) * spread * math.sqrt(2 / len(quiet))
    now = statistics.fmean(after_kill)
    print(f"v1 TTFT p99: {level:.2f} ms; its change from a window of {_WINDOW_S:g} s to the next:")
    print(f"  {mean:+.2f} ± {half:.2f} ms where nothing happened, {now:+.2f} ms where v2 was killed")
    held = max(took) <= _LIMIT_S and not failed and not lost and abs(now - mean) <= half
    print("held" if held else "MISSED")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
