"""Two load workers on a two-node Ray cluster against two processes: one plan, one mock server, in turn.

    python -m tests.bench.ray_workers [--seconds 10] [RATE …]

For each rate: what was delivered, TTFT and latency, and CPU-seconds of the workers and of what carries them
(bridge and actors). Then the rate is changed by hand every half a second: how many intended times are, to the
nanosecond, those that the command log means. A command that came late would have moved some.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import tempfile
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from rvtop.load.plan.schedule import PhasePlan, PlanEvent, Schedule
from rvtop.load.wire.endpoint import Address
from tests.backends.ray_load import LEAD_NS, Load, workers_in
from tests.backends.someones_cluster import SomeonesCluster
from tests.mock.fast import FastMock

RATES = (100, 400, 800)
CHANGES = 40
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def cpu_s(pids: set[int]) -> float:
    """CPU-seconds of processes so far."""
    total = 0.0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) * _TICK_S
    return total


async def once(url: str, prompts: Path, rate: float, seconds: float, theirs: SomeonesCluster | None) -> Load:
    """One run; prints its line."""
    phase = PhasePlan("p", rate, rate, seconds, arrivals="poisson")
    ray = theirs.address if theirs else None
    carriers: set[int] = set()
    async with Load(Address(url), prompts, phase, ray=ray, tokens=64) as load:
        if theirs is not None:
            carriers = {worker.parent for worker in workers_in(theirs.env["RAY_TMPDIR"])}
            carriers.add(load.pool._bridge.pid)
        before = cpu_s(carriers)
        await asyncio.sleep(seconds)
        carrying = cpu_s(carriers) - before
        clocks = load.pool.clocks if theirs else []
        await load.finish()
    figures = "  ".join(f"{name} {value:7.2f}" for name, value in load.percentiles().items())
    workers = sum(delta.cpu_s for delta in load.latest.values())
    ok = sum(not row["error"] for row in load.rows)
    what = "ray" if theirs else "processes"
    print(
        f"{rate:6g} rps {what:9}  ok {ok}/{len(load.rows)}  {figures}  cpu {workers:.2f} + {carrying:.2f} s"
    )
    for clock in clocks:
        print(f"           clock {clock.offset_ns / 1e6:+.3f} ms ± {clock.error_ns / 1e6:.3f} (truth: 0)")
    return load


async def changes(url: str, prompts: Path, ray: str) -> None:
    """Many changes of the rate: were they followed exactly?"""
    phase = PhasePlan("p", 200.0, 200.0, CHANGES * 0.5 + 1, arrivals="poisson")
    rng = random.Random(5)
    async with Load(Address(url), prompts, phase, ray=ray, tokens=4) as load:
        log = [PlanEvent(load.began_ns, "phase", 0)]
        for _ in range(CHANGES):
            await asyncio.sleep(0.5)
            log.append(PlanEvent(perf_counter_ns() + LEAD_NS, "rate", float(rng.randrange(50, 400))))
            load.pool.send(log[-1])
        await load.finish()
    schedule = Schedule((phase,), 3, 0, 1)
    meant: list[tuple[int, int]] = []
    for entry in log:
        meant += [(due.seq, due.intended_ns - load.began_ns) for due in schedule.due(entry.at_ns - 1)]
        schedule.apply(entry)
    meant += [(due.seq, due.intended_ns - load.began_ns) for due in schedule.due(1 << 61)]
    sent = [(number, at_ns) for number, at_ns, _ in load.plan]
    same = len(set(meant) & set(sent))
    print(f"{CHANGES} changes of the rate: {same} of {len(meant)} requests as meant, {len(sent)} sent")


async def run(rates: list[float], seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder, FastMock(ttft_ms=50, step_ms=10, tokens=64) as mock:
        prompts = Path(folder, "prompts.jsonl")
        prompts.write_text('{"messages":[{"role":"user","content":"hi"}]}\n')
        theirs = SomeonesCluster(Path(folder))
        os.environ.update(theirs.auth)
        try:
            for rate in rates:
                here = await once(mock.url, prompts, rate, seconds, None)
                there = await once(mock.url, prompts, rate, seconds, theirs)
                truth = here.percentiles()
                off = {name: value / truth[name] - 1 for name, value in there.percentiles().items()}
                same = "the same plan" if here.plan == there.plan else "ANOTHER PLAN"
                print(f"           {same}; off by", ", ".join(f"{n} {x:+.2%}" for n, x in off.items()))
            await changes(mock.url, prompts, theirs.address)
        finally:
            theirs.close()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rates", nargs="*", type=float, default=RATES)
    parser.add_argument("--seconds", type=float, default=10.0)
    args: Any = parser.parse_args(argv)
    asyncio.run(run(list(args.rates), args.seconds))


if __name__ == "__main__":
    main()
