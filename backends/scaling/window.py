"""The number of requests over the last seconds, as Ray aggregates it: weighted by time."""

from __future__ import annotations

import math
from collections import deque


class Window:
    """Holds samples of the last ``seconds``. ``how``: mean | max | min."""

    def __init__(self, seconds: float, how: str = "mean") -> None:
        self._seconds = seconds
        self._how = how
        self._samples: deque[tuple[float, float]] = deque()

    def add(self, now_s: float, value: float) -> None:
        """``value`` holds from ``now_s`` on."""
        self._samples.append((now_s, value))
        while len(self._samples) > 1 and self._samples[1][0] <= now_s - self._seconds:
            self._samples.popleft()

    def value(self, now_s: float) -> float:
        """Over the window that ends at ``now_s``; 0 before the first sample."""
        if not self._samples:
            return 0.0
        if now_s <= self._samples[-1][0]:
            now_s = math.nextafter(self._samples[-1][0], math.inf)  # the newest one counts from its moment on
        begin_s = now_s - self._seconds
        ends = [*(at for at, _ in self._samples), now_s][1:]
        held = [
            (value, end - max(at, begin_s))
            for (at, value), end in zip(self._samples, ends, strict=True)
            if end > max(at, begin_s)
        ]
        if self._how == "max":
            return max(value for value, _ in held)
        if self._how == "min":
            return min(value for value, _ in held)
        return sum(value * seconds for value, seconds in held) / sum(seconds for _, seconds in held)
