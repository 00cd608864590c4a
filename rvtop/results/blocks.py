"""Figures of the blocks of a run: what intervals of its differences come from (``rvtop.stats.intervals``).

A latency is of the block in which its request was meant to be sent, each block having as many requests; a
rate is of a tenth of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rvtop.results.part import Part
from rvtop.results.table import LARGEST, Int64s, Requests
from rvtop.stats.distribution import BUCKETS
from rvtop.stats.histogram import Histogram
from rvtop.stats.intervals import BLOCKS
from rvtop.stats.slo import good

#: By figure (as in ``rvtop.results.compare``) its value in each block; None where that has too few.
Values = dict[str, list[float | None]]

#: Requests that a block must have for a figure of it to mean something: the p99 of fewer is their maximum.
LEAST = {"mean": 10, "p50": 10, "p90": 10, "p99": 100}
#: Of so many phases the blocks are told: each holds a column of the whole run in memory.
_MOST_PHASES = 20
_PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0}

Floats = npt.NDArray[np.float64]


class PartBlocks:
    """The requests of ``part`` by the block in which they were meant to be sent."""

    def __init__(self, part: Part) -> None:
        self.part = part
        intended = part.run.table.intended
        planned = np.sort(intended[part.mask])
        #: Where each block but the first begins, ns.
        self.edges: Int64s = planned[np.arange(1, BLOCKS) * planned.size // BLOCKS]
        self.planned = self.of(intended[part.mask])
        self.answered = self.of(intended[part.good])
        self.gaps = np.zeros((BLOCKS, BUCKETS), np.int64)  # counts of gaps between tokens

    @staticmethod
    def fit(part: Part) -> bool:
        """Whether a part has enough requests to be cut."""
        return int(part.mask.sum()) >= BLOCKS * LEAST["mean"]

    def of(self, intended: Int64s) -> Int64s:
        """The block of each of the n intended times, shape (n,)."""
        return np.searchsorted(self.edges, intended, side="right").astype(np.int64)

    def figures(self) -> Values:
        """All figures that can be told of blocks."""
        part = self.part
        made = self._latencies("ttft", part.ttft) | self._latencies("e2e", part.e2e) | self._itl()
        if not sum(part.unended.values()):  # else nobody knows when those were meant to be sent
            planned, answered = self._counts(self.planned), self._counts(self.answered)
            enough = planned >= LEAST["mean"]
            missed, share = BLOCKS * (planned - answered), 100 * answered / np.maximum(planned, 1)
            made["errors"] = _where(enough, missed)  # as many as the whole would have
            made["completed_pct"] = _where(enough, share)
        return made | self._rates()

    def _counts(self, block: Int64s) -> Int64s:
        return np.bincount(block, minlength=BLOCKS)

    def _latencies(self, name: str, values: Floats) -> Values:
        made: Values = {f"{name}_{key}": [] for key in LEAST}
        for k in range(BLOCKS):
            here = values[(self.answered == k) & ~np.isnan(values)]
            points = np.percentile(here, list(_PERCENTILES.values())).tolist() if here.size else [0.0] * 3
            mean = float(here.mean()) if here.size else 0.0
            for key, value in zip(LEAST, (mean, *points), strict=True):
                made[f"{name}_{key}"].append(value if here.size >= LEAST[key] else None)
        return made

    def _itl(self) -> Values:
        """Of gaps there are many a request: it is requests that count as few."""
        part, table = self.part, self.part.run.table
        requests = self._counts(self.answered)
        span = (table.last[part.good] - table.begun[part.good]).astype(np.float64)
        gaps = np.maximum(table.chunks[part.good] - 1, 0)
        spans = np.bincount(self.answered, span, BLOCKS)
        counts = np.bincount(self.answered, gaps.astype(np.float64), BLOCKS)
        made: Values = {
            "itl_mean": [
                float(spans[k] / counts[k] / 1e6) if counts[k] and requests[k] >= LEAST["mean"] else None
                for k in range(BLOCKS)
            ]
        }
        histograms = [Histogram.from_sparse(enumerate(one.tolist())) for one in self.gaps]
        for key, q in _PERCENTILES.items():
            enough = [
                h.count >= LEAST[key] and n >= LEAST["mean"]
                for h, n in zip(histograms, requests, strict=True)
            ]
            made[f"itl_{key}"] = [
                h.percentile(q) / 1e6 if ok else None for h, ok in zip(histograms, enough, strict=True)
            ]
        return made

    def _rates(self) -> Values:
        """Tokens are spread evenly from a request's first to its last one; a good request is of the time at
        which it ended. The mean of all is the figure of the whole."""
        part, table = self.part, self.part.run.table
        if part.ok_count < BLOCKS * LEAST["mean"] or not part.total_s:
            return {}
        begin = float(table.intended[part.mask].min())
        first, last = table.begun[part.good].astype(np.float64), table.last[part.good].astype(np.float64)
        took = np.maximum(last - first, 1.0)
        edges = begin + np.linspace(0.0, 1e9 * part.total_s, BLOCKS + 1)
        until = [float((part.tokens * np.clip((edge - first) / took, 0.0, 1.0)).sum()) for edge in edges]
        made: Values = {}
        if part.output is not None:
            made["tps"] = [float(n) * BLOCKS / part.total_s for n in np.diff(until)]
        if any(limits for _, limits in part.run.slos):
            intended = table.intended[part.good]
            met = good(part.run.slos, intended, part.ttft, part.e2e, part.tokens)
            block = (last[met] - begin) / (1e9 * part.elapsed_s) * BLOCKS
            counts = np.bincount(np.clip(block, 0, BLOCKS - 1).astype(np.int64), minlength=BLOCKS)
            made["goodput_rps"] = [float(n) * BLOCKS / part.elapsed_s for n in counts]
        return made


class Blocks:
    """The blocks of all that was measured, and of its first phases: those that have enough requests."""

    def __init__(self, whole: Part) -> None:
        self._whole = [PartBlocks(whole)] if PartBlocks.fit(whole) else []
        self._phases: dict[str, PartBlocks] = {}

    def add(self, name: str, part: Part) -> None:
        """Keeps a phase, if it is among those whose blocks are told."""
        if len(self._phases) < _MOST_PHASES and PartBlocks.fit(part):
            self._phases[name] = PartBlocks(part)

    def figures(self, table: Requests) -> dict[str, Any]:
        """As ``summary.json`` has them. ``table``: of which the parts are."""
        count_gaps(table, [*self._whole, *self._phases.values()])
        return {
            "whole": self._whole[0].figures() if self._whole else {},
            "phases": {name: one.figures() for name, one in self._phases.items()},
        }


def _where(enough: npt.NDArray[np.bool_], values: npt.NDArray[Any]) -> list[float | None]:
    return [float(value) if ok else None for value, ok in zip(values, enough, strict=True)]


def count_gaps(table: Requests, parts: Sequence[PartBlocks]) -> None:
    """Puts the gaps between tokens into the blocks of each part."""
    for some in table.each_gaps:
        for one in parts:
            mine = one.part.good[some.row]
            block = np.where(mine, one.of(table.intended[some.row]), -1)
            one.gaps = np.minimum(one.gaps + some.counts(block, BLOCKS, LARGEST), LARGEST)
