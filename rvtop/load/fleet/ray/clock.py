"""What another node's clock says of ours. Pure: it is given the readings and measures nothing itself.

Every machine counts ``perf_counter_ns`` from a moment of its own. A worker elsewhere keeps its node's clock,
so times on their way to it are shifted by the offset between the clocks, and times from it are shifted
back. The offset comes from exchanges of messages: the other clock was read between our sending and our
receiving, so each exchange bounds the offset from both sides, and all of them together bound it closer than
the quickest alone (K. Marzullo and S. Owicki, "Maintaining the time in a distributed system", 1983).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rvtop.load.plan.schedule import PlanEvent
from rvtop.load.worker.messages import Delta, WorkerSpec


@dataclass(frozen=True, slots=True)
class Exchange:
    """One question and its answer: ``remote_ns`` is the other clock, read between ``sent_ns`` and
    ``received_ns`` of ours."""

    sent_ns: int
    remote_ns: int
    received_ns: int


@dataclass(frozen=True, slots=True)
class Offset:
    """How far the other clock is ahead of ours: ``offset_ns`` ± ``error_ns``. The bound is strict, it is no
    deviation: nothing but the order of events was assumed."""

    offset_ns: int
    error_ns: int


@dataclass(frozen=True, slots=True)
class NodeClock:
    """The clock of a node, with the offset that every time is converted with from the start of the run to its
    end. (One offset for all, or workers would no longer derive the same plan.) ``drift_ns`` is how much the
    newest measurement lies off it, ± ``drift_error_ns``."""

    node_id: str
    address: str
    offset_ns: int
    error_ns: int
    drift_ns: int = 0
    drift_error_ns: int = 0

    def measured_again(self, newest: Offset) -> NodeClock:
        """The same offset, with what a later measurement says of it."""
        return replace(
            self,
            drift_ns=newest.offset_ns - self.offset_ns,
            drift_error_ns=newest.error_ns + self.error_ns,
        )


def offset_of(exchanges: Sequence[Exchange]) -> Offset:
    """The offset by all ``exchanges`` (made within a second or so). Raises ValueError without any, or for an
    answer that came before its question."""
    if not exchanges:
        raise ValueError("no exchange, no offset")
    if any(e.received_ns < e.sent_ns for e in exchanges):
        raise ValueError("an answer was received before its question was sent")
    low = max(e.remote_ns - e.received_ns for e in exchanges)
    high = min(e.remote_ns - e.sent_ns for e in exchanges)
    if low > high:  # one of the clocks jumped meanwhile: believe the quickest exchange
        best = min(exchanges, key=lambda e: e.received_ns - e.sent_ns)
        low, high = best.remote_ns - best.received_ns, best.remote_ns - best.sent_ns
    return Offset((low + high) // 2, (high - low + 1) // 2)


def to_node(message: Any, offset_ns: int) -> Any:
    """A message to a worker with its times on the node's clock."""
    if isinstance(message, PlanEvent):
        return replace(message, at_ns=message.at_ns + offset_ns)
    if isinstance(message, WorkerSpec):
        return replace(message, t0_ns=message.t0_ns + offset_ns)
    return message


def from_node(delta: Delta, offset_ns: int) -> Delta:
    """A worker's delta with its time on our clock. (Its lines count from the run's start already.)"""
    return replace(delta, t_ns=delta.t_ns - offset_ns)
