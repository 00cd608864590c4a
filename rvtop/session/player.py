"""Plays a scenario: when which phase begins, ends and is cut. Pure: its caller brings the time.

A phase sends, then drains, then the next one begins, so that no phase's backlog sits in the next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from rvtop.load.plan.schedule import NEVER, PhasePlan, PlanEvent, end_ns
from rvtop.scenario.schema import Phase, Rounds, Scenario

#: A command takes effect this long after it is given, so that it reaches every worker before.
LEAD_NS = 50_000_000

#: A phase that begins at a given time is announced so much before its lead, for a loop that wakes late.
_EARLY_NS = 20_000_000

#: How long a cut may take to reach the workers and come back before the next phase begins all the same.
_CUT_LIMIT_NS = 5_000_000_000
_AGAIN_NS = 100_000_000  # until a server that was not ready is asked for again

State = Literal["idle", "sending", "draining", "cutting", "over"]


def plan(scenario: Scenario, models: int, trace_rps: float = 0.0) -> tuple[PhasePlan, ...]:
    """The scenario's phases, each round of a rounds phase as a phase of its own (``name/n=24#3``).

    ``trace_rps`` is the mean rate of the workload's trace.
    """
    out: list[PhasePlan] = []
    for phase in scenario.phases:
        cancel, kind = phase.cancel, _kind(phase, models, trace_rps)
        first = kind[0] if kind else None
        out += [
            replace(
                made,
                duration_s=phase.duration_s,
                drain_s=phase.drain_s,
                max_in_flight=phase.max_in_flight,
                begins_s=phase.begins_s if made is first else None,
                warmup=phase.warmup,
                reset_prefix_cache=phase.reset_prefix_cache and made is first,
                profile=phase.profile,
                cancel_share=cancel.share if cancel is not None else 0.0,
                cancel_after_s=cancel.after_s if cancel is not None else 0.0,
            )
            for made in kind
        ]
    return tuple(out)


def _kind(phase: Phase, models: int, trace_rps: float) -> list[PhasePlan]:
    """What ``phase`` is by its kind."""
    if phase.rounds is not None:
        return _rounds(phase.name, phase.rounds, models)
    if phase.concurrency is not None:
        return [PhasePlan(phase.name, concurrency=phase.concurrency, limit=phase.requests)]
    if phase.trace is not None:
        rate = trace_rps * phase.trace.speed
        changes, offset_s = phase.rate_changes, phase.offset_s
        made = PhasePlan(phase.name, rate, rate, trace=True, trace_speed=phase.trace.speed)
        return [replace(made, changes=changes, offset_s=offset_s)]
    return [] if phase.rate is None else [phase.rate_plan()]


def _rounds(name: str, rounds: Rounds, models: int) -> list[PhasePlan]:
    out = []
    seen: Counter[int] = Counter()  # a size may be named more than once
    for size in rounds.sizes:
        # A round of one sends one to each model: the experiment's way to see each of them alone.
        burst = models if size == 1 else size
        for _ in range(rounds.repeat):
            seen[size] += 1
            out.append(PhasePlan(f"{name}/n={size}#{seen[size]}", burst=burst))
    return out


class Player:
    """Steps through ``phases``. Call ``step`` often; hand what it returns to the workers."""

    def __init__(
        self,
        phases: tuple[PhasePlan, ...],
        more: Callable[[], PhasePlan | None] | None = None,
        ready: Callable[[PhasePlan | None], bool] = lambda phase: True,
    ) -> None:
        """``more`` is asked for a further phase when the last one is over. ``ready`` says whether the phase
        that comes next (None: none does) may begin after the one that has drained."""
        self.phases = list(phases)
        self._order = list(range(len(phases)))  # of ``phases``, by number
        self._at = -1  # in that order
        self._more = more
        self._ready = ready
        self.index = -1
        self.state: State = "idle"
        self.start_ns = 0
        self.end_ns = 0
        self._deadline_ns = NEVER
        self._held = False
        self._origin_ns: int | None = None  # when the first phase began
        self._waits_ns = NEVER  # for the time at which the next phase is to begin

    @property
    def phase(self) -> PhasePlan | None:
        """The phase that runs or drains."""
        return self.phases[self.index] if 0 <= self.index < len(self.phases) else None

    @property
    def coming(self) -> list[PhasePlan]:
        """The phases that have not begun."""
        return [self.phases[number] for number in self._order[self._at + 1 :]]

    def step(self, now_ns: int, drained: bool) -> PlanEvent | None:
        """The next entry of the log, if it is time for one.

        ``drained``: every worker has reported that the phase's arrivals are over and nothing is in flight.
        """
        if self.state == "idle":
            return self._begin(now_ns)
        if self._held:
            return None
        if self.state == "sending" and now_ns >= self.end_ns:
            self.state = "draining"
            drain = self.phases[self.index].drain_s
            self._deadline_ns = NEVER if drain is None else self.end_ns + round(drain * 1e9)
        # A trace and a closed loop of so many requests end with their last one.
        if drained and (self.state in ("draining", "cutting") or self._ends_itself()):
            return self._begin_in_time(now_ns)
        if now_ns >= self._waits_ns:  # what would not end was cut, and is not waited for
            return self._begin(now_ns)
        if now_ns >= self._deadline_ns:
            if self.state == "draining":
                self.state = "cutting"
                self._deadline_ns = now_ns + _CUT_LIMIT_NS
                return PlanEvent(now_ns, "cut")
            if self.state == "cutting":
                return self._begin_in_time(now_ns)
        return None

    def _begin_in_time(self, now_ns: int) -> PlanEvent | None:
        """Begins the next phase, unless it is to begin later, or the server is not ready for it."""
        self._waits_ns = NEVER
        if not self._ready(next(iter(self.coming), None)):
            if self.state == "cutting":  # what does not end is not waited for: it is tried again
                self._deadline_ns = now_ns + _AGAIN_NS
                return None
            self.state, self._deadline_ns = "draining", NEVER  # whoever makes it ready wakes the session
            return None
        wake_ns = self._not_before_ns - LEAD_NS - _EARLY_NS
        if now_ns >= wake_ns:
            return self._begin(now_ns)
        # The drain is over: its deadline must neither cut anything nor wake anyone any more.
        self.state, self._waits_ns, self._deadline_ns = "draining", wake_ns, NEVER
        return None

    @property
    def _not_before_ns(self) -> int:
        """When the phase that comes next may begin; 0: at once."""
        following = self._order[self._at + 1] if self._at + 1 < len(self._order) else None
        begins_s = None if following is None else self.phases[following].begins_s
        if begins_s is None or self._origin_ns is None:
            return 0
        return self._origin_ns + round(begins_s * 1e9)

    @property
    def next_ns(self) -> int:
        """When ``step`` has something to do by itself; NEVER while it waits for a drain without a limit."""
        if self.state == "idle":
            return 0
        if self.state == "sending":
            return self.end_ns
        return min(self._deadline_ns, self._waits_ns)

    def hold(self) -> None:
        """The phase that sends does not end by itself, until another one is begun."""
        self._held, self.end_ns = True, NEVER

    def end_phase(self, now_ns: int) -> PlanEvent | None:
        """Ends the arrivals of the phase that runs; it drains as usual."""
        if self.state != "sending":
            return None
        begun_ns = self.start_ns + self.phases[self.index].offset_ns
        self.end_ns = min(self.end_ns, max(now_ns + LEAD_NS, begun_ns + 1))
        return PlanEvent(self.end_ns, "end")

    def repeat(self, why: Literal["again", "target"] = "again", like: PhasePlan | None = None) -> PhasePlan:
        """After the phase that runs comes a copy of it, or of ``like``, under a name of its own; returns the
        copy."""
        phase = like or self.phases[self.index]
        stem, number = phase.name.partition(f"#{why}-")[0], 2
        names = {known.name for known in self.phases}
        while f"{stem}#{why}-{number}" in names:
            number += 1
        copy = replace(phase, name=f"{stem}#{why}-{number}", begins_s=None)
        self._order.insert(self._at + 1, len(self.phases))
        self.phases.append(copy)
        return copy

    def begin_next(self, now_ns: int) -> PlanEvent:
        """Begins the phase that comes next while this one sends, without waiting for what is in flight. There
        must be one."""
        entry = self._begin(now_ns)
        assert entry is not None
        return entry

    def _ends_itself(self) -> bool:
        phase = self.phase
        return self.state == "sending" and phase is not None and (phase.trace or phase.limit is not None)

    def _begin(self, now_ns: int) -> PlanEvent | None:
        at_ns = max(now_ns + LEAD_NS, self._not_before_ns)
        self._at += 1
        self._deadline_ns, self._waits_ns, self._held = NEVER, NEVER, False
        further = self._more() if self._more is not None and self._at == len(self._order) else None
        if further is not None:
            self._order.append(len(self.phases))
            self.phases.append(further)
        if self._at >= len(self._order):
            self.index = len(self.phases)
            self.state = "over"
            return None
        self.index = self._order[self._at]
        phase = self.phases[self.index]
        self.state = "sending"
        self._origin_ns = at_ns if self._origin_ns is None else self._origin_ns
        self.start_ns = at_ns - phase.offset_ns
        self.end_ns = end_ns(phase, self.start_ns)
        return PlanEvent(at_ns, "phase", self.index)
