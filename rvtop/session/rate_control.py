"""The rate of a session: commands become entries of the log, and these say which rate is in force."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from rvtop.contract.command import Command, CommandError, Pause, Resume, SetRate
from rvtop.load.plan.schedule import NEVER, Course, PhasePlan, PlanEvent
from rvtop.scenario.schema import MAX_RPS
from rvtop.session.player import LEAD_NS

Issue = Callable[[PlanEvent, str], None]


class Say(Protocol):
    """Adds an event."""

    def __call__(self, text: str, level: str = ..., kind: str = ...) -> object: ...


@dataclass(frozen=True)
class Done:
    """A command was followed: what it did, in a few words. ``at_ns`` (perf_counter) is when it takes effect,
    None: at once. ``inverse`` takes it back, where it can be. ``later``: it takes its time, and this is what
    will have come of it; raises CommandError for what failed on the way."""

    text: str
    at_ns: int | None = None
    inverse: Command | None = None
    later: asyncio.Future[Done] | None = None


class RateControl:
    """``issue`` sends an entry to the workers and to the log, with who asked for it, and comes back as
    ``note``; ``say`` tells the user. ``max_rate`` bounds what hands may ask for, requests per second."""

    def __init__(self, phases: tuple[PhasePlan, ...], max_rate: float | None, issue: Issue, say: Say) -> None:
        self._course = Course(phases)
        self._limit = MAX_RPS if max_rate is None else min(MAX_RPS, max_rate)
        self._issue = issue
        self._say = say
        self._pending: list[PlanEvent] = []  # entries that are not in force yet
        self._rate: float | None = None  # set by hand in the phase that runs
        self.paused = False

    def follow(self, command: Command, phase: PhasePlan | None, now_ns: int, by: str) -> Done:
        """Changes the rate or pauses while ``phase`` sends. Raises CommandError for what makes no sense."""
        at_ns = self._effective_ns(now_ns)
        if isinstance(command, SetRate):
            return self._set_rate(command.rps, phase, now_ns, by)
        pause = isinstance(command, Pause)
        if self.paused == pause:
            raise CommandError("paused already" if pause else "not paused")
        self.paused = pause
        self._issue(PlanEvent(at_ns, "pause" if pause else "resume"), by)
        self._say("paused" if pause else "resumed", kind="pause")
        return Done("paused" if pause else "resumed", at_ns, Resume() if pause else Pause())

    def _set_rate(self, rps: float, phase: PhasePlan | None, now_ns: int, by: str) -> Done:
        if phase is not None and phase.concurrency:
            raise CommandError("a closed loop has no rate: as one request ends, the next one begins")
        if math.isnan(rps) or rps < 0:  # not 0 for -1: a slip of the pen would stop the load
            raise CommandError("rate: must be a number of requests a second, 0 or more")
        before, at_ns = self.target_rps(now_ns), self._effective_ns(now_ns)
        rate = min(rps, self._limit)
        inverse = SetRate(self._standing_rps(phase, now_ns))
        self._issue(PlanEvent(at_ns, "rate", rate), by)
        text = f"rate {before:.3g} → {rate:.3g} rps"
        self._say(text, kind="rate")
        return Done(text + (" (the most that is allowed)" if rate < rps else ""), at_ns, inverse)

    def _effective_ns(self, now_ns: int) -> int:
        """When a command of now takes effect: in the order of the entries, some of which are ahead."""
        return max(now_ns + LEAD_NS, self._pending[-1].at_ns if self._pending else 0)

    def _standing_rps(self, phase: PhasePlan | None, now_ns: int) -> float:
        """The rate that was asked for or planned, paused or not."""
        if self._rate is not None or phase is None:
            return self._rate or 0.0
        return phase.line().rate(max(0, now_ns - self._course.start_ns) / 1e9)

    @property
    def hand_rate(self) -> float | None:
        """The rate that was set by hand in the phase that runs; None: the planned one is in force."""
        return self._rate

    def add_phase(self, phase: PhasePlan) -> None:
        """Appends a phase."""
        self._course.add_phase(phase)

    def note(self, entry: PlanEvent) -> None:
        """An entry went out; it takes effect at its time."""
        if entry.kind == "phase":
            self.paused, self._rate = False, None
        elif entry.kind == "rate":
            self._rate = entry.value
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
            if entry.kind in ("phase", "end"):
                break
            if entry.kind in ("rate", "pause", "resume"):
                phase = self._course.plan if self._course.phase >= 0 else None
                return 0.0 if self.paused else self._standing_rps(phase, now_ns)
        return self._course.rate(now_ns)
