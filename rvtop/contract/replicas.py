"""Replicas of a model where it is scaled: what the screen, the timeline and the summary have of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Replicas:
    """Those of one model. ``starting`` do not answer yet, ``draining`` end what they have begun, ``wanted``
    are to be there. ``target_requests``: what each is to hold at once. ``pending``: those of the starting
    ones that have no place in the cluster yet; ``nodes`` of that cluster."""

    model: str
    wanted: float | None = None
    starting: float | None = None
    healthy: float | None = None
    draining: float | None = None
    target_requests: float | None = None
    pending: float | None = None
    nodes: float | None = None

    @property
    def held(self) -> float:
        """Replicas that take up room."""
        return (self.starting or 0.0) + (self.healthy or 0.0) + (self.draining or 0.0)


def result_line(summary: Mapping[str, Any] | None) -> str:
    """The ``replicas`` block of a summary in one line; empty where there is none."""
    if summary is None:
        return ""
    first, over = summary["first_token_s"], summary["overshoot_replica_s"]
    took = "--" if first is None else f"{first:.0f} s"
    above = "--" if over is None else f"{over:.0f}"
    course = " → ".join(f"{summary[name]:.0f}" for name in ("first", "most", "last"))
    return (
        f"replicas {course}, first token of a new one {took} after the spike, "
        f"{summary['replica_seconds']:.0f} replica-seconds, {above} of them above what the load asked for"
    )


def is_scaled(wanted: Sequence[float | None], healthy: Sequence[float | None]) -> bool:
    """Whether the number of replicas changed, or is about to, in these seconds."""
    counts = list(zip(wanted, healthy, strict=True))
    known = {count for count in counts if None not in count}
    return len(known) > 1 or any(asked != there for asked, there in known)


def counts_line(replicas: Sequence[Replicas]) -> str:
    """``2 of 3, 1 starting``: of all models together."""
    total = {
        name: sum(getattr(one, name) or 0 for one in replicas)
        for name in ("wanted", "starting", "healthy", "draining")
    }
    parts = [f"{total['healthy']:.0f} of {total['wanted']:.0f}"]
    parts += [f"{total[name]:.0f} {name}" for name in ("starting", "draining") if total[name]]
    return ", ".join(parts)
