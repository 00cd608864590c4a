"""A load that repeats itself, each day for example: what is known of its requests ahead of now."""

from __future__ import annotations

#: Parts that a pattern is remembered in: five minutes of a day.
_PARTS = 288
_LEAST_S = 1.0


class Pattern:
    """Remembers, for each part of ``length_s``, the requests that there were in it: their mean over the part,
    half of it of the newest pass and half of those before."""

    def __init__(self, length_s: float) -> None:
        self._part_s = max(_LEAST_S, length_s / _PARTS)
        self._parts = max(1, round(length_s / self._part_s))
        self._length_s = length_s
        self._known: dict[int, float] = {}
        self._part: int | None = None
        self._sum = self._count = 0.0

    def learn(self, now_s: float, requests: float) -> None:
        """A sample of now."""
        part = self._at(now_s)
        if part != self._part:
            self._close()
            self._part = part
        self._sum += requests
        self._count += 1

    def most(self, now_s: float, ahead_s: float) -> float | None:
        """The most requests that are to be expected until ``ahead_s`` from now; None in a first pass."""
        first, count = self._at(now_s), min(self._parts, int(ahead_s / self._part_s) + 1)
        known = [
            self._known[part]
            for n in range(1, count + 1)
            if (part := (first + n) % self._parts) in self._known
        ]
        return max(known, default=None)

    def _at(self, now_s: float) -> int:
        return int(now_s % self._length_s / self._part_s) % self._parts

    def _close(self) -> None:
        if self._part is not None:
            mean = self._sum / self._count
            before = self._known.get(self._part)
            self._known[self._part] = mean if before is None else (mean + before) / 2
        self._sum = self._count = 0.0
