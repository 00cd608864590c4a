"""The number of requests over the last seconds, as Ray aggregates it: weighted by time."""

from __future__ import annotations

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
        values = [value for _, value in self._samples]
        if self._how == "max":
            return max(values)
        if self._how == "min":
            return min(values)
        begin_s = max(self._samples[0][0], now_s - self._seconds)
        if now_s <= begin_s:
            return values[-1]
        ends = [*(at for at, _ in self._samples), now_s][1:]
        area = sum(
            value * (end - max(at, begin_s)) for (at, value), end in zip(self._samples, ends, strict=True)
        )
        return area / (now_s - begin_s)
