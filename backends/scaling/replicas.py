"""The replicas of a model as who changes their number sees them, and how it is brought to what is wanted."""

from __future__ import annotations

from typing import Protocol

from backends.process.restart import backoff


class Counted(Protocol):
    """Replicas of a model by what they do; ``wanted`` are all that are not to go."""

    @property
    def wanted(self) -> int: ...


class Replicas(Protocol):
    """The replicas of one model."""

    @property
    def model(self) -> str: ...

    def counts(self) -> Counted: ...

    def add(self) -> None:
        """Begins to start one more."""
        ...

    def retire(self) -> None:
        """Begins to retire one by drain, one that starts before one that serves."""
        ...

    async def close(self) -> None: ...


class Settling:
    """Brings ``pool`` to a number of replicas, a call at a time. A start that failed is tried again after a
    growing delay."""

    def __init__(self, pool: Replicas) -> None:
        self._pool = pool
        self.anew()

    def anew(self) -> None:
        """Another number is wanted: its starts have no failures behind them."""
        self._delays, self._not_before_s = backoff(), 0.0

    def settle(self, now_s: float, count: int) -> None:
        """Begins to start and to retire what it takes to get to ``count``; ``now_s`` is monotonic."""
        missing = count - self._pool.counts().wanted
        if missing > 0 and now_s >= self._not_before_s:
            self._not_before_s = now_s + next(self._delays)
            for _ in range(missing):
                self._pool.add()
        for _ in range(-missing):
            self._pool.retire()
