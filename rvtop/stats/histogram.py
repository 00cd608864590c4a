"""A mergeable latency histogram with log-spaced buckets.

Bucket ``i`` holds durations in ``(GAMMA**(i-1), GAMMA**i]`` microseconds and is read back as the
geometric middle of its edges, so any percentile is within 1 % of the exact one (the idea of
DDSketch, Masson et al., VLDB 2019, with a fixed range instead of a growing one). Two histograms
of the same events, however they were split between workers, add up to the same counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from rvtop.stats.distribution import BUCKETS, GAMMA, LOG_GAMMA, Distribution

_SLACK = 1e-9  # of a bucket: an edge belongs to the bucket below it, however it was rounded
_FEW = 48  # up to here a loop is faster than NumPy

#: The percentiles that are reported, by name.
QUANTILES = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p999": 99.9}

Int64s = npt.NDArray[np.int64]
Float64s = npt.NDArray[np.float64]

#: Upper edge of each bucket, nanoseconds, shape (BUCKETS,).
UPPER_NS: Float64s = 1000.0 * np.power(GAMMA, np.arange(BUCKETS, dtype=np.float64))
#: What a bucket is read back as, nanoseconds, shape (BUCKETS,).
MIDDLE_NS: Float64s = UPPER_NS / math.sqrt(GAMMA)


def bucket_of(ns: npt.ArrayLike) -> Int64s:
    """Bucket indices of durations in nanoseconds; what lies outside the range goes to its end."""
    us = np.maximum(np.asarray(ns, dtype=np.float64), 1000.0) / 1000.0  # the first bucket ends at 1 µs
    index: Float64s = np.ceil(np.log(us) / LOG_GAMMA - _SLACK)
    return np.minimum(index, float(BUCKETS - 1)).astype(np.int64)


def _last_ns() -> Int64s:
    """The last whole nanosecond of each bucket, shape (BUCKETS,): what ``bucket_of`` does, as a table."""
    upper = 1000.0 * np.exp((np.arange(BUCKETS) + _SLACK) * LOG_GAMMA)
    near = np.floor(upper).astype(np.int64)[:, None] + np.arange(-2, 3)
    inside = bucket_of(near) <= np.arange(BUCKETS)[:, None]
    last: Int64s = np.where(inside, near, 0).max(axis=1)
    return last


LAST_NS = _last_ns()


def _bucket(ns: int) -> int:
    """``bucket_of`` of one duration."""
    index = math.ceil(math.log(max(ns, 1000) / 1000.0) / LOG_GAMMA - _SLACK)
    return min(index, BUCKETS - 1)


class Histogram:
    """Counts of durations. ``counts`` has shape (BUCKETS,); sums and extremes are nanoseconds."""

    __slots__ = ("count", "counts", "max_ns", "min_ns", "sum_ns")

    def __init__(self) -> None:
        self.counts: Int64s = np.zeros(BUCKETS, dtype=np.int64)
        self.count = 0
        self.sum_ns = 0
        self.min_ns = 0
        self.max_ns = 0

    @classmethod
    def of(cls, ns: npt.ArrayLike) -> Histogram:
        """A histogram of the durations in ``ns`` (nanoseconds, any shape)."""
        made = cls()
        made.add(ns)
        return made

    def add(self, ns: npt.ArrayLike) -> None:
        """Counts every duration in ``ns`` (nanoseconds, any shape)."""
        values = np.asarray(ns, dtype=np.int64).ravel()
        if values.size == 0:
            return
        if values.size <= _FEW:
            few: list[int] = values.tolist()
            for value in few:
                self.counts[_bucket(value)] += 1
            self._absorb(len(few), sum(few), min(few), max(few))
            return
        self.counts += np.bincount(bucket_of(values), minlength=BUCKETS)
        self._absorb(values.size, int(values.sum()), int(values.min()), int(values.max()))

    def merge(self, other: Histogram) -> None:
        """Adds the events of ``other`` to this histogram."""
        if other.count == 0:
            return
        self.counts += other.counts
        self._absorb(other.count, other.sum_ns, other.min_ns, other.max_ns)

    def _absorb(self, count: int, sum_ns: int, min_ns: int, max_ns: int) -> None:
        self.min_ns = min_ns if self.count == 0 else min(self.min_ns, min_ns)
        self.max_ns = max_ns if self.count == 0 else max(self.max_ns, max_ns)
        self.count += count
        self.sum_ns += sum_ns

    @property
    def mean_ns(self) -> float:
        """Mean in nanoseconds; NaN when empty."""
        return self.sum_ns / self.count if self.count else math.nan

    def percentile(self, q: float) -> float:
        """The duration (nanoseconds) that ``q`` percent of events do not exceed; NaN when empty."""
        if self.count == 0:
            return math.nan
        rank = max(1, math.ceil(self.count * q / 100.0))
        index = int(np.searchsorted(np.cumsum(self.counts), rank))
        return float(min(max(MIDDLE_NS[index], self.min_ns), self.max_ns))

    def sparse(self) -> dict[int, int]:
        """Only the buckets that hold something: index to count."""
        filled = np.flatnonzero(self.counts)
        return {int(i): int(self.counts[i]) for i in filled}

    def distribution(self) -> Distribution:
        """What it holds now, for a screen or a log."""
        return Distribution(tuple(self.sparse().items()), self.sum_ns, self.min_ns, self.max_ns)

    @classmethod
    def from_sparse(cls, buckets: Iterable[tuple[int, int]]) -> Histogram:
        """Rebuilds a histogram from (index, count) pairs; sums and extremes come from bucket middles."""
        made = cls()
        for index, count in buckets:
            if not 0 <= index < BUCKETS or count < 0:
                raise ValueError(f"no such histogram bucket: {index}: {count}")
            made.counts[index] += count
        filled = np.flatnonzero(made.counts)
        if filled.size:
            made.count = int(made.counts.sum())
            made.sum_ns = int((made.counts * MIDDLE_NS).sum())
            made.min_ns = int(MIDDLE_NS[filled[0]])
            made.max_ns = int(MIDDLE_NS[filled[-1]])
        return made

    def copy(self) -> Histogram:
        """An independent copy."""
        made = Histogram()
        made.merge(self)
        return made

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        return bool(np.array_equal(self.counts, other.counts)) and (
            self.count,
            self.sum_ns,
            self.min_ns,
            self.max_ns,
        ) == (other.count, other.sum_ns, other.min_ns, other.max_ns)

    __hash__ = None  # type: ignore[assignment]
