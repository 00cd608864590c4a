"""Which requests a worker sends, and when: the whole plan derived from (phases, seed, command log).

Every worker derives the same global plan and takes the requests whose number is its own modulo the
number of workers; so any number of workers sends exactly the same union. Pure: the times come with the
commands and the questions; it never looks at a clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from rvtop.load.plan.arrivals import Floats, Ramp, RateLine, UnitArrivals
from rvtop.load.plan.limits import MAX_WORKERS
from rvtop.load.plan.phase_plan import NEVER as NEVER
from rvtop.load.plan.phase_plan import PhasePlan as PhasePlan
from rvtop.load.plan.phase_plan import end_ns as end_ns

_BATCH = 512
#: Arrivals that can be taken back (see ``rewind``).
_KEPT = 4096
#: Each worker numbers the requests of a closed loop for itself; the numbers of what follows begin at the next
#: multiple of this.
_CLOSED_SPAN = 10**10
_FAR_S = 1e9  # an arrival decades ahead comes never; beyond this, nanoseconds would overflow


PlanKind = Literal["phase", "rate", "plan", "pause", "resume", "end", "cut", "workers", "stop"]
SendKind = Literal["cancel", "target", "workload", "slo"]


@dataclass(frozen=True, slots=True)
class Lengths:
    """What requests are made of: set ``prompts`` of the prompts (the first is 0), and answers of at most
    ``max_tokens``; None: each prompt's own."""

    prompts: int = 0
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class PlanEvent:
    """One line of the command log. ``at_ns`` is when it takes effect, on ``perf_counter_ns``.

    ``phase`` begins phase ``value``; ``rate`` sets the rate to ``value``, which ``ramp`` leads to (None: at
    once); ``plan`` goes back to the rate that the phase has by itself; ``end`` stops the phase's
    arrivals; ``cut`` cancels what is in flight; ``workers`` shares what follows out to ``value`` workers;
    ``stop`` ends the worker; ``cancel`` cancels what is in flight, and the load goes on.

    These hold for the requests intended at their time or later: ``target`` sends to target ``value`` (the
    first is 0); a ``phase`` entry of the same time follows it, so that no phase has two targets. ``workload``
    sends by ``lengths``. ``slo`` judges by ``slo_ns`` (ttft, tpot, e2e).
    """

    at_ns: int
    kind: PlanKind | SendKind
    value: float = 0.0
    lengths: Lengths | None = None
    slo_ns: Mapping[str, int] | None = None
    ramp: Ramp | None = None

    def again(self, at_ns: int) -> PlanEvent:
        """The entry that goes on with this one, a ``rate``, from ``at_ns`` on."""
        left = None if self.ramp is None else self.ramp.left(self.value, (at_ns - self.at_ns) / 1e9)
        return PlanEvent(at_ns, "rate", self.value, ramp=left)


@dataclass(frozen=True, slots=True)
class Due:
    """A request whose time has come."""

    seq: int  # number in the run, over all workers
    phase: int
    intended_ns: int
    arrival: int = 0  # number in the phase


class Course:
    """The phase and the rate in force, by the command log."""

    def __init__(self, phases: tuple[PhasePlan, ...]) -> None:
        self._phases = list(phases)
        self.phase = -1
        self.end_ns = 0  # arrivals of the phase end here
        self.start_ns = 0  # of the phase's clock
        self.line = RateLine()  # the rate over the phase's time, as it was changed
        self._planned = RateLine()
        self._asked = RateLine()  # the same without pauses: what hands asked for stands until the phase ends
        self.paused = False

    def add_phase(self, phase: PhasePlan) -> None:
        """Appends a phase."""
        self._phases.append(phase)

    @property
    def plan(self) -> PhasePlan:
        """The phase in force. Raises IndexError before the first."""
        if self.phase < 0:
            raise IndexError("no phase has begun")
        return self._phases[self.phase]

    def apply(self, entry: PlanEvent) -> None:
        """Follows one entry of the log. Raises ValueError for a rate that is negative or not finite."""
        t = (entry.at_ns - self.start_ns) / 1e9
        if entry.kind == "phase":
            self._begin(int(entry.value), entry.at_ns)
        elif entry.kind == "end":
            self.end_ns = min(self.end_ns, entry.at_ns)
        elif self.phase < 0:
            return
        elif entry.kind == "rate":
            self._asked.ramp_to(t, entry.value, entry.ramp)
            if not self.paused:
                self.line.splice(t, self._asked)
        elif entry.kind == "plan":
            self._asked.splice(t, self._planned)
            if not self.paused:
                self.line.splice(t, self._asked)
        elif entry.kind == "pause":
            self.paused = True
            self.line.change(t, 0.0)
        elif entry.kind == "resume":
            self.paused = False
            self.line.splice(t, self._asked)

    def _begin(self, index: int, at_ns: int) -> None:
        plan = self._phases[index]
        self.phase = index
        self.start_ns = at_ns - plan.offset_ns
        self.end_ns = end_ns(plan, self.start_ns)
        self._planned = plan.line()
        self.line, self._asked = plan.line(), plan.line()
        self.paused = False

    def rate(self, now_ns: int) -> float:
        """The rate in force, requests per second over all workers; 0 outside a phase."""
        if self.phase < 0 or now_ns >= self.end_ns:
            return 0.0
        return self.line.rate((now_ns - self.start_ns) / 1e9)

    def asked_rps(self, now_ns: int) -> float:
        """The rate that was planned or asked for, paused or not."""
        return 0.0 if self.phase < 0 else self._asked.rate(max(0, now_ns - self.start_ns) / 1e9)


class PhaseArrivals:
    """When the arrivals of the phase in force come, over all workers: by the rate of ``course``.

    ``units`` are the arrivals by number, None in a phase without a rate (burst, closed loop).
    """

    def __init__(self, course: Course, units: UnitArrivals | None) -> None:
        self._course = course
        self._units = units

    @property
    def end_ns(self) -> int:
        """When the phase's arrivals end; NEVER: open."""
        return self._course.end_ns

    def times(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Intended times of arrivals ``start`` … ``stop - 1`` in nanoseconds; NEVER where none comes."""
        course, plan = self._course, self._course.plan
        if plan.burst or plan.concurrency:
            numbers = np.arange(start, stop)
            return np.where(numbers < plan.burst, course.start_ns, NEVER).astype(np.int64)
        assert self._units is not None
        seconds: Floats = course.line.when(self._units.span(start, stop))
        finite = seconds < _FAR_S
        offset = np.rint(np.where(finite, seconds, 0.0) * 1e9).astype(np.int64)
        return np.where(finite, course.start_ns + offset, NEVER)

    def until(self, start: int, until_ns: int) -> int:
        """The number of the first arrival from ``start`` on that does not come before ``until_ns``, or that
        the phase's end leaves out. What lies more than ``_KEPT`` before it is forgotten."""
        end_ns = min(until_ns, self._course.end_ns)
        while True:
            self.forget(start - _KEPT)  # all at once at the end would copy them again with every batch
            within = int(np.searchsorted(self.times(start, start + _BATCH), end_ns))
            start += within
            if within < _BATCH:
                return start

    def forget(self, before: int) -> None:
        """Arrivals before this number are not asked for again."""
        if self._units is not None:
            self._units.forget(before)


class Cursor:
    """One worker's place in the arrivals of a phase: hands its own ones out in order, and can be rewound."""

    def __init__(self, arrivals: PhaseArrivals) -> None:
        self.arrivals = arrivals
        self.number = 0  # the first arrival that was not handed out, over all workers
        self.next_ns = NEVER  # when the next one of this worker comes; NEVER: none
        self._queue: list[tuple[int, int]] = []  # (arrival, intended_ns) of this worker, soonest last
        self._more = False  # the queue was cut at _BATCH: arrivals behind its end were not computed yet
        self._mine = (0, 1, 0)  # see refill

    def take(self, now_ns: int, most: int | None) -> list[tuple[int, int]]:
        """Hands out (arrival, intended_ns) of those at or before ``now_ns``, the first ``most`` of them."""
        out: list[tuple[int, int]] = []
        while self.next_ns <= now_ns and len(out) != most:
            taken = self._queue.pop()
            out.append(taken)
            self.number = taken[0] + 1
            if not self._queue and self._more:
                self._fill()
            self.next_ns = self._queue[-1][1] if self._queue else NEVER
        return out

    def rewind(self, to_ns: int) -> None:
        """Goes back to the first arrival at or after ``to_ns``, by ``_KEPT`` arrivals at most. To be followed
        by :meth:`refill`."""
        start = max(0, self.number - _KEPT)
        self.number = start + int(np.searchsorted(self.arrivals.times(start, self.number), to_ns))

    def refill(self, index: int, count: int, base: int) -> None:
        """Computes anew what comes from here on: the rate, the phase's end or the shares have changed. Of
        ``count`` workers, this one, ``index``, has the arrivals whose number in the run (``base`` and on) is
        its own modulo ``count``."""
        self._mine = (index, count, base)
        self._fill()
        self.next_ns = self._queue[-1][1] if self._queue else NEVER

    def _fill(self) -> None:
        index, count, base = self._mine
        self._queue = []
        start = self.number
        self._more = False
        if index >= count:  # not one of the workers yet: no arrival is its own, however far it looks
            return
        self.arrivals.forget(start - _KEPT)
        while not self._queue:
            times = self.arrivals.times(start, start + _BATCH)
            within = int(np.searchsorted(times, self.arrivals.end_ns))
            numbers = np.arange(start, start + within)
            mine = (base + numbers) % count == index
            self._queue = list(zip(numbers[mine].tolist(), times[:within][mine].tolist(), strict=True))[::-1]
            self._more = within == _BATCH
            if not self._more:
                return
            start += _BATCH


class Schedule:
    """The requests of worker ``index`` of ``count``: a course, and a cursor in the arrivals of its phase.

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
        self.course = Course(phases)
        self.count = count
        self._seed = seed
        self._index = index
        self._trace = trace
        self._base = 0  # number in the run of the phase's first request
        self._cursor = Cursor(PhaseArrivals(self.course, None))

    def apply(self, entry: PlanEvent) -> None:
        """Follows one entry of the log, once what was due before it has been handed out."""
        course, cursor = self.course, self._cursor
        if entry.kind == "workers":
            if course.phase >= 0:
                # What was due before belonged to the old shares, the rest belongs to the new ones.
                cursor.number = cursor.arrivals.until(cursor.number, entry.at_ns)
            self.count = int(entry.value)
        elif entry.kind == "phase":
            self._leave_phase(entry.at_ns)
        course.apply(entry)
        if entry.kind == "phase":
            self._enter_phase(entry.at_ns)
        if course.phase >= 0:
            self._cursor.refill(self._index, self.count, self._base)

    def _leave_phase(self, at_ns: int) -> None:
        """The numbers of the next phase begin behind those of this one."""
        course, cursor = self.course, self._cursor
        if course.phase >= 0 and course.plan.concurrency:
            self._base = (self._base // _CLOSED_SPAN + 1) * _CLOSED_SPAN
        elif course.phase >= 0:
            self._base += cursor.arrivals.until(cursor.number, min(course.end_ns, at_ns))

    def _enter_phase(self, at_ns: int) -> None:
        plan, trace = self.course.plan, self._trace
        recorded = trace * mean_rate(trace) if plan.trace and trace is not None else None
        stream = self.course.phase if plan.stream is None else plan.stream
        units = UnitArrivals(plan.arrivals, (self._seed, stream), plan.burstiness, recorded)
        self._cursor = Cursor(PhaseArrivals(self.course, units))
        if plan.offset_ns:
            self._cursor.number = self._cursor.arrivals.until(0, at_ns)

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
        return Due(self._base + arrival, self.course.phase, now_ns, number * self.count + self._index)

    def exhausted(self, now_ns: int) -> bool:
        """Whether no arrival of the phase is left for this worker."""
        if self.next_ns != NEVER:
            return False
        course, number = self.course, self._cursor.number
        if course.phase >= 0 and course.plan.trace and self._trace is not None:
            mine = number + (self._index - self._base - number) % self.count
            return mine >= self._trace.size or now_ns >= course.end_ns
        return now_ns >= course.end_ns

    # -- what is due -------------------------------------------------------------------------

    @property
    def next_ns(self) -> int:
        """When the next request of this worker is due; NEVER if none is."""
        return self._cursor.next_ns

    def due(self, now_ns: int, most: int | None = None) -> list[Due]:
        """Hands out the requests intended at or before ``now_ns``, the first ``most`` of them, in order."""
        base, phase = self._base, self.course.phase
        taken = self._cursor.take(now_ns, most)
        return [Due(base + arrival, phase, intended, arrival) for arrival, intended in taken]

    @property
    def most_ahead(self) -> int:
        """How many requests may be handed out ahead of their time, so that they can be taken back."""
        return _KEPT // 2 // self.count

    def rewind(self, to_ns: int) -> None:
        """Takes back what was handed out of this phase for ``to_ns`` or later, the last few thousand arrivals
        at most: it will be handed out again, or not, as the log has it by then. ``to_ns`` is the time of an
        entry that comes, not that of this worker's own first request behind it: all workers count alike."""
        self._cursor.rewind(to_ns)
        self._cursor.refill(self._index, self.count, self._base)


def mean_rate(trace: Floats) -> float:
    """Arrivals a second of a trace; 1 where all come at once."""
    span = float(trace[-1] - trace[0]) if trace.size > 1 else 0.0
    return (trace.size - 1) / span if span > 0 else 1.0
