"""One phase of a plan, as the load workers need it."""

from __future__ import annotations

from dataclasses import dataclass

from rvtop.load.plan.arrivals import Kind, Ramp, RateLine, Shape

NEVER = 1 << 62


@dataclass(frozen=True, slots=True)
class RateChange:
    """From ``at_s`` of the phase's clock on the rate is ``rate``, which ``ramp`` leads to; None: the planned
    one again."""

    at_s: float
    rate: float | None
    ramp: Ramp | None = None

    def left(self, at_s: float) -> Ramp | None:
        """What is left of its ramp at ``at_s`` of the phase's clock."""
        if self.rate is None or self.ramp is None:
            return None
        return self.ramp.left(self.rate, at_s - self.at_s)


@dataclass(frozen=True, slots=True)
class PhasePlan:
    """Arrivals at a rate; ``burst`` requests at once; or a closed loop of ``concurrency`` requests, each
    followed by the next one as it ends.

    ``trace``: arrivals are those of the workload's trace, whose mean rate (times its speed) is the rate.
    ``limit`` ends a closed loop after so many requests.
    """

    name: str
    rate_from: float = 0.0
    rate_to: float = 0.0
    duration_s: float | None = None  # None: until an "end" entry
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
    trace_speed: float = 1.0
    cancel_share: float = 0.0  # of the requests, given up by the client …
    cancel_after_s: float = 0.0  # … so long after they were sent
    shape_s: float | None = None  # the time that the shape takes; None: the phase's
    changes: tuple[RateChange, ...] = ()  # of the rate, in the order of time
    offset_s: float = 0.0  # the phase's clock begins here; what comes before is not sent
    stream: int | None = None  # of random arrivals; None: the phase's number
    reset_prefix_cache: bool = False  # before it begins, the server's prefix cache is made empty
    profile: bool = False  # the server's profiler runs while it does
    begins_s: float | None = None  # not before so long after the first phase began

    @property
    def offset_ns(self) -> int:
        return round(self.offset_s * 1e9)

    @property
    def lasts_s(self) -> float | None:
        """How long its arrivals take; None: until an "end" entry."""
        return None if self.duration_s is None else self.duration_s - self.offset_s

    def line(self) -> RateLine:
        """The planned rate over the phase's time."""
        line = self._shape()
        if self.changes:
            planned = self._shape()
            for change in self.changes:
                if change.rate is None:
                    line.splice(change.at_s, planned)
                else:
                    line.ramp_to(change.at_s, change.rate, change.ramp)
        return line

    def _shape(self) -> RateLine:
        """The rate before it is changed."""
        shape_s = self.duration_s if self.shape_s is None else self.shape_s
        if shape_s is None or self.rate_from == self.rate_to:
            return RateLine.constant(self.rate_from)
        return RateLine.shaped(
            self.shape,
            self.rate_from,
            self.rate_to,
            shape_s,
            steps=self.steps,
            peak_at=self.peak_at_s,
            peak_for=self.peak_for_s,
        )


def end_ns(phase: PhasePlan, start_ns: int) -> int:
    """When the arrivals of ``phase``, whose clock begins at ``start_ns``, end by themselves; NEVER if they
    don't."""
    if phase.burst:
        return start_ns + 1
    return NEVER if phase.duration_s is None else start_ns + round(phase.duration_s * 1e9)
