"""Scales that do not move with every point: a log axis, a linear maximum, time in bins of fixed length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from rvtop.ui.format import tick

_STEPS = (1.0, 2.0, 5.0)


def nice(value: float, *, up: bool) -> float:
    """The nearest 1, 2 or 5 times a power of ten that is not below (``up``) or not above ``value``."""
    decade = 10.0 ** math.floor(math.log10(value))
    ladder = [step * decade for step in (*_STEPS, 10.0)]
    if up:
        return next(step for step in ladder if step >= value * (1 - 1e-9))
    return max(step for step in ladder if step <= value * (1 + 1e-9))


class LogAxis:
    """A log axis from ``low`` to ``high`` ms. It keeps its ends while the data lie between them.

    It moves when data lie outside, when a new phase begins (``refit``), and when the data have used less
    than half of it (head room included) for ``LOOSE_S``: one slow first request must not squeeze all
    later ones.
    """

    LOOSE_S = 20.0
    LEAST = math.sqrt(10.0)  # the ends are at least half a decade apart
    NARROW = 10.0  # such a part is never made narrower
    HEAD = 2.0  # room above the slowest

    def __init__(self, low: float = 10.0, high: float = 2000.0) -> None:
        self.low, self.high = low, high
        self._fitted = self._used = False
        self._loose_since: float | None = None

    def include(self, low: float, high: float, t_s: float = 0.0) -> bool:
        """Makes room for data of ``low``..``high`` ms seen at ``t_s``; True if the axis moved under
        something that was drawn before."""
        before = (self.low, self.high)
        low, high = max(low, 1e-3), max(high, low, 1e-3)
        if not self._fitted or self._is_loose(low, high, t_s):
            # More room on the slow side: that is where load will push them.
            self.low = nice(low / 1.5, up=False)
            self.high = max(nice(high * self.HEAD, up=True), nice(self.low * self.LEAST, up=True))
            self._loose_since = None
        if low < self.low:
            self.low = nice(low, up=False)
        if high > self.high:
            # One step of head room, or a growing queue would move the axis with every request.
            self.high = nice(high * 1.6, up=True)
        moved = self._used and (self.low, self.high) != before
        self._fitted = self._used = True
        return moved

    def _is_loose(self, low: float, high: float, t_s: float) -> bool:
        used = math.log(high * self.HEAD / (low / 1.5)) / math.log(self.high / self.low)
        if used > 0.5 or self.high / self.low <= self.NARROW * (1 + 1e-9):
            self._loose_since = None
        elif self._loose_since is None:
            self._loose_since = t_s
        return self._loose_since is not None and t_s - self._loose_since >= self.LOOSE_S

    def refit(self) -> None:
        """Lets the next data set the ends anew (a new phase has begun)."""
        self._fitted = False

    def position(self, ms: float, width: int) -> float:
        """Where ``ms`` lies on ``width`` cells: 0 at the left end, ``width`` at the right one."""
        if ms <= 0:
            return 0.0
        return math.log(ms / self.low) / math.log(self.high / self.low) * width

    def column(self, ms: float, width: int) -> int:
        """The cell that holds ``ms``: below 0 or ``width`` and more when it lies outside."""
        return math.floor(self.position(ms, width) + 1e-9)

    def edges(self, width: int) -> list[float]:
        """The ``width`` + 1 edges of the cells, in ms."""
        return list(_edges(self.low, self.high, width))

    def ticks(self, width: int) -> list[tuple[int, str]]:
        """Columns and labels that fit without touching, rounder values first."""
        return list(_ticks(self.low, self.high, width))


@lru_cache(64)  # an axis stays for seconds, and is drawn ten times in each of them
def _edges(low: float, high: float, width: int) -> tuple[float, ...]:
    ratio = high / low
    return tuple(low * ratio ** (i / width) for i in range(width + 1))


@lru_cache(64)
def _ticks(low: float, high: float, width: int) -> list[tuple[int, str]]:
    axis = LogAxis(low, high)
    values = []
    value = low
    while value <= high * (1 + 1e-9):
        values.append(value)
        value = nice(value * 1.5, up=True)
    taken: list[tuple[int, int, str]] = []
    for step in (1.0, 5.0, 2.0):
        for value in values:
            mantissa = value / 10.0 ** math.floor(math.log10(value) + 1e-9)
            if abs(mantissa - step) > 1e-6:
                continue
            label = tick(float(f"{value:.3g}")).removesuffix(" ms")
            column = min(max(0, axis.column(value, width)), width - len(label))
            if column >= 0 and all(
                column >= end + 2 or column + len(label) + 2 <= begin for begin, end, _ in taken
            ):
                taken.append((column, column + len(label), label))
    ticks = [(begin, label) for begin, _, label in sorted(taken)]
    for i, (begin, label) in enumerate(ticks):  # the unit once, at the first that has room for it
        end = ticks[i + 1][0] - 2 if i + 1 < len(ticks) else width
        if label.isdigit() and begin + len(label) + 3 <= end:
            ticks[i] = (begin, label + " ms")
            break
    return ticks


class StickyMax:
    """The upper end of a linear scale: grows at once, shrinks only when less than 40 % of it is used."""

    _LADDER = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)

    def __init__(self, least: float = 1.0) -> None:
        self._least = least
        self.value = least

    def follow(self, highest: float) -> float:
        """Returns the upper end of the scale for data up to ``highest``."""
        if highest > self.value or highest < 0.4 * self.value:
            self.value = max(self._least, self._above(highest))
        return self.value

    def _above(self, highest: float) -> float:
        if highest <= 0:
            return self._least
        decade = 10.0 ** math.floor(math.log10(highest))
        return next(step * decade for step in self._LADDER if step * decade >= highest * (1 - 1e-9))


def bins(
    t_s: Sequence[float], values: Sequence[float | None], length_s: int, count: int
) -> list[float | None]:
    """The newest points as ``count`` means over ``length_s`` seconds each, the oldest first.

    Bins lie at whole multiples of their length since the session's start, so that a column moves left
    but never changes its height while it does. A bin with no figure is None.
    """
    if count <= 0 or not t_s:
        return [None] * max(0, count)
    last = math.floor(t_s[-1] / length_s)
    first = last - count + 1
    sums = [0.0] * count
    counts = [0] * count
    for i in range(len(t_s) - 1, -1, -1):
        column = math.floor(t_s[i] / length_s) - first
        if column < 0:
            break
        value = values[i]
        if value is not None:
            sums[column] += value
            counts[column] += 1
    return [s / n if n else None for s, n in zip(sums, counts, strict=True)]


def history(
    t_s: Sequence[float], values: Sequence[float | None], columns: int, span_s: int = 120
) -> list[float | None]:
    """The last ``span_s`` seconds as ``columns`` cells: charts of different widths beside each other show
    the same time. A bin takes one cell or two."""
    if columns <= 0:
        return []
    length = math.ceil(span_s / columns)
    made = bins(t_s, values, length, span_s // length)
    return [made[x * len(made) // columns] for x in range(columns)]
