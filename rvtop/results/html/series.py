"""What a report's charts draw: figures over the seconds of a run, and distributions.

All times are seconds from the run's start; what was not measured is None, which draws as a gap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rvtop.results.table import NONE, Requests
from rvtop.stats.distribution import BUCKETS, GAMMA, middle_ns

#: A chart has at most so many points a line: more than a screen has columns are not told apart.
_MOST_POINTS = 600
#: Lines of their own up to so many engines or GPUs; beyond, the least, the mean and the most of all.
_MOST_LINES = 8
#: Columns of a distribution's chart.
_COLUMNS = 80
#: The end of a distribution's axis over its begin, at most; what lies below stands in its first column.
_WIDEST = 3000.0

Values = list[float | None]
#: Values in ms, and how often each came; None: once.
_Values = tuple[npt.NDArray[Any], npt.NDArray[Any] | None]
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart. ``role`` names its colour: command, client, server, tail, trouble; "" takes the
    next one of a row of colours. ``limit``: it is one value from end to end."""

    name: str
    role: str
    values: Values
    limit: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over ``x``: seconds, or (``log``) a logarithmic axis of ``unit`` with a step at each x, or (with
    ``points``, too) points over a logarithmic axis of ``x_name``."""

    title: str
    unit: str
    about: str
    x: list[float]
    lines: list[Line]
    log: bool = False
    points: bool = False
    x_name: str = ""


def over_time(timeline: Rows, table: Requests, slo: Mapping[str, float | None]) -> list[Chart]:
    """The charts over time of a run whose lines of ``timeline.jsonl`` are ``timeline``; those of which
    nothing was measured are left out. ``slo``: limits, ms, by ``ttft_ms`` and so on."""
    rows = _thinned(timeline)
    x = [float(row["t_s"]) for row in rows]
    gib = 1 / (1 << 30)

    def chart(title: str, unit: str, about: str, *lines: Line) -> Chart:
        return Chart(title, unit, about, x, list(lines))

    def line(name: str, role: str, key: str, scale: float = 1.0) -> Line:
        return Line(name, role, [_scaled(row.get(key), scale) for row in rows])

    charts = [
        chart(
            "Load", "rps", "Requests a second: asked for, sent, and answered whole.",
            line("asked", "command", "target_rps"),
            line("sent", "limit", "sent_rps"),
            line("completed", "client", "completed_rps"),
        ),
        _latency("TTFT", "From the time a request was meant to be sent to its first token; by that time.",
                 table, table.first, slo.get("ttft_ms")),
        _latency("E2E", "From the time a request was meant to be sent to its last token; by that time.",
                 table, table.last, slo.get("e2e_ms")),
        chart(
            "Tokens", "tok/s", "Output tokens a second, as clients received them and as the server counts.",
            line("client", "client", "tokens_per_s"),
            line("server", "server", "server_tokens_per_s"),
        ),
        chart(
            "Requests in flight", "", "Sent and not ended; of those, what the engines compute on and what "
            "waits in their queues.",
            line("in flight", "client", "in_flight"),
            line("running", "server", "running"),
            line("waiting", "trouble", "waiting"),
        ),
        chart("KV cache", "%", "Share of each engine's KV-cache blocks in use.",
              *_each(rows, "engines", _engine, "kv_usage", 100.0)),
        chart("GPU memory", "GiB", "Memory in use on each GPU.",
              *_each(rows, "gpus", _gpu, "memory_used", gib)),
        chart("GPU use", "%", "Share of the time in which a GPU had work.",
              *_each(rows, "gpus", _gpu, "util", 100.0)),
        chart("Preemptions", "a second", "Running requests put back into the queue: the KV cache was full.",
              Line("preemptions", "trouble", _growth(rows, "preemptions"))),
        chart("Nodes' CPU", "%", "Of all cores of each machine of the Ray cluster.",
              *_each(rows, "nodes", _name, "cpu", 100.0)),
        chart(
            "The client itself", "ms", "How long the load client's event loop was blocked: what this adds, "
            "the server is not to blame for.",
            line("blocked for", "tail", "loop_lag_ms"),
        ),
    ]  # fmt: skip
    return [c for c in charts if any(v is not None for each in c.lines if not each.limit for v in each.values)
            and (c.title != "Preemptions" or any(c.lines[0].values))]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Drawn:
    """A run, or a part of one: its good requests are those in ``mask``. ``role`` as a ``Line`` has it."""

    name: str
    role: str
    table: Requests
    mask: npt.NDArray[np.bool_]

    def good(self) -> npt.NDArray[np.bool_]:
        """Which requests of the table are drawn."""
        found: npt.NDArray[np.bool_] = self.mask & self.table.answered
        return found

    def gaps(self) -> npt.NDArray[np.int64]:
        """Counts of the gaps between tokens, by bucket."""
        made = np.zeros(BUCKETS, np.int64)
        for (phase, model), counts in self.table.gaps.items():
            if bool((self.mask & (self.table.phase == phase) & (self.table.model == model)).any()):
                made += counts
        return made


def distributions(drawn: Sequence[Drawn], slo: Mapping[str, float | None]) -> list[Chart]:
    """The distributions of one run or of several over each other: share of all in % in each column of a log
    axis."""
    middles = np.array([middle_ns(i) for i in range(BUCKETS)]) / 1e6
    share = "Share of all, in each column of a logarithmic axis."

    def times(of: Callable[[Requests], npt.NDArray[np.int64]]) -> list[_Values]:
        made: list[_Values] = []
        for one in drawn:
            good = one.good()
            good &= of(one.table) != NONE
            made.append(((of(one.table)[good] - one.table.intended[good]) / 1e6, None))
        return made

    gaps: list[_Values] = [(middles, one.gaps()) for one in drawn]
    charts = [
        _distribution("TTFT", share, drawn, times(lambda table: table.first), slo.get("ttft_ms")),
        _distribution(
            "ITL",
            f"{share} One event a gap between two tokens.",
            drawn,
            gaps,
            None,
        ),
        _distribution("E2E", share, drawn, times(lambda table: table.last), slo.get("e2e_ms")),
    ]
    return [chart for chart in charts if chart is not None]


def _distribution(
    title: str, about: str, drawn: Sequence[Drawn], sets: Sequence[_Values], limit_ms: float | None
) -> Chart | None:
    """None where there is nothing to draw."""
    kept: list[_Values] = []
    for values, weights in sets:
        keep = values > 0
        if weights is not None:
            keep &= weights > 0
        kept.append((values[keep], None if weights is None else weights[keep]))
    known = [one for one in kept if one[0].size]
    if not known:
        return None
    high = max(float(values.max()) for values, _ in known) * GAMMA
    low = max(min(_low(values, weights) for values, weights in known), high / _WIDEST)
    if limit_ms is not None:
        low, high = min(low, limit_ms / GAMMA), max(high, limit_ms * GAMMA)
    middle, half = math.sqrt(low * high), max(math.sqrt(high / low), 10**0.25)  # half a decade at least
    # A column is never narrower than the buckets of the data.
    columns = max(8, min(_COLUMNS, int(math.log(half * half) / math.log(GAMMA))))
    edges = np.geomspace(middle / half, middle * half, columns + 1)
    lines = []
    for one, (values, weights) in zip(drawn, kept, strict=True):
        counts, _ = np.histogram(np.maximum(values, edges[0]), bins=edges, weights=weights)
        total = counts.sum()
        shares: Values = [_digits(100.0 * n / total) if total else None for n in counts.tolist()]
        lines.append(Line(one.name, one.role, [*shares, 0.0 if total else None]))
    limits = [] if limit_ms is None else [Line("SLO", "limit", [limit_ms], limit=True)]
    return Chart(title, "ms", about, [_digits(edge) for edge in edges.tolist()], lines + limits, log=True)


def _low(values: npt.NDArray[Any], weights: npt.NDArray[Any] | None) -> float:
    """Where the axis begins: one value in 200 may lie below, and stands in the first column."""
    order = np.argsort(values)
    below = np.cumsum(np.ones(values.size) if weights is None else weights[order])
    return float(values[order][np.searchsorted(below, below[-1] / 200)])


def _latency(title: str, about: str, table: Requests, ended: Any, limit_ms: float | None) -> Chart:
    """p50 and p99 of the good requests of each second by intended time, from ``ended`` (ns)."""
    good = table.ok & (ended != NONE)
    begun = table.intended[good] / 1e9
    step = step_s(float(begun.max()) if begun.size else 0.0)
    x, (middle, tail) = percentiles(begun, (ended[good] - table.intended[good]) / 1e6, step, (50, 99))
    lines = [Line("p50", "client", middle), Line("p99", "tail", tail)]
    if limit_ms is not None and x:
        lines.append(Line("SLO", "limit", [limit_ms] * len(x), limit=True))
    return Chart(title, "ms", about, x, lines)


def step_s(until_s: float) -> float:
    """Seconds between two points of a chart over so many."""
    return max(1.0, until_s / _MOST_POINTS)


def percentiles(
    begun: npt.NDArray[Any], took: npt.NDArray[Any], step: float, of: Sequence[int]
) -> tuple[list[float], list[Values]]:
    """Of each ``step`` its middle, and the percentiles of what ``took`` so long of all that ``begun`` then;
    None where nothing did. Arrays have shape (n,), seconds and ms."""
    x: list[float] = []
    found: list[Values] = [[] for _ in of]
    if begun.size:
        order = np.argsort(begun, kind="stable")
        begun, took = begun[order], took[order]
        marks = np.arange(math.floor(begun[0] / step), math.floor(begun[-1] / step) + 2) * step
        cuts = np.searchsorted(begun, marks)
        for mark, first, last in zip(marks.tolist(), cuts.tolist(), cuts[1:].tolist(), strict=False):
            x.append(round(mark + step / 2, 3))
            some = took[first:last]
            for values, q in zip(found, of, strict=True):
                values.append(_digits(float(np.percentile(some, q))) if some.size else None)
    return x, found


def _each(
    rows: Rows, key: str, name: Callable[[Mapping[str, Any]], str], field: str, scale: float
) -> Iterable[Line]:
    """A line for each of the things in the rows' list ``key``, or three for all of them together."""
    seen: dict[str, dict[int, float]] = {}
    for index, row in enumerate(rows):
        for item in row.get(key) or ():
            value = _scaled(item.get(field), scale)
            if value is not None:
                seen.setdefault(name(item), {})[index] = value
    if len(seen) <= _MOST_LINES:
        for one, values in sorted(seen.items()):
            yield Line(one, "", [values.get(index) for index in range(len(rows))])
        return
    columns = [[v[index] for v in seen.values() if index in v] for index in range(len(rows))]
    for one, role, fold in (("least", "tail", min), ("mean", "server", _mean), ("most", "trouble", max)):
        yield Line(f"{one} of {len(seen)}", role, [fold(c) if c else None for c in columns])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _engine(item: Mapping[str, Any]) -> str:
    return str(item.get("name") or "engine")


def _gpu(item: Mapping[str, Any]) -> str:
    return f"{item['node']}:{item['index']:.0f}"


def _name(item: Mapping[str, Any]) -> str:
    return str(item["name"])


def _growth(rows: Rows, key: str) -> Values:
    """By how much a second a counter in the rows' ``totals`` grew."""
    values: Values = []
    before: tuple[float, float] | None = None
    for row in rows:
        now = (row.get("totals") or {}).get(key)
        grown = None
        if now is not None:
            t_s = float(row["t_s"])
            if before is not None and t_s > before[0]:
                grown = _digits(max(0.0, now - before[1]) / (t_s - before[0]))
            before = (t_s, now)
        values.append(grown)
    return values


def _thinned(rows: Rows) -> Rows:
    """Every n-th row, so that there are at most _MOST_POINTS."""
    return rows[:: max(1, math.ceil(len(rows) / _MOST_POINTS))]


def _scaled(value: Any, scale: float) -> float | None:
    return None if value is None else _digits(float(value) * scale)


def _digits(value: float) -> float:
    """Five significant digits are more than a chart shows."""
    return float(f"{value:.5g}")
