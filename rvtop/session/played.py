"""What a session's load did, as the phases of a scenario that does it again.

Pure: entries of the command log and marks go in, phases come out. Times are ``perf_counter_ns``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rvtop.load.plan.arrivals import Ramp
from rvtop.load.plan.schedule import PhasePlan, PlanEvent, end_ns
from rvtop.scenario.schema import Phase


@dataclass
class _Part:
    """One phase as it was played."""

    plan: PhasePlan
    index: int
    at_ns: int
    end_ns: int
    changes: list[dict[str, Any]] = field(default_factory=list)
    marks: list[tuple[int, str]] = field(default_factory=list)
    hand: PlanEvent | None = None  # the rate that was set
    paused: bool = False

    @property
    def clock_ns(self) -> int:
        """Where the phase's clock is 0."""
        return self.at_ns - self.plan.offset_ns

    def follow(self, entry: PlanEvent) -> None:
        """Follows a change of the rate as ``Course`` does."""
        if entry.kind == "rate":
            self.hand = entry
            if not self.paused:
                self._change(entry.at_ns, _rate(entry.value, entry.ramp))
        elif entry.kind == "plan":
            self.hand = None
            if not self.paused:
                self._change(entry.at_ns, {"rate": "plan"})
        elif entry.kind == "pause":
            self.paused = True
            self._change(entry.at_ns, {"rate": 0.0})
        elif entry.kind == "resume":
            self.paused = False
            hand = None if self.hand is None else self.hand.again(entry.at_ns)
            self._change(entry.at_ns, _rate(None, None) if hand is None else _rate(hand.value, hand.ramp))

    @property
    def all_changes(self) -> list[dict[str, Any]]:
        """Those that were planned, as far as hands let them be, and those of hands."""
        planned = [{"at": c.at_s, **_rate(c.rate, c.ramp)} for c in self.plan.changes]
        times = [*(change["at"] for change in self.changes), math.inf]
        out = [change for change in planned if change["at"] < times[0]]
        for change, next_s in zip(self.changes, times[1:], strict=True):
            at = change["at"]
            if change["rate"] == "plan":
                before = [one for one in self.plan.changes if one.at_s <= at]
                out.append({"at": at, **_rate(before[-1].rate, before[-1].left(at))} if before else change)
                out += [one for one in planned if at < one["at"] < next_s]
            else:
                out.append(change)
        return out

    def _change(self, at_ns: int, change: dict[str, Any]) -> None:
        self.changes.append({"at": (at_ns - self.clock_ns) / 1e9, **change})


def _rate(rate: float | None, ramp: Ramp | None) -> dict[str, Any]:
    """The keys of a change that say what the rate is, None: the planned one."""
    data: dict[str, Any] = {"rate": "plan" if rate is None else rate}
    if ramp is not None:
        data |= {"from": ramp.start, "over": ramp.over_s}
        if ramp.exponential:
            data["shape"] = "exponential"
    return data


class Played:
    """The phases so far."""

    def __init__(self) -> None:
        self._parts: list[_Part] = []
        self.seq = 0  # grows with all that is noted

    @property
    def begun(self) -> list[tuple[PhasePlan, int]]:
        """The phases in the order in which they were played, each with when it began."""
        return [(part.plan, part.at_ns) for part in self._parts]

    def note(self, entry: PlanEvent, phases: Sequence[PhasePlan]) -> None:
        """Takes in an entry of the command log."""
        self.seq += 1
        if entry.kind == "phase":
            self._end(entry.at_ns)
            plan = phases[int(entry.value)]
            last_ns = end_ns(plan, entry.at_ns - plan.offset_ns)
            self._parts.append(_Part(plan, int(entry.value), entry.at_ns, last_ns))
        elif entry.kind in ("end", "stop"):
            self._end(entry.at_ns)
        elif self._parts:
            self._parts[-1].follow(entry)

    def mark(self, at_ns: int, note: str) -> None:
        """Something happened at ``at_ns``; before the first phase it has no place."""
        self.seq += 1
        if self._parts:
            self._parts[-1].marks.append((at_ns, note))

    def _end(self, at_ns: int) -> None:
        if self._parts:
            self._parts[-1].end_ns = min(self._parts[-1].end_ns, at_ns)

    def phases(self, from_ns: int, until_ns: int) -> tuple[Phase, ...]:
        """What was played from ``from_ns`` until ``until_ns``, empty where that is nothing. A phase that was
        under way at ``from_ns`` begins there with its clock; a burst that was sent before is left out."""
        kept = [part for part in self._parts if _is_within(part, from_ns, until_ns)]
        if not kept:
            return ()
        origin_ns = max(kept[0].at_ns, from_ns)
        names: set[str] = set()
        made = []
        for number, part in enumerate(kept):
            data = _kind(part, from_ns, min(part.end_ns, until_ns)) | _common(part, from_ns)
            data["name"] = _unique(part.plan.name, names)
            if number:
                data["begins"] = (part.at_ns - origin_ns) / 1e9
            made.append(data)
        if all(data.get("warmup") for data in made):
            made[-1]["warmup"] = False  # a scenario has something to measure
        return tuple(Phase.model_validate(data) for data in made)


def _is_within(part: _Part, from_ns: int, until_ns: int) -> bool:
    if part.plan.burst:
        return from_ns <= part.at_ns < until_ns
    return max(part.at_ns, from_ns) < min(part.end_ns, until_ns)


def _unique(name: str, names: set[str]) -> str:
    """A name that no phase before has, of characters that a scenario's phase may have."""
    plain = name.replace("/", "-").replace("#", "-")[:50]
    found, number = plain, 2
    while found in names:
        found, number = f"{plain}-{number}", number + 1
    names.add(found)
    return found


def _kind(part: _Part, from_ns: int, last_ns: int) -> dict[str, Any]:
    """The keys that say what the phase sends. ``last_ns``: its arrivals ended there."""
    plan = part.plan
    if plan.burst:
        return {"rounds": {"sizes": [plan.burst]}}
    lasts_s = (last_ns - part.clock_ns) / 1e9
    if plan.concurrency:
        begun_ns = max(part.at_ns, from_ns)
        return {"concurrency": plan.concurrency, "duration": (last_ns - begun_ns) / 1e9}
    data: dict[str, Any] = {"duration": lasts_s, "changes": part.all_changes}
    if from_ns > part.at_ns:
        data["offset"] = (from_ns - part.clock_ns) / 1e9
    elif plan.offset_s:
        data["offset"] = plan.offset_s
    if plan.trace:
        return {"trace": {"speed": plan.trace_speed}, **data}
    rate: Any = plan.rate_from
    if plan.rate_from != plan.rate_to:
        rate = {"from": plan.rate_from, "to": plan.rate_to, "shape": plan.shape}
        over_s = plan.duration_s if plan.shape_s is None else plan.shape_s
        if over_s != lasts_s:
            rate["over"] = over_s
        if plan.shape == "step":
            rate["steps"] = plan.steps
        elif plan.shape == "spike":
            rate |= {"at": plan.peak_at_s, "for": plan.peak_for_s}
    data |= {"rate": rate, "arrivals": plan.arrivals}
    if plan.arrivals == "gamma":
        data["burstiness"] = plan.burstiness
    if plan.arrivals != "constant":
        data["stream"] = part.index if plan.stream is None else plan.stream
    return data


def _common(part: _Part, from_ns: int) -> dict[str, Any]:
    """The keys that phases of every kind have."""
    plan = part.plan
    # A closed loop has no offset: its clock begins where the recording does.
    clock_ns = max(part.at_ns, from_ns) if plan.concurrency else part.clock_ns
    marks = [(at_ns, note) for at_ns, note in sorted(part.marks) if at_ns >= max(from_ns, clock_ns)]
    data: dict[str, Any] = {
        "warmup": plan.warmup,
        "reset_prefix_cache": plan.reset_prefix_cache,
        "profile": plan.profile,
        "marks": [{"at": (at_ns - clock_ns) / 1e9, "note": note} for at_ns, note in marks],
    }
    if plan.cancel_share:
        data["cancel"] = {"share": plan.cancel_share, "after": plan.cancel_after_s}
    if not plan.burst:
        data["drain"] = plan.drain_s
        if not plan.concurrency and plan.max_in_flight is not None:
            data["max_in_flight"] = plan.max_in_flight
    return data
