"""The rate of a session: commands become entries of the log, and these say which rate is in force."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from rvtop.contract.command import MAX_CHANGE_S, Command, CommandError, Pause, Resume, SetRate
from rvtop.load.plan.arrivals import Ramp
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


@dataclass(frozen=True)
class _Spike:
    """A rate for a while: ends at ``end_ns``, and ``before`` holds again, None: what is planned."""

    end_ns: int
    before: PlanEvent | None
    by: str


class RateControl:
    """``issue`` sends an entry to the workers and to the log, with who asked for it, and comes back as
    ``note``; ``say`` tells the user. ``max_rate`` bounds what hands may ask for, requests per second."""

    def __init__(self, phases: tuple[PhasePlan, ...], max_rate: float | None, issue: Issue, say: Say) -> None:
        self._course = Course(phases)  # what is in force
        self._ahead = Course(phases)  # what will be, once all entries are
        self._limit = MAX_RPS if max_rate is None else min(MAX_RPS, max_rate)
        self._issue = issue
        self._say = say
        self._pending: list[PlanEvent] = []  # entries that are not in force yet
        self._hand: PlanEvent | None = None  # the rate that was set in the phase that runs
        self._spike: _Spike | None = None
        self.paused = False

    def follow(self, command: Command, now_ns: int, by: str) -> Done:
        """Changes the rate or pauses. Raises CommandError for what makes no sense."""
        at_ns = self._effective_ns(now_ns)
        if isinstance(command, SetRate):
            return self._set_rate(command, now_ns, by)
        pause = isinstance(command, Pause)
        if self.paused == pause:
            raise CommandError("paused already" if pause else "not paused")
        self.paused = pause
        self._issue(PlanEvent(at_ns, "pause" if pause else "resume"), by)
        self._say("paused" if pause else "resumed", kind="pause")
        return Done("paused" if pause else "resumed", at_ns, Resume() if pause else Pause())

    def _set_rate(self, command: SetRate, now_ns: int, by: str) -> Done:
        rps = command.rps
        rate = self.allowed(rps)
        _check_times(command)
        before, at_ns = self.target_rps(now_ns), self._effective_ns(now_ns)
        inverse = SetRate(self.asked_rps(now_ns))
        entry = PlanEvent(at_ns, "rate", rate, ramp=self._ramp(command, rate, at_ns))
        spike = None
        if command.for_s is not None:  # within another one: what was before that comes back
            hand = self._hand if self._spike is None else self._spike.before
            spike = _Spike(at_ns + round(command.for_s * 1e9), hand, by)
        self._issue(entry, by)
        self._spike = spike
        text = f"rate {before:.3g} → {rate:.3g} rps{_times(command)}"
        self._say(text, kind="rate")
        return Done(text + (" (the most that is allowed)" if rate < rps else ""), at_ns, inverse)

    def allowed(self, rps: float) -> float:
        """``rps``, or the most that hands may ask for. Raises CommandError for what is no rate."""
        if math.isnan(rps) or rps < 0:  # not 0 for -1: a slip of the pen would stop the load
            raise CommandError("rate: must be a number of requests a second, 0 or more")
        return min(rps, self._limit)

    def asked_rps(self, now_ns: int) -> float:
        """The rate that was asked for, whether it is in force yet, and paused or not."""
        return self._ahead.asked_rps(max(now_ns, self._pending[-1].at_ns if self._pending else 0))

    def _ramp(self, command: SetRate, rate: float, at_ns: int) -> Ramp | None:
        """How the rate gets to ``rate`` from what it is at ``at_ns``. Raises CommandError."""
        if command.over_s is None:
            return None
        ramp = Ramp(self._ahead.asked_rps(at_ns), command.over_s, command.shape == "exponential")
        if ramp.exponential and not (ramp.start > 0 and rate > 0):
            raise CommandError("rate: an exponential ramp needs rates above 0 at both ends; linear takes any")
        return ramp

    def _effective_ns(self, now_ns: int) -> int:
        """When a command of now takes effect: in the order of the entries, some of which are ahead."""
        return max(now_ns + LEAD_NS, self._pending[-1].at_ns if self._pending else 0)

    def carry_over(self) -> Callable[[int, str], None]:
        """What is to be called with its time, and who wants it, once a phase that begins anew has been
        issued: a rate that was set by hand goes on there, and so does a spike."""
        hand, spike = self._hand, self._spike

        def carry(at_ns: int, by: str) -> None:
            if hand is not None:
                self._issue(hand.again(at_ns), by)
            self._spike = spike

        return carry

    def add_phase(self, phase: PhasePlan) -> None:
        """Appends a phase."""
        self._course.add_phase(phase)
        self._ahead.add_phase(phase)

    def note(self, entry: PlanEvent) -> None:
        """An entry went out; it takes effect at its time."""
        if entry.kind == "phase":
            self.paused = False
        if entry.kind in ("phase", "plan", "end"):
            self._hand = self._spike = None
        elif entry.kind == "rate":
            self._hand = entry
        self._ahead.apply(entry)
        self._pending.append(entry)

    @property
    def next_ns(self) -> int:
        """When there is something to do: an entry takes effect, a spike ends; NEVER: nothing is."""
        spike_ns = NEVER if self._spike is None else self._spike.end_ns - LEAD_NS
        return min(spike_ns, self._pending[0].at_ns if self._pending else NEVER)

    def _end_spike(self, now_ns: int) -> None:
        """Issues what comes after a spike, as soon as it must go out to be in time."""
        spike = self._spike
        if spike is None or now_ns < spike.end_ns - LEAD_NS:
            return
        self._spike = None
        at_ns = max(spike.end_ns, self._effective_ns(now_ns))
        before = PlanEvent(at_ns, "plan") if spike.before is None else spike.before.again(at_ns)
        self._issue(before, spike.by)
        self._say(f"the spike ends: rate {self._ahead.asked_rps(at_ns):.3g} rps", kind="rate")

    def take_effect(self, now_ns: int) -> list[PlanEvent]:
        """Follows the entries whose time has come, and returns them; ends a spike."""
        self._end_spike(now_ns)
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
            if entry.kind in ("rate", "plan", "pause", "resume"):
                return self._ahead.rate(max(now_ns, entry.at_ns))
        return self._course.rate(now_ns)


def _check_times(command: SetRate) -> None:
    """Raises CommandError for a ramp or a spike that makes no sense."""
    over_s, for_s = command.over_s, command.for_s
    if over_s is not None and for_s is not None:
        raise CommandError("rate: over_s (a ramp) and for_s (a spike) are two things; give one")
    for name, value in (("over_s", over_s), ("for_s", for_s)):
        if value is not None and not 0 < value <= MAX_CHANGE_S:
            raise CommandError(f"rate: {name} must be more than 0 s and at most {MAX_CHANGE_S:g} s")
    if command.shape == "exponential" and over_s is None:
        raise CommandError("rate: shape is that of a ramp; it needs over_s")


def _times(command: SetRate) -> str:
    """What an event says of the time that a change takes."""
    if command.over_s is not None:
        return f" in {command.over_s:g} s"
    return "" if command.for_s is None else f" for {command.for_s:g} s"
