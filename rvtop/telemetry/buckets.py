"""Differences of Prometheus histograms, and estimates from them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rvtop.contract.snapshot import ServerHist
from rvtop.telemetry.sample import Buckets


@dataclass(frozen=True, slots=True)
class Growth:
    """Events between two looks at a histogram: ``counts[i]`` fell into ``(le[i-1], le[i]]`` seconds.
    ``sum`` (seconds) is NaN when the page told none."""

    le: tuple[float, ...]
    counts: tuple[float, ...]
    sum: float


def growth(before: Buckets | None, after: Buckets) -> Growth:
    """What came between ``before`` and ``after``. A histogram that shrank began anew (its server
    restarted), so all of it is new; so is one that was not there before."""
    if before is None or before.le != after.le or after.count < before.count:
        before = Buckets(after.le, (0.0,) * len(after.le), 0.0, 0.0)
    counts = []
    below = 0.0
    for old, new in zip(before.cumulative, after.cumulative, strict=True):
        grown = new - old
        # The buckets of one page are not read at one instant: a count may seem to go back by a hair.
        counts.append(max(0.0, grown - below))
        below = max(below, grown)
    return Growth(after.le, tuple(counts), after.sum - before.sum)


def merged(growths: Iterable[Growth]) -> Growth | None:
    """All events together; None of nothing. Histograms with other edges meet on the union of the
    edges, each bucket at its own upper one (right at every edge that both have)."""
    parts = list(growths)
    if not parts:
        return None
    edges = sorted({edge for part in parts for edge in part.le})
    place = {edge: index for index, edge in enumerate(edges)}
    counts = [0.0] * len(edges)
    for part in parts:
        for edge, count in zip(part.le, part.counts, strict=True):
            counts[place[edge]] += count
    return Growth(tuple(edges), tuple(counts), sum(part.sum for part in parts))


def quantile(le: Sequence[float], counts: Sequence[float], q: float) -> float | None:
    """The ``q`` quantile (0..1) of per-bucket ``counts`` under edges ``le``, as Prometheus'
    ``histogram_quantile`` estimates it: events spread evenly over their bucket, the first bucket from
    0, and what lies above the last finite edge read as that edge. None without events."""
    total = sum(counts)
    if total <= 0:
        return None
    rank = q * total
    below, lower = 0.0, 0.0
    for edge, count in zip(le, counts, strict=True):
        if count > 0 and below + count >= rank:
            if math.isinf(edge):
                return lower if lower > 0 else None
            return lower + (edge - lower) * max(0.0, rank - below) / count
        below += count
        lower = edge
    return None


def mean(events: Growth | None, scale: float = 1000.0) -> float | None:
    """The mean, values on the page times ``scale``; None where nothing happened or no sum is told."""
    count = sum(events.counts) if events is not None else 0.0
    return scale * events.sum / count if events is not None and count and math.isfinite(events.sum) else None


def server_hist(events: Growth, scale: float = 1000.0) -> ServerHist:
    """The events as the screen reads them: values on the page times ``scale`` (of seconds: milliseconds),
    estimates None where nothing happened."""

    def at(q: float) -> float | None:
        value = quantile(events.le, events.counts, q)
        return None if value is None else scale * value

    le_ms = tuple(scale * edge for edge in events.le)
    return ServerHist(le_ms, events.counts, mean(events, scale), at(0.5), at(0.9), at(0.99))
