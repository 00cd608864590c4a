"""The figures of one part of a run (a phase, a model, all that was measured), a function for each block.

Times are milliseconds unless a name says otherwise; what was never measured is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from rvtop.results.client import client_summary
from rvtop.results.kv import kv_summary
from rvtop.results.scaling import scaling_summary
from rvtop.results.server import server_summary
from rvtop.results.table import LARGEST, NONE, Bools, Requests
from rvtop.results.ttft_parts import ttft_parts
from rvtop.stats.histogram import QUANTILES, Histogram
from rvtop.stats.limits import client_limited
from rvtop.stats.slo import good

Dist = dict[str, float | int | None]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RunFacts:
    """What all parts of a run share: ``slos``, limits in ms by figure with since when each held (ns from the
    run's start, in that order); ``workers`` as ``--workers`` has it."""

    table: Requests
    timeline: Sequence[Mapping[str, Any]]
    slos: Sequence[tuple[int, Mapping[str, float]]]
    workers: str


class Part:
    """The requests in ``mask``, whose arrivals ran in ``spans`` ((start, end), seconds from the run's start),
    and those that were sent and have no line: ``unended`` has their number by error class."""

    def __init__(
        self,
        run: RunFacts,
        mask: Bools,
        spans: Sequence[tuple[float, float]],
        unended: Mapping[str, int],
        *,
        whole: bool = True,
    ) -> None:
        """``whole``: the mask holds whole phases and models, whose gaps are summed already."""
        table = run.table
        self.whole = whole
        self.run = run
        self.mask = mask
        self.spans = spans
        self.unended = unended
        self.good = mask & table.answered
        self.sent = mask & (table.sent != NONE)
        intended = table.intended[self.good]
        self.tokens = np.maximum(table.output_tokens[self.good], 0)
        #: Of the good ones, those that came token by token; the TTFT of the others is NaN.
        self.streamed = table.first[self.good] != NONE
        self.ttft = np.where(self.streamed, (table.first[self.good] - intended) / 1e6, np.nan)
        self.e2e = (table.last[self.good] - intended) / 1e6
        self.late = np.maximum(table.sent[self.good] - intended, 0) / 1e6

    @property
    def planned_count(self) -> int:
        return int(self.mask.sum()) + sum(self.unended.values())

    @property
    def sent_count(self) -> int:
        return int(self.sent.sum()) + sum(self.unended.values())

    @property
    def ok_count(self) -> int:
        return int(self.good.sum())

    @cached_property
    def errors(self) -> dict[str, int]:
        """Requests that failed, by class."""
        table, mask = self.run.table, self.mask
        errors = {
            name: int((mask & (table.error == index)).sum())
            for index, name in enumerate(table.errors)
            if name and (mask & (table.error == index)).any()
        }
        for kind, count in self.unended.items():
            if count:
                errors[kind] = errors.get(kind, 0) + count
        return errors

    @cached_property
    def ttft_dist(self) -> Dist:
        return dist(self.ttft[self.streamed])

    @cached_property
    def lag_dist(self) -> Dist:
        """How late requests were sent."""
        table = self.run.table
        return dist((table.sent[self.sent] - table.intended[self.sent]) / 1e6)

    @property
    def output(self) -> int | None:
        """Output tokens of the good ones; None where their answers have none (embeddings)."""
        return _known_sum(self.run.table.output_tokens[self.good])

    @property
    def span_s(self) -> float:
        """How long arrivals ran."""
        return sum(end - start for start, end in self.spans)

    @cached_property
    def total_s(self) -> float | None:
        """From the first intended time to the last token of an answer that was good."""
        table = self.run.table
        if not self.ok_count:
            return None
        started, ended = int(table.intended[self.mask].min()), int(table.last[self.good].max())
        return (ended - started) / 1e9

    @property
    def elapsed_s(self) -> float:
        """A light load's last request ends before its phase does, and an overload's long after: over the
        longer of the two, never more is completed than was sent."""
        return max(self.span_s, self.total_s or 0.0)


def figures(part: Part, *, alone: bool = True) -> dict[str, Any]:
    """Every figure of ``part``, as the summary has them. ``alone``: the server had no other requests in its
    spans, so that its own figures are of these."""
    table, good, streamed = part.run.table, part.good, part.streamed
    server = server_summary(part.run.timeline, part.spans)
    decode = part.e2e - part.ttft
    told = table.told[good][streamed]
    parts = ttft_parts(
        part.ttft[streamed], part.late[streamed], decode[streamed], told, server if alone else None
    )
    return {
        "requests": _requests(part),
        "rate": _rate(part),
        **_client(part),
        "kpm": _kpm(part),
        "ttft_ms": part.ttft_dist,
        "ttft_parts": parts,
        "ttft_service_ms": dist((table.first[good] - table.sent[good])[streamed] / 1e6),
        "itl_ms": _itl(part),
        "tpot_ms": _tpot(part),
        "e2e_ms": dist(part.e2e),
        "schedule_lag_ms": part.lag_dist,
        "tokens": _tokens(part),
        "goodput_rps": _goodput(part),
        "server": server,
        "replicas": scaling_summary(part.run.timeline, part.spans),
        "kv_map": kv_summary(part.run.timeline, part.spans),
    }


def ttft_histogram(table: Requests, mask: Bools) -> dict[str, Any]:
    """The TTFT of those that were answered, as the fields of a ``Distribution`` (nanoseconds)."""
    good = mask & table.ok & (table.first != NONE)
    found = Histogram.of(table.first[good] - table.intended[good]).distribution()
    return {**asdict(found), "buckets": [list(bucket) for bucket in found.buckets]}


def _requests(part: Part) -> dict[str, Any]:
    return {
        "planned": part.planned_count,
        "sent": part.sent_count,
        "ok": part.ok_count,
        "errors": part.errors,
        "dropped": part.errors.get("dropped", 0),
    }


def _rate(part: Part) -> dict[str, float | None]:
    return {
        "requested_rps": _over(part.planned_count, part.span_s),
        "sent_rps": _over(part.sent_count, part.span_s),
        "completed_rps": _over(part.ok_count, part.elapsed_s) if part.ok_count else None,
    }


def _client(part: Part) -> dict[str, Any]:
    """Whether the load workers bent the figures, why, and how busy they were."""
    client = client_summary(part.run.timeline, part.spans)
    whole = bool(part.e2e.size and not part.streamed.any())
    limited = client_limited(
        part.lag_dist["p99"],
        float(np.median(part.e2e)) if whole else part.ttft_dist["p50"],
        part.errors,
        client["loop_lag_p99_ms"],
        client["worker_cpu"],
        part.run.workers,
        "E2E" if whole else "TTFT",
    )
    return {"client_limited": limited is not None, "client": {"limited_by": limited, **client}}


def _kpm(part: Part) -> dict[str, float | None]:
    """The experiment's own key figures."""
    planned = part.planned_count
    return {
        "ttft_ms": part.ttft_dist["mean"],
        "latency_avg_ms": float(part.e2e.mean()) if part.e2e.size else None,
        "latency_total_s": part.total_s,
        "tps": None if part.ok_count and part.output is None else _over(part.output or 0, part.total_s),
        "completed_pct": 100.0 * part.ok_count / planned if planned else None,
    }


def _tpot(part: Part) -> Dist:
    several = (part.tokens > 1) & part.streamed
    return dist((part.e2e[several] - part.ttft[several]) / (part.tokens[several] - 1))


def gaps_of(part: Part) -> Histogram:
    """The gaps between token chunks."""
    table, mask = part.run.table, part.mask
    if not part.whole:
        mine = np.where(mask & table.ok, 0, -1)
        each = [some.counts(mine[some.row], 1, LARGEST)[0] for some in table.each_gaps]
        summed = np.sum(each, axis=0) if each else np.zeros(1, dtype=np.int64)
        return Histogram.from_sparse(
            [(int(bucket), int(summed[bucket])) for bucket in np.flatnonzero(summed)]
        )
    counts: dict[int, int] = {}
    phases, models = set(table.phase[mask].tolist()), set(table.model[mask].tolist())
    for (phase, model), here in table.gaps.items():
        if phase in phases and model in models:
            for bucket in np.flatnonzero(here):
                counts[int(bucket)] = counts.get(int(bucket), 0) + int(here[bucket])
    return Histogram.from_sparse(counts.items())


def _itl(part: Part) -> Dist:
    """Gaps between token chunks: the mean is exact (sum of spans over number of gaps), the rest bucketed."""
    table, good, histogram = part.run.table, part.good, gaps_of(part)
    if not histogram.count:
        return dist(np.empty(0))
    span = float((table.last[good] - table.begun[good]).sum())
    gaps = int(np.maximum(table.chunks[good] - 1, 0).sum())
    return {
        "mean": span / gaps / 1e6 if gaps else None,
        **{name: histogram.percentile(q) / 1e6 for name, q in QUANTILES.items()},
        "min": histogram.min_ns / 1e6,
        "max": histogram.max_ns / 1e6,
        "count": histogram.count,
    }


def _tokens(part: Part) -> dict[str, Any]:
    table, good = part.run.table, part.good
    return {
        "input": _known_sum(table.prompt_tokens[good]),
        "output": part.output,
        "cached": _known_sum(table.cached_tokens[good]),
        "source": _source(table.from_usage[good]),
    }


def _goodput(part: Part) -> float | None:
    """Ok requests a second that meet every limit of the SLO; None without one."""
    slos = part.run.slos
    if not any(limits for _, limits in slos):
        return None
    intended = part.run.table.intended[part.good]
    return _over(int(good(slos, intended, part.ttft, part.e2e, part.tokens).sum()), part.elapsed_s)


def dist(values: Floats) -> Dist:
    """Mean, percentiles (linear interpolation, as NumPy's default), extremes and count; None when empty."""
    if values.size == 0:
        return {"mean": None, **dict.fromkeys(QUANTILES), "min": None, "max": None, "count": 0}
    points = np.percentile(values, list(QUANTILES.values()))
    return {
        "mean": float(values.mean()),
        **{name: float(point) for name, point in zip(QUANTILES, points, strict=True)},
        "min": float(values.min()),
        "max": float(values.max()),
        "count": int(values.size),
    }


def _over(amount: float, seconds: float | None) -> float | None:
    return amount / seconds if seconds else None


def _known_sum(values: npt.NDArray[np.int64]) -> int | None:
    known = values[values != NONE]
    return int(known.sum()) if known.size else None


def _source(from_usage: Bools) -> str | None:
    """Where the number of output tokens is from: the server's usage, chunks counted, or both."""
    if from_usage.size == 0:
        return None
    return "usage" if from_usage.all() else "chunks" if not from_usage.any() else "mixed"
