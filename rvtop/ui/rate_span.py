"""Charts against the rate instead of time: where latency and tokens bend. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rvtop.contract.snapshot import Series
from rvtop.ui.axis import nice
from rvtop.ui.format import rate

#: Figures cover so many seconds: a second counts for a rate that has stood for as long.
STOOD_S = 10
#: A rate that moved by up to this share meanwhile, as on a slow ramp, stood.
STOOD_WITHIN = 0.2
#: Cells of one bin of rates.
CELLS = 2
_UNIT = " rps"


def standing(series: Series) -> list[float | None]:
    """The rate that each point of ``series`` tells of; None where there was none or it changed."""
    made: list[float | None] = []
    for index in range(len(series.t_s)):
        recent = series.target_rps[max(0, index - STOOD_S + 1) : index + 1]
        known = [rps for rps in recent if rps is not None and rps > 0]
        stood = len(known) == STOOD_S and max(known) <= min(known) * (1 + STOOD_WITHIN)
        made.append(sum(known) / len(known) if stood else None)
    return made


@dataclass(frozen=True, slots=True)
class RateSpan:
    """``columns`` cells on a log scale of rates from ``low`` to ``high``."""

    columns: int
    low: float
    high: float
    rates: tuple[float | None, ...]  # of each point of the series

    @classmethod
    def of(cls, series: Series, columns: int) -> RateSpan | None:
        """All rates that ``series`` tells of; None without any."""
        rates = standing(series)
        known = [rps for rps in rates if rps is not None]
        if not known or columns < 1:
            return None
        low = nice(min(known), up=False)
        return cls(columns, low, max(nice(max(known) * 1.01, up=True), 5 * low), tuple(rates))

    def column(self, rps: float) -> int:
        """The first cell of the bin that holds a rate."""
        bins = max(1, self.columns // CELLS)
        place = math.floor(math.log(rps / self.low) / math.log(self.high / self.low) * bins + 1e-9)
        return min(max(0, place), bins - 1) * CELLS

    def means(self, t_s: Sequence[float], values: Sequence[float | None]) -> list[float | None]:
        """Means of ``values`` for each column; None for a rate that was not tried."""
        found: dict[int, list[float]] = {}
        for rps, value in zip(self.rates, values, strict=False):
            if rps is not None and value is not None:
                found.setdefault(self.column(rps), []).append(value)
        made: list[float | None] = [None] * self.columns
        for x, each in found.items():
            for column in range(x, min(self.columns, x + CELLS)):
                made[column] = sum(each) / len(each)
        return made

    def labels(self) -> str:
        """The scale below the chart: 1, 2 and 5 times a power of ten where they have room."""
        made, tick = "", self.low
        while tick <= self.high * (1 + 1e-9):
            text, x = rate(tick).removesuffix(".0"), self.column(tick)
            if x >= len(made) + bool(made) and x + len(text) + len(_UNIT) <= self.columns:
                made = made.ljust(x) + text
            tick = nice(tick * 1.5, up=True)
        return made.ljust(self.columns - len(_UNIT)) + _UNIT
