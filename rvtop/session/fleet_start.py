"""The start of a session's load workers, with its step on the screen where they are on a Ray cluster."""

from __future__ import annotations

from time import perf_counter_ns

from rvtop.contract.snapshot import StartStep
from rvtop.load.fleet.fleet import WorkerFleet
from rvtop.results.environment import write_clocks
from rvtop.session.load_parts import Parts


async def start_fleet(fleet: WorkerFleet, parts: Parts) -> None:
    """Returns once all workers of ``fleet`` are ready. Raises UserError where one can't be started."""
    workers, began = parts.request.workers, perf_counter_ns()
    if workers.ray:
        parts.feed.step(StartStep("load workers", "run", 0.0, f"{workers.count} on the Ray cluster"))
    await parts.ending.unless_stopped(fleet.start())
    if workers.ray:
        elapsed_s = (perf_counter_ns() - began) / 1e9
        parts.feed.step(StartStep("load workers", "done", elapsed_s))
        write_clocks(parts.request.out, fleet.clocks)  # known only now
