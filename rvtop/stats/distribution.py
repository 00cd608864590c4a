"""A finished latency histogram: what a screen draws and a log holds of a ``Histogram``.

Only the buckets that hold something, and without NumPy, which takes a tenth of a second to import: a process
that only shows figures starts without it.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

GAMMA = 1.02
BUCKETS = 1100  # 1 µs … ~ 2 800 s
LOG_GAMMA = math.log(GAMMA)


def middle_ns(bucket: int) -> float:
    """What a bucket is read back as, nanoseconds: the geometric middle of its edges."""
    return float(1000.0 * GAMMA**bucket / math.sqrt(GAMMA))


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
        below = [self._below(edge) for edge in edges_ns]
        return [after - before for before, after in pairwise(below)]

    def _below(self, edge_ns: float) -> float:
        """Events below an edge."""
        # In this unit bucket i lies between i and i + 1.
        position = math.log(max(edge_ns, 1.0) / 1000.0) / LOG_GAMMA + 1.0
        position = min(max(position, 0.0), float(BUCKETS))
        at = bisect_left(self.buckets, (math.floor(position), 0))
        within = 0.0
        if at < len(self.buckets) and self.buckets[at][0] <= position:
            within = self.buckets[at][1] * (position - self.buckets[at][0])
        return self._cumulative[at] + within


EMPTY = Distribution()
