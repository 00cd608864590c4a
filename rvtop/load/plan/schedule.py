"""Which requests a worker sends, and when: the whole plan derived from (phases, seed, command log).

Every worker derives the same global plan and takes the requests whose number is its own modulo the
number of workers; so any number of workers sends exactly the same union (DESIGN §5.9). Pure: it is
told what was commanded and asked what is due; it never looks at a clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from rvtop.load.plan.arrivals import Floats, Kind, RateLine, Shape, UnitArrivals

_BATCH = 512
#: Arrivals that can be taken back (see ``rewind``).
_KEPT = 4096
#: Requests of a closed loop are numbered by each worker for itself, this far apart …
MAX_WORKERS = 4096
#: … so the numbers of what follows begin at the next multiple of this.
_CLOSED_SPAN = 10**10
NEVER = 1 << 62
_FAR_S = 1e9  # an arrival decades ahead comes never; beyond this, nanoseconds would overflow


@dataclass(frozen=True, slots=True)
class PhasePlan:
    """One phase as the workers need it: arrivals at a rate; ``burst`` requests at once; or a closed loop of
    ``concurrency`` requests, each followed by the next one as it ends.

    ``trace``: arrivals are those of the workload's trace, whose mean rate (times its speed) is the rate.
    ``limit`` ends a closed loop after so many requests.
    """

    name: str
    rate_from: float = 0.0
    rate_to: float = 0.0
    duration_s: float | None = None  # None: until told otherwise
    arrivals: Kind = "constant"
    burstiness: float = 1.0
    burst: int = 0
    max_in_flight: int | None = None
    drain_s: float | None = 30.0  # None: wait for every request
    warmup: bool = False
    shape: Shape = "linear"
    steps: int = 1
    peak_at_s: float = 0.0
    peak_for_s: float = 0.0
    concurrency: int = 0
    limit: int | None = None
    trace: bool = False
    cancel_share: float = 0.0  # of the requests, given up by the client …
    cancel_after_s: float = 0.0  # … so long after they were sent

    def line(self) -> RateLine:
        """The planned rate over the phase's time."""
        if self.duration_s is None or self.rate_from == self.rate_to:
            return RateLine.constant(self.rate_from)
        return RateLine.shaped(
            self.shape,
            self.rate_from,
            self.rate_to,
            self.duration_s,
            steps=self.steps,
            peak_at=self.peak_at_s,
            peak_for=self.peak_for_s,
        )


@dataclass(frozen=True, slots=True)
class PlanEvent:
    """One line of the command log. ``at_ns`` is when it takes effect, on ``perf_counter_ns``.

    ``phase`` begins phase ``value``; ``rate`` sets the rate to ``value``; ``end`` stops the phase's
    arrivals; ``cut`` cancels what is in flight; ``workers`` shares what follows out to ``value`` workers;
    ``stop`` ends the worker.
    """

    at_ns: int
    kind: Literal["phase", "rate", "pause", "resume", "end", "cut", "workers", "stop"]
    value: float = 0.0


@dataclass(frozen=True, slots=True)
class Due:
    """A request whose time has come."""

    seq: int  # number in the run, over all workers
    phase: int
    intended_ns: int
    arrival: int = 0  # number in the phase


class Course:
    """The phase and the rate in force, by the log: what a Schedule follows, without its requests."""

    def __init__(self, phases: tuple[PhasePlan, ...]) -> None:
        self._phases = list(phases)
        self.phase = -1
        self.end_ns = 0  # arrivals of the phase end here
        self._start_ns = 0
        self._line = RateLine()
        self._planned = RateLine()
        self._rate: float | None = None  # set by hand: stands until the phase ends
        self.paused = False

    def add_phase(self, phase: PhasePlan) -> None:
        """One phase more, behind those that are known."""
        self._phases.append(phase)

    @property
    def plan(self) -> PhasePlan:
        """The phase in force. Raises IndexError before the first."""
        if self.phase < 0:
            raise IndexError("no phase has begun")
        return self._phases[self.phase]

    def apply(self, entry: PlanEvent) -> None:
        """Follows one entry of the log. Raises ValueError for a rate that is negative or not finite."""
        t = (entry.at_ns - self._start_ns) / 1e9
        if entry.kind == "phase":
            self._begin(int(entry.value), entry.at_ns)
        elif entry.kind == "end":
            self.end_ns = min(self.end_ns, entry.at_ns)
        elif self.phase < 0:
            return
        elif entry.kind == "rate":
            if not self.paused:
                self._line.change(t, entry.value)
            self._rate = entry.value
        elif entry.kind == "pause":
            self.paused = True
            self._line.change(t, 0.0)
        elif entry.kind == "resume":
            self.paused = False
            if self._rate is None:
                self._line.splice(t, self._planned)
            else:
                self._line.change(t, self._rate)

    def _begin(self, index: int, at_ns: int) -> None:
        plan = self._phases[index]
        self.phase = index
        self._start_ns = at_ns
        self.end_ns = end_ns(plan, at_ns)
        self._planned = plan.line()
        self._line = plan.line()
        self._rate = None
        self.paused = False

    def rate(self, now_ns: int) -> float:
        """The rate in force, requests per second over all workers; 0 outside a phase."""
        if self.phase < 0 or now_ns >= self.end_ns:
            return 0.0
        return self._line.rate((now_ns - self._start_ns) / 1e9)


class Schedule(Course):
    """The requests of worker ``index`` of ``count``.

    ``trace``: the times of the workload's trace, seconds from its start, ascending; shape (n,). A worker that
    joins a run is given its number and the workers there were at the start, and then the whole log: it takes
    its share from the ``workers`` entry on.
    """

    def __init__(
        self,
        phases: tuple[PhasePlan, ...],
        seed: int,
        index: int,
        count: int,
        trace: Floats | None = None,
    ) -> None:
        super().__init__(phases)
        self._seed = seed
        self._index = index
        self.count = count
        self._trace = trace
        self._base = 0  # number of the phase's first request
        self._next = 0  # first arrival of the phase that has not been handed out
        self._units: UnitArrivals | None = None
        self._queue: list[tuple[int, int]] = []  # (arrival, intended_ns), soonest last
        self._more = False  # the queue was cut at _BATCH: arrivals after its end are still unknown

    def apply(self, entry: PlanEvent) -> None:
        """Follows one entry of the log, once what was due before it has been handed out."""
        if entry.kind == "workers":
            if self.phase >= 0:
                # What was due before belonged to the old shares, the rest belongs to the new ones.
                self._next = self._arrivals_until(entry.at_ns)
            self.count = int(entry.value)
        super().apply(entry)
        if self.phase >= 0:
            self._refill()

    def share(self, amount: int, most: int = MAX_WORKERS) -> int:
        """This worker's part of ``amount`` over all workers, or over the first ``most`` of them; the parts
        add up to it."""
        count = min(self.count, most)
        if self._index >= count:
            return 0
        return amount // count + (1 if self._index < amount % count else 0)

    def closed(self, number: int, now_ns: int) -> Due:
        """This worker's request ``number`` (0, 1, …) of a closed loop, intended now."""
        arrival = number * MAX_WORKERS + self._index
        return Due(self._base + arrival, self.phase, now_ns, number * self.count + self._index)

    def exhausted(self, now_ns: int) -> bool:
        """Whether no arrival of the phase is left for this worker."""
        if self.next_ns != NEVER:
            return False
        if self.phase >= 0 and self.plan.trace and self._trace is not None:
            mine = self._next + (self._index - self._base - self._next) % self.count
            return mine >= self._trace.size or now_ns >= self.end_ns
        return now_ns >= self.end_ns

    def _begin(self, index: int, at_ns: int) -> None:
        if self.phase >= 0 and self.plan.concurrency:
            self._base = (self._base // _CLOSED_SPAN + 1) * _CLOSED_SPAN
        else:
            self._base += self._arrivals_until(min(self.end_ns, at_ns))
        super()._begin(index, at_ns)
        plan = self._phases[index]
        self._next = 0
        recorded = self._trace * mean_rate(self._trace) if plan.trace and self._trace is not None else None
        self._units = UnitArrivals(plan.arrivals, (self._seed, index), plan.burstiness, recorded)

    # -- what is due -------------------------------------------------------------------------

    @property
    def next_ns(self) -> int:
        """When the next request of this worker is due; NEVER if none is."""
        return self._queue[-1][1] if self._queue else NEVER

    def due(self, now_ns: int, most: int | None = None) -> list[Due]:
        """Hands out the requests intended at or before ``now_ns``, the first ``most`` of them, in order."""
        out: list[Due] = []
        while self._queue and self._queue[-1][1] <= now_ns and len(out) != most:
            arrival, intended = self._queue.pop()
            self._next = arrival + 1
            out.append(Due(self._base + arrival, self.phase, intended, arrival))
            if not self._queue and self._more:
                self._refill()
        return out

    @property
    def most_ahead(self) -> int:
        """How many requests may be handed out ahead of their time, so that they can be taken back."""
        return _KEPT // 2 // self.count

    def rewind(self, to_ns: int) -> None:
        """Takes back what was handed out of this phase for ``to_ns`` or later, the last few thousand arrivals
        at most: it will be handed out again, or not, as the log has it by then. ``to_ns`` is the time of an
        entry that comes, not that of this worker's own first request behind it: all workers count alike."""
        start = max(0, self._next - _KEPT)
        self._next = start + int(np.searchsorted(self._times(start, self._next), to_ns))
        self._refill()

    def _times(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Intended times of the phase's arrivals ``start`` … ``stop - 1``; NEVER where none comes."""
        plan = self._phases[self.phase]
        if plan.burst or plan.concurrency:
            numbers = np.arange(start, stop)
            return np.where(numbers < plan.burst, self._start_ns, NEVER).astype(np.int64)
        assert self._units is not None
        seconds: Floats = self._line.when(self._units.span(start, stop))
        known = seconds < _FAR_S
        offset = np.rint(np.where(known, seconds, 0.0) * 1e9).astype(np.int64)
        return np.where(known, self._start_ns + offset, NEVER)

    def _refill(self) -> None:
        self._queue = []
        start = self._next
        self._more = False
        if self._index >= self.count:  # not one of them yet: nothing is ours, however far we look
            return
        if self._units is not None:
            self._units.forget(start - _KEPT)
        while not self._queue:
            times = self._times(start, start + _BATCH)
            within = int(np.searchsorted(times, self.end_ns))
            numbers = np.arange(start, start + within)
            mine = (self._base + numbers) % self.count == self._index
            self._queue = list(zip(numbers[mine].tolist(), times[:within][mine].tolist(), strict=True))[::-1]
            self._more = within == _BATCH
            if not self._more:
                return
            start += _BATCH

    def _arrivals_until(self, until_ns: int) -> int:
        """How many arrivals the phase has before ``until_ns``, over all workers."""
        if self.phase < 0:
            return 0
        start = self._next
        while True:
            within = int(np.searchsorted(self._times(start, start + _BATCH), min(until_ns, self.end_ns)))
            start += within
            if within < _BATCH:
                return start


def end_ns(phase: PhasePlan, start_ns: int) -> int:
    """When the arrivals of ``phase``, begun at ``start_ns``, end by themselves; NEVER if they don't."""
    if phase.burst:
        return start_ns + 1
    return NEVER if phase.duration_s is None else start_ns + round(phase.duration_s * 1e9)


def mean_rate(trace: Floats) -> float:
    """Arrivals a second of a trace; 1 where all come at once."""
    span = float(trace[-1] - trace[0]) if trace.size > 1 else 0.0
    return (trace.size - 1) / span if span > 0 else 1.0
