"""Figures of the blocks of a run: what intervals of its differences come from (``rvtop.stats.intervals``).

A latency is of the block in which its request was meant to be sent, each block having as many requests; a
rate is of a tenth of the time.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rvtop.results.lines import Unread, json_lines
from rvtop.results.part import Part
from rvtop.results.table import LARGEST, Int64s
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
#: Numbers of gaps that are held before they are counted.
_HELD = 1 << 18
_PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0}

Floats = npt.NDArray[np.float64]


class PartBlocks:
    """The requests of ``part`` by the block in which they were meant to be sent. ``phases``: the names of
    those that the part is of."""

    def __init__(self, part: Part, phases: Sequence[str]) -> None:
        self.part = part
        self.phases = frozenset(phases)
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
            here = values[self.answered == k]
            points = np.percentile(here, list(_PERCENTILES.values())).tolist() if here.size else [0.0] * 3
            mean = float(here.mean()) if here.size else 0.0
            for key, value in zip(LEAST, (mean, *points), strict=True):
                made[f"{name}_{key}"].append(value if here.size >= LEAST[key] else None)
        return made

    def _itl(self) -> Values:
        """Of gaps there are many a request: it is requests that count as few."""
        part, table = self.part, self.part.run.table
        requests = self._counts(self.answered)
        span = (table.last[part.good] - table.first[part.good]).astype(np.float64)
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
        first, last = table.first[part.good].astype(np.float64), table.last[part.good].astype(np.float64)
        took = np.maximum(last - first, 1.0)
        edges = begin + np.linspace(0.0, 1e9 * part.total_s, BLOCKS + 1)
        until = [float((part.tokens * np.clip((edge - first) / took, 0.0, 1.0)).sum()) for edge in edges]
        made: Values = {"tps": [float(n) * BLOCKS / part.total_s for n in np.diff(until)]}
        if any(limits for _, limits in part.run.slos):
            intended = table.intended[part.good]
            met = good(part.run.slos, intended, part.ttft, part.e2e, part.tokens)
            block = (last[met] - begin) / (1e9 * part.elapsed_s) * BLOCKS
            counts = np.bincount(np.clip(block, 0, BLOCKS - 1).astype(np.int64), minlength=BLOCKS)
            made["goodput_rps"] = [float(n) * BLOCKS / part.elapsed_s for n in counts]
        return made


class Blocks:
    """The blocks of all that was measured, which are the ``phases``, and of the first of these themselves:
    those that have enough requests."""

    def __init__(self, whole: Part, phases: Sequence[str]) -> None:
        self._whole = [PartBlocks(whole, phases)] if PartBlocks.fit(whole) else []
        self._phases: dict[str, PartBlocks] = {}

    def add(self, name: str, part: Part) -> None:
        """Keeps a phase, if it is among those whose blocks are told."""
        if len(self._phases) < _MOST_PHASES and PartBlocks.fit(part):
            self._phases[name] = PartBlocks(part, [name])

    def figures(self, requests: Path) -> dict[str, Any]:
        """As ``summary.json`` has them. ``requests``: the file of which the parts are."""
        count_gaps(requests, [*self._whole, *self._phases.values()])
        return {
            "whole": self._whole[0].figures() if self._whole else {},
            "phases": {name: one.figures() for name, one in self._phases.items()},
        }


def _where(enough: npt.NDArray[np.bool_], values: npt.NDArray[Any]) -> list[float | None]:
    return [float(value) if ok else None for value, ok in zip(values, enough, strict=True)]


def count_gaps(requests: Path, parts: Sequence[PartBlocks]) -> None:
    """Reads the gaps between tokens once more, of which the table has only sums: a second reading costs less
    than holding those of a million requests."""
    if not parts:
        return
    gaps = _Gaps(parts)
    for row in json_lines(requests, Unread(requests)):
        try:
            if not row["error"] and row["first_token_ns"] is not None:
                gaps.add(row["phase"], row["intended_ns"], row["itl_hist"])
        except (KeyError, TypeError, ValueError, OverflowError):
            continue  # a line that the table left out, too
    gaps.count()


class _Gaps:
    """Requests' gaps, a few at a time, on their way to the blocks."""

    def __init__(self, parts: Sequence[PartBlocks]) -> None:
        self._parts = parts
        self._phases: dict[str, int] = {}
        self._empty()

    def _empty(self) -> None:
        self._requests = array("q")  # phase, intended time (ns) and number of buckets of each
        self._pairs = array("q")  # bucket and count of each of these

    def add(self, phase: str, intended_ns: int, histogram: list[list[int]]) -> None:
        """Adds those of a request. Raises TypeError, ValueError or OverflowError for what is none."""
        pairs = array("q", chain.from_iterable(histogram))
        if len(pairs) != 2 * len(histogram):
            raise ValueError("itl_hist: not pairs")
        number = self._phases.setdefault(phase, len(self._phases))
        self._requests.extend(array("q", (number, intended_ns, len(histogram))))  # whole or not at all
        self._pairs.extend(pairs)
        if len(self._pairs) > _HELD:
            self.count()

    def count(self) -> None:
        """Puts what was added into the blocks of each part."""
        phase, intended, sizes = np.array(self._requests, np.int64).reshape(-1, 3).T
        bucket, count = np.array(self._pairs, np.int64).reshape(-1, 2).T
        self._empty()
        known = (bucket >= 0) & (bucket < BUCKETS) & (count >= 0) & (count <= LARGEST)
        for part in self._parts:
            own = np.isin(phase, [n for name, n in self._phases.items() if name in part.phases])
            mine = np.repeat(own, sizes) & known
            place = np.repeat(part.of(intended), sizes)[mine] * BUCKETS + bucket[mine]
            found = np.bincount(place, count[mine], BLOCKS * BUCKETS)
            part.gaps += np.minimum(found, LARGEST).astype(np.int64).reshape(BLOCKS, BUCKETS)
