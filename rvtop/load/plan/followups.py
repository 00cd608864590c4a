"""What a worker does because something ended or takes long: the next request of a closed loop, and the
cancelling of requests, where the scenario asks for it. What follows in a conversation or a task is in
``steps``. Pure: no clock, no I/O.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field

from rvtop.load.plan.schedule import NEVER
from rvtop.load.wire.record import Record

#: A slot of a closed loop rests this long after a failure, so that a server that refuses is not hammered.
REST_NS = 100_000_000

_MASK = (1 << 64) - 1


@dataclass(slots=True)
class Slots:
    """The free slots of a closed loop, by the time from which each may send.

    ``left``: requests that this worker may still begin, None without a limit.
    """

    size: int = 0  # this worker's share of the concurrency
    left: int | None = None
    number: int = 0  # requests that were begun
    _free: list[int] = field(default_factory=list)
    _surplus: int = 0  # slots in use that are to go as they end

    @property
    def next_ns(self) -> int:
        """When a slot may send; NEVER while all are in use or nothing is left."""
        return self._free[0] if self._free and self.left != 0 else NEVER

    def resize(self, size: int, now_ns: int) -> None:
        """Another share of the concurrency."""
        for _ in range(size - self.size):
            self.free(now_ns)
        for _ in range(self.size - size):
            if self._free:
                self._free.pop()
            else:
                self._surplus += 1
        heapq.heapify(self._free)
        self.size = size

    def take(self) -> int:
        """Uses the slot that was free first; returns since when."""
        self.number += 1
        if self.left is not None:
            self.left -= 1
        return heapq.heappop(self._free)

    def free(self, at_ns: int) -> None:
        """A slot may send again, from ``at_ns`` on."""
        if self._surplus:
            self._surplus -= 1
        else:
            heapq.heappush(self._free, at_ns)

    def wait_until(self, at_ns: int) -> None:
        """No slot sends before ``at_ns``: a pause is not caught up."""
        self._free = sorted(max(since, at_ns) for since in self._free)


class Cancels:
    """Requests that the client will cancel, soonest first."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._due: deque[tuple[int, Record]] = deque()

    @property
    def next_ns(self) -> int:
        """When the next one is to be cancelled; NEVER if none is."""
        return self._due[0][0] if self._due else NEVER

    def add(self, record: Record, share: float, after_ns: int) -> None:
        """Notes a request that was just sent, if it is one of the ``share``; which ones is in the seed."""
        if chosen(self._seed, record.seq) < share:
            at_ns = record.sent_ns + after_ns
            if (
                self._due and self._due[-1][0] > at_ns
            ):  # only where one phase gives up sooner than the one before
                self._due = deque(sorted([*self._due, (at_ns, record)], key=lambda one: one[0]))
            else:
                self._due.append((at_ns, record))

    def take(self, now_ns: int) -> list[Record]:
        """Those whose time has come."""
        out = []
        while self._due and self._due[0][0] <= now_ns:
            out.append(self._due.popleft()[1])
        return out


def chosen(seed: int, number: int) -> float:
    """A number in [0, 1) that follows from (seed, number) alone, evenly spread (SplitMix64; Steele et al.,
    OOPSLA 2014)."""
    z = (seed * 0x9E3779B97F4A7C15 + (number + 1) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return ((z ^ (z >> 31)) >> 11) / (1 << 53)
