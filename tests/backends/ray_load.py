"""Load workers, run as a session would: on this machine or on a Ray cluster, and what they measured."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np

from rvtop.load.fleet.local import WorkerPool
from rvtop.load.fleet.ray.pool import RayPool
from rvtop.load.plan.schedule import PhasePlan, PlanEvent
from rvtop.load.wire.endpoint import Address
from rvtop.load.worker.messages import Delta, WorkerSpec
from tests.backends.processes import Process, family

LEAD_NS = 50_000_000
WORKER = b"rvtop.load.worker"


class Load:
    """One phase of load by ``count`` workers; on Ray with ``ray`` (its address), else on this machine."""

    def __init__(
        self,
        address: Address,
        prompts: Path,
        phase: PhasePlan,
        *,
        ray: str | None,
        count: int = 2,
        tokens: int = 16,
    ) -> None:
        self.phase = phase
        self.latest: dict[int, Delta] = {}
        self.lost: list[int] = []
        self.lost_why: dict[int, str] = {}
        self._lines: list[bytes] = []
        self._t0_ns = perf_counter_ns()
        body = {"max_tokens": tokens}
        spec = WorkerSpec(0, count, self._t0_ns, 3, address, str(prompts), ("mock",), body, (phase,))
        self.pool: Any = (
            WorkerPool(spec, self._take, self._lose)
            if ray is None
            else RayPool(spec, self._take, self._lose, ray)
        )
        self.began_ns = 0

    def _lose(self, index: int, why: str) -> None:
        self.lost.append(index)
        self.lost_why[index] = why

    async def __aenter__(self) -> Load:
        await self.pool.start()
        self.began_ns = perf_counter_ns() + LEAD_NS
        self.pool.send(PlanEvent(self.began_ns, "phase", 0))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.pool.stop()

    def _take(self, delta: Delta) -> None:
        self.latest[delta.worker] = delta
        self._lines.append(delta.lines)

    async def until(self, true: Callable[[], object], why: str, limit_s: float = 60.0) -> None:
        """Waits until ``true()``; the limit is far beyond what it can take."""
        try:
            async with asyncio.timeout(limit_s):
                while not true():
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"waited {limit_s:g} s for {why}; the latest: {self.latest}") from None

    async def finish(self) -> None:
        """Lets the phase run out and drain, and the workers end by themselves."""
        assert self.phase.duration_s is not None
        end_ns = self.began_ns + round(self.phase.duration_s * 1e9)

        def drained() -> bool:
            told = [d for i, d in self.latest.items() if i not in self.lost]
            return len(told) == self.pool.count - len(self.lost) and all(
                d.phase == 0 and d.t_ns >= end_ns and not d.in_flight for d in told
            )

        await self.until(drained, "the phase to drain", 120.0)
        self.pool.send(PlanEvent(perf_counter_ns(), "stop"))
        await self.pool.drain()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The requests, by their number."""
        rows = [json.loads(line) for line in b"".join(self._lines).splitlines()]
        return sorted(rows, key=lambda row: row["id"])

    @property
    def plan(self) -> list[tuple[int, int, int]]:
        """(number, intended time in ns from the phase's start, worker) of every request."""
        start = self.began_ns - self._t0_ns
        return [(row["id"], row["intended_ns"] - start, row["worker"]) for row in self.rows]

    def percentiles(self) -> dict[str, float]:
        """p50, p90, p99 and mean of TTFT and of the whole latency, ms from the intended time."""
        out = {}
        for name, field in (("ttft", "first_token_ns"), ("e2e", "last_token_ns")):
            ms = np.array([row[field] - row["intended_ns"] for row in self.rows if not row["error"]]) / 1e6
            out |= {f"{name}_p{q}": float(np.percentile(ms, q)) for q in (50, 90, 99)}
            out[f"{name}_mean"] = float(ms.mean())
        return out


def workers_in(folder: str) -> list[Process]:
    """The workers on nodes of the cluster whose folder this is."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            ours = WORKER in (entry / "cmdline").read_bytes()
            if ours and os.fsencode(folder) in (entry / "environ").read_bytes():
                found += [process for process in family(int(entry.name)) if process.pid == int(entry.name)]
        except OSError:
            continue  # it ended meanwhile
    return found
