"""A finished latency histogram: what a screen draws and a log holds of a ``Histogram``.

Only the buckets that hold something, and without NumPy, which takes a tenth of a second to import: a process
that only shows figures starts without it.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate, pairwise

GAMMA = 1.02
BUCKETS = 1100  # 1 µs … ~ 2 800 s
LOG_GAMMA = math.log(GAMMA)


def middle_ns(bucket: int) -> float:
    """What a bucket is read back as, nanoseconds: the geometric middle of its edges."""
    return float(1000.0 * GAMMA**bucket / math.sqrt(GAMMA))


@lru_cache(64)
def _positions(edges_ns: tuple[float, ...]) -> tuple[float, ...]:
    """Where edges lie, in a unit in which bucket i lies between i and i + 1. Kept, since a chart asks
    with the same edges ten times a second."""
    places = (math.log(max(edge, 1.0) / 1000.0) / LOG_GAMMA + 1.0 for edge in edges_ns)
    return tuple(min(max(place, 0.0), float(BUCKETS)) for place in places)


@dataclass(frozen=True)
class Distribution:
    """``buckets`` are (index, count) with ascending indices below BUCKETS and counts above 0; their edges are
    those of ``Histogram``. Sums and extremes are nanoseconds."""

    buckets: tuple[tuple[int, int], ...] = ()
    sum_ns: int = 0
    min_ns: int = 0
    max_ns: int = 0

    @cached_property
    def _cumulative(self) -> list[int]:
        return list(accumulate((n for _, n in self.buckets), initial=0))

    @property
    def count(self) -> int:
        """Events in all."""
        return self._cumulative[-1]

    @property
    def mean_ns(self) -> float:
        """Mean in nanoseconds; NaN when empty."""
        return self.sum_ns / self.count if self.count else math.nan

    def percentile(self, q: float) -> float:
        """The duration (nanoseconds) that ``q`` percent of events do not exceed; NaN when empty."""
        if not self.count:
            return math.nan
        rank = max(1, math.ceil(self.count * q / 100.0))
        index = self.buckets[bisect_left(self._cumulative, rank) - 1][0]
        return min(max(middle_ns(index), self.min_ns), self.max_ns)

    def rebin(self, edges_ns: Sequence[float]) -> list[float]:
        """Events between consecutive edges (nanoseconds, ascending, n+1 of them), n figures.

        A bucket that straddles an edge is shared between its two sides in proportion to its
        logarithmic width, so a drawing finer than the buckets shows no comb.
        """
        below: list[float] = []
        buckets, cumulative, at = self.buckets, self._cumulative, 0
        for position in _positions(tuple(edges_ns)):
            while at < len(buckets) and buckets[at][0] + 1 <= position:
                at += 1
            within = 0.0
            if at < len(buckets) and buckets[at][0] < position:
                within = buckets[at][1] * (position - buckets[at][0])
            below.append(cumulative[at] + within)
        return [after - before for before, after in pairwise(below)]


EMPTY = Distribution()
