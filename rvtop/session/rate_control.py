"""The rate of a session: commands become entries of the log, and these say which rate is in force."""

from __future__ import annotations

import math
from collections.abc import Callable

from rvtop.contract.command import Command, Pause, Resume, SetRate
from rvtop.load.plan.schedule import NEVER, Course, PhasePlan, PlanEvent
from rvtop.scenario.schema import MAX_RPS
from rvtop.session.player import LEAD_NS

Issue = Callable[[PlanEvent], None]
Say = Callable[[str, str], None]


class RateControl:
    """``issue`` sends an entry to the workers and to the log, and comes back as ``note``; ``say`` tells the
    user, with a level. ``max_rate`` bounds what hands may ask for, requests per second."""

    def __init__(self, phases: tuple[PhasePlan, ...], max_rate: float | None, issue: Issue, say: Say) -> None:
        self._course = Course(phases)
        self._limit = MAX_RPS if max_rate is None else min(MAX_RPS, max_rate)
        self._issue = issue
        self._say = say
        self._pending: list[PlanEvent] = []  # entries that are not in force yet
        self.paused = False

    def follow(self, command: Command, phase: PhasePlan | None, now_ns: int) -> None:
        """Changes the rate or pauses while ``phase`` sends; what makes no sense now is left alone."""
        at_ns = now_ns + LEAD_NS
        if isinstance(command, SetRate) and phase is not None and phase.concurrency:
            self._say("a closed loop has no rate: as one request ends, the next one begins", "warn")
        elif isinstance(command, SetRate) and not math.isnan(command.rps):
            rate = min(max(0.0, command.rps), self._limit)
            before = self.target_rps(now_ns)
            self._issue(PlanEvent(at_ns, "rate", rate))
            self._say(f"rate {before:.3g} → {rate:.3g} rps", "info")
        elif isinstance(command, Pause) and not self.paused:
            self.paused = True
            self._issue(PlanEvent(at_ns, "pause"))
            self._say("paused", "info")
        elif isinstance(command, Resume) and self.paused:
            self.paused = False
            self._issue(PlanEvent(at_ns, "resume"))
            self._say("resumed", "info")

    def add_phase(self, phase: PhasePlan) -> None:
        """One phase more, behind those that are known."""
        self._course.add_phase(phase)

    def note(self, entry: PlanEvent) -> None:
        """An entry went out; it takes effect at its time."""
        if entry.kind == "phase":
            self.paused = False
        self._pending.append(entry)

    @property
    def next_ns(self) -> int:
        """When the next entry takes effect; NEVER while none is to."""
        return self._pending[0].at_ns if self._pending else NEVER

    def take_effect(self, now_ns: int) -> list[PlanEvent]:
        """Follows the entries whose time has come, and returns them."""
        done = []
        while self._pending and self._pending[0].at_ns <= now_ns:
            done.append(self._pending.pop(0))
            self._course.apply(done[-1])
        return done

    def target_rps(self, now_ns: int) -> float:
        """The rate asked for. What was commanded shows at once, though it takes effect a little later."""
        for entry in reversed(self._pending):
            if entry.kind == "rate":
                return 0.0 if self.paused else entry.value
        return self._course.rate(now_ns)
