"""The phases of a scenario: arrivals at a rate, rounds, a closed loop, or the replay of a trace."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler, Strict, field_validator, model_validator

from rvtop.load.plan.arrivals import Ramp
from rvtop.load.plan.phase_plan import PhasePlan, RateChange
from rvtop.scenario.part import Count, Flag, Mistake, Name, Number, Part, Seconds, fail
from rvtop.scenario.units import MAX_AT_ONCE, format_duration

MAX_RPS = 1_000_000.0
DEFAULT_DRAIN_S = 30.0
ARRIVALS = ("constant", "poisson", "gamma")
DEFAULT_STEPS = 5

Rps = Annotated[Number, Field(ge=0, le=MAX_RPS)]
PhaseName = Annotated[Name, Field(max_length=60, pattern=r"^[^\s/#][^/#]*$")]

_ANY = ("begins", "marks", "reset_prefix_cache", "profile")
#: What may stand in a phase of each kind, besides its name.
_KINDS: Mapping[str, tuple[str, ...]] = {
    "rounds": ("cancel", "warmup", *_ANY),
    "concurrency": ("duration", "requests", "drain", "cancel", "warmup", *_ANY),
    "trace": ("duration", "max_in_flight", "drain", "cancel", "warmup", "changes", "offset", *_ANY),
    "rate": (
        *("duration", "arrivals", "burstiness", "max_in_flight", "drain", "cancel", "warmup"),
        *("changes", "offset", "stream", *_ANY),
    ),
}


class Rate(Part):
    """Requests per second from ``start`` to ``end`` along ``shape``; a constant rate has both equal.
    ``over_s`` is the time that the shape takes, None: the phase's duration.

    ``step``: in ``steps`` holds of equal length. ``spike``: ``start``, but ``end`` for ``peak_for_s`` from
    ``peak_at_s`` on.
    """

    start: Rps = Field(alias="from")
    end: Rps = Field(alias="to")
    shape: Literal["linear", "exponential", "step", "spike"] = "linear"
    steps: Annotated[Count, Field(ge=2, le=10_000)] | None = None
    peak_at_s: Seconds | None = Field(default=None, alias="at")
    peak_for_s: Seconds | None = Field(default=None, alias="for")
    over_s: Seconds | None = Field(default=None, alias="over")

    @model_validator(mode="before")
    @classmethod
    def _number(cls, data: object) -> object:
        if isinstance(data, int | float) and not isinstance(data, bool):
            return {"from": data, "to": data}
        if not isinstance(data, Mapping | Rate):
            fail("must be a number of requests per second or {from: A, to: B}, got {written}")
        return data

    def contradictions(self) -> Iterator[Mistake]:
        if self.shape == "exponential" and not (self.start > 0 and self.end > 0):
            key = "from" if self.start <= 0 else "to"
            yield Mistake("an exponential ramp needs rates > 0 at both ends", key, ("shape",))
        if self.steps is not None and self.shape != "step":
            yield Mistake("is for shape: step only", "steps", ("shape",))
        for key, value in (("at", self.peak_at_s), ("for", self.peak_for_s)):
            if value is not None and self.shape != "spike":
                yield Mistake("is for shape: spike only", key, ("shape",))
            if value is None and self.shape == "spike":
                text = "is missing (a spike is {from: A, to: B, shape: spike, at: 20s, for: 5s})"
                yield Mistake(text, key, ("shape",))
        if self.over_s == 0:
            yield Mistake("must be longer than 0", "over")

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        written = handler.resolve_ref_schema(handler(core))
        about = written.pop("description", "")
        number = {"type": "number", "minimum": 0, "maximum": MAX_RPS}
        return {"description": about, "anyOf": [number, written]}

    @property
    def constant(self) -> bool:
        return self.start == self.end

    @property
    def holds(self) -> int:
        """Holds of a step shape, 1 for any other."""
        return (self.steps or DEFAULT_STEPS) if self.shape == "step" else 1

    @property
    def peak_end_s(self) -> float:
        """When a spike is over, seconds from the phase's start; 0 for any other shape."""
        return (self.peak_at_s or 0.0) + (self.peak_for_s or 0.0)


class Change(Part):
    """From ``at_s`` of the phase's clock on the rate is ``rate``, or the one that is planned again
    (``rate: plan``). With ``over_s``: a ramp of that time from ``start`` on."""

    at_s: Seconds = Field(alias="at")
    rate: Rps | Literal["plan"]
    start: Rps | None = Field(default=None, alias="from")
    over_s: Seconds | None = Field(default=None, alias="over")
    shape: Literal["linear", "exponential"] = "linear"

    @field_validator("rate", mode="before")
    @classmethod
    def _rate(cls, rate: object) -> object:
        if rate != "plan" and (isinstance(rate, bool) or not isinstance(rate, int | float)):
            fail("must be a number of requests per second, or plan")
        return rate

    def contradictions(self) -> Iterator[Mistake]:
        if (self.start is None) != (self.over_s is None):
            missing, given = ("from", "over") if self.start is None else ("over", "from")
            yield Mistake(
                "is missing (a ramp is {at: 10s, from: 20, rate: 80, over: 30s})", missing, (given,)
            )
        if self.over_s is not None and self.rate == "plan":
            yield Mistake("is for a rate, not for plan", "over", ("rate",))
        if self.over_s == 0:
            yield Mistake("must be longer than 0", "over")
        if self.shape == "exponential" and not (self.start and self.rate):
            yield Mistake("an exponential ramp needs from, over and rates > 0 at both ends", "shape")

    @property
    def of_plan(self) -> RateChange:
        """The change as the load workers need it."""
        if self.rate == "plan":
            return RateChange(self.at_s, None)
        if self.start is None or self.over_s is None:
            return RateChange(self.at_s, self.rate)
        ramp = Ramp(self.start, self.over_s, self.shape == "exponential")
        return RateChange(self.at_s, self.rate, ramp)


class Mark(Part):
    """Something that happened at ``at_s`` of the phase's clock. It is told, and changes nothing."""

    at_s: Seconds = Field(alias="at")
    note: Annotated[Name, Field(max_length=500)]


class Rounds(Part):
    """Bursts: for each size n, ``repeat`` times, n requests at once, then wait for all of them."""

    sizes: tuple[Annotated[Count, Field(le=MAX_AT_ONCE)], ...] = Field(min_length=1)
    repeat: Annotated[Count, Field(le=MAX_AT_ONCE)] = 1

    def requests(self, models: int) -> int:
        """Requests in all. A round of one sends one to each of ``models`` models (>= 1)."""
        return self.repeat * sum(models if size == 1 else size for size in self.sizes)


class Replay(Part):
    """The workload's trace, ``speed`` times as fast as it was recorded."""

    speed: Annotated[Number, Field(gt=0, le=1e6)] = 1.0


class Cancel(Part):
    """A ``share`` of the requests is given up by the client ``after_s`` after it was sent."""

    share: Annotated[Number, Field(gt=0, le=1)]
    after_s: Seconds = Field(alias="after")


class Phase(Part):
    """One phase: ``rate`` with ``duration_s``; ``rounds``; a closed loop of ``concurrency`` with
    ``duration_s`` or so many ``requests``; or ``trace``.

    ``burstiness`` is the shape of gamma arrivals (1 is Poisson, smaller is burstier), None otherwise.
    ``drain_s`` None means: wait for every request (rounds). ``begins_s``: not before so long after the first
    phase began. ``reset_prefix_cache``: before it begins, the server makes its prefix cache empty.
    ``profile``: the server's profiler runs while it does. ``offset_s``: the phase's clock begins there, and
    what would come before is not sent. ``stream`` numbers the random numbers of its arrivals, None: by its
    place among the phases.
    """

    name: PhaseName
    rate: Rate | None = None
    duration_s: Seconds | None = Field(default=None, alias="duration")
    arrivals: Literal["constant", "poisson", "gamma"] = "constant"
    burstiness: Annotated[Number, Field(gt=0, le=1000)] | None = None
    rounds: Rounds | None = None
    concurrency: Annotated[Count, Field(le=MAX_AT_ONCE)] | None = None
    requests: Annotated[Count, Field(le=10**9)] | None = None
    trace: Replay | None = None
    warmup: Flag = False
    reset_prefix_cache: Flag = False
    profile: Flag = False
    max_in_flight: Count | None = None
    drain_s: Seconds | None = Field(default=None, alias="drain")
    cancel: Cancel | None = None
    begins_s: Seconds | None = Field(default=None, alias="begins")
    offset_s: Seconds = Field(default=0.0, alias="offset")
    stream: Annotated[int, Strict(), Field(ge=0, lt=2**31)] | None = None
    changes: tuple[Change, ...] = ()
    marks: tuple[Mark, ...] = ()

    @staticmethod
    def _kind(data: Mapping[str, Any]) -> str | None:
        kinds = (kind for kind in _KINDS if kind in data and (kind == "trace" or data[kind] is not None))
        return next(kinds, None)

    @classmethod
    def misplaced(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        kind = cls._kind(data)
        needs = "rate and duration, rounds, concurrency or trace"
        if kind is None:
            if "duration" in data:
                yield Mistake(f"is missing (a phase needs {needs})", "rate")
            else:
                yield Mistake(f"needs {needs}")
            return
        for key in data:
            if key not in ("name", kind, *_KINDS[kind]):
                yield Mistake(f"has no place beside {kind}; there go: {', '.join(_KINDS[kind])}", key)
        if kind == "rate" and data.get("duration") is None:
            yield Mistake(f"is missing (a phase needs {needs})", "duration")
        if kind == "concurrency" and (data.get("duration") is None) == (data.get("requests") is None):
            yield Mistake("a closed loop needs either duration or requests", "concurrency")

    @classmethod
    def filled(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        kind = cls._kind(data)
        if kind is None or kind == "rounds":
            return data
        more = {"trace": data["trace"] if data["trace"] is not None else {}} if kind == "trace" else {}
        return {"drain": format_duration(DEFAULT_DRAIN_S), **data, **more}

    def contradictions(self) -> Iterator[Mistake]:
        if self.duration_s is not None and self.duration_s <= 0:
            yield Mistake("must be longer than 0", "duration")
        if self.arrivals == "gamma" and self.burstiness is None:
            text = "gamma needs burstiness (1 is Poisson, smaller is burstier)"
            yield Mistake(text, "arrivals", ("burstiness",))
        if self.arrivals != "gamma" and self.burstiness is not None:
            yield Mistake("is for arrivals: gamma only", "burstiness", ("arrivals",))
        if self.rate is not None and self.rate.peak_end_s > (self.rate.over_s or self.duration_s or 0.0):
            yield Mistake("the spike must end within the phase", ("rate", "for"), ("duration",))
        if self.duration_s and self.offset_s >= self.duration_s:
            yield Mistake("must be less than the phase's duration", "offset", ("duration",))
        for key, listed in (("changes", self.changes), ("marks", self.marks)):
            times = [one.at_s for one in listed]
            if times != sorted(times):
                yield Mistake("must be in the order of time", key)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        written = handler.resolve_ref_schema(handler(core))
        needs: Mapping[str, Mapping[str, Any]] = {
            "rate": {"required": ["rate", "duration"]},
            "concurrency": {"oneOf": [{"required": ["duration"]}, {"required": ["requests"]}]},
        }
        kinds = [
            {
                "required": [kind],
                "propertyNames": {"enum": sorted(("name", kind, *keys))},
                **needs.get(kind, {}),
            }
            for kind, keys in _KINDS.items()
        ]
        return {**written, "oneOf": kinds}

    @property
    def lasts_s(self) -> float | None:
        """How long its arrivals take; None where only the run can tell."""
        return None if self.duration_s is None else self.duration_s - self.offset_s

    @property
    def peak_rps(self) -> float:
        """The highest rate that it asks for; 0 without one."""
        changed = [one.rate for one in self.changes if one.rate != "plan"]
        changed += [one.start for one in self.changes if one.start is not None]
        return max(
            [*changed, *((self.rate.start, self.rate.end) if self.rate is not None else ())], default=0.0
        )

    def rate_plan(self) -> PhasePlan:
        """The arrivals of a phase of kind rate, as the load workers need them."""
        assert self.rate is not None
        rate = self.rate
        return PhasePlan(
            name=self.name,
            rate_from=rate.start,
            rate_to=rate.end,
            duration_s=self.duration_s,
            arrivals=self.arrivals,
            burstiness=self.burstiness or 1.0,
            shape=rate.shape,
            steps=rate.holds,
            peak_at_s=rate.peak_at_s or 0.0,
            peak_for_s=rate.peak_for_s or 0.0,
            shape_s=rate.over_s,
            changes=self.rate_changes,
            offset_s=self.offset_s,
            stream=self.stream,
        )

    def timed_plan(self) -> PhasePlan:
        """When the phase begins and how long it takes; of a phase of kind rate, its rate too."""
        made = self.rate_plan() if self.rate is not None else PhasePlan(self.name, duration_s=self.duration_s)
        return replace(made, begins_s=self.begins_s, concurrency=self.concurrency or 0)

    @property
    def rate_changes(self) -> tuple[RateChange, ...]:
        return tuple(one.of_plan for one in self.changes)

    @property
    def exact(self) -> bool:
        """Whether the plan holds a known number of requests."""
        if self.rate is not None:
            return self.arrivals == "constant"
        return self.rounds is not None or self.requests is not None

    def expected_requests(self, models: int) -> float:
        """Requests planned: exact for rounds and constant arrivals, the mean for random ones, NaN where
        only the run can tell (a closed loop for some time, a trace)."""
        if self.rounds is not None:
            return float(self.rounds.requests(models))
        if self.requests is not None:
            return float(self.requests)
        if self.rate is None or self.duration_s is None:
            return math.nan
        line = self.rate_plan().line()
        return line.expected(self.duration_s) - line.expected(self.offset_s)
