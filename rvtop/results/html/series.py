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
from rvtop.stats.distribution import GAMMA, middle_ns

#: A chart has at most so many points a line: more than a screen has columns are not told apart.
_MOST_POINTS = 600
#: Lines of their own up to so many engines or GPUs; beyond, the least, the mean and the most of all.
_MOST_LINES = 8
#: Columns of a distribution's chart.
_COLUMNS = 80
#: The end of a distribution's axis over its begin, at most; what lies below stands in its first column.
_WIDEST = 3000.0

Values = list[float | None]
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
    """Lines over ``x``: seconds, or (``log``) a logarithmic axis of ``unit`` with a step at each x."""

    title: str
    unit: str
    about: str
    x: list[float]
    lines: list[Line]
    log: bool = False


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


def distributions(
    table: Requests, mask: npt.NDArray[np.bool_], slo: Mapping[str, float | None]
) -> list[Chart]:
    """The distributions of the good requests in ``mask``: share of all in % in each column of a log axis."""
    good = mask & table.ok & (table.first != NONE)
    intended = table.intended[good]
    gaps = sum(
        (counts for (phase, model), counts in table.gaps.items() if _any(table, mask, phase, model)),
        np.zeros(0, np.int64) if not table.gaps else np.zeros_like(next(iter(table.gaps.values()))),
    )
    middles = np.array([middle_ns(i) for i in range(len(gaps))]) / 1e6
    share = "Share of all, in each column of a logarithmic axis."
    charts = [
        _distribution("TTFT", share, (table.first[good] - intended) / 1e6, None, slo.get("ttft_ms")),
        _distribution("ITL", f"{share} One event a gap between two tokens.", middles, gaps, None),
        _distribution("E2E", share, (table.last[good] - intended) / 1e6, None, slo.get("e2e_ms")),
    ]
    return [chart for chart in charts if chart is not None]


def _any(table: Requests, mask: npt.NDArray[np.bool_], phase: int, model: int) -> bool:
    return bool((mask & (table.phase == phase) & (table.model == model)).any())


def _distribution(
    title: str,
    about: str,
    values: npt.NDArray[Any],
    weights: npt.NDArray[Any] | None,
    limit_ms: float | None,
) -> Chart | None:
    """None where there is nothing to draw. ``weights``: how often each value (ms) came; None: once."""
    kept = values > 0
    if weights is not None:
        kept &= weights > 0
    if not kept.any():
        return None
    values, weights = values[kept], None if weights is None else weights[kept]
    high = float(values.max()) * GAMMA
    low = max(_low(values, weights), high / _WIDEST)
    if limit_ms is not None:
        low, high = min(low, limit_ms / GAMMA), max(high, limit_ms * GAMMA)
    middle, half = math.sqrt(low * high), max(math.sqrt(high / low), 10**0.25)  # half a decade at least
    # A column is never narrower than the buckets of the data.
    columns = max(8, min(_COLUMNS, int(math.log(half * half) / math.log(GAMMA))))
    edges = np.geomspace(middle / half, middle * half, columns + 1)
    counts, _ = np.histogram(np.maximum(values, edges[0]), bins=edges, weights=weights)
    shares: Values = [_digits(100.0 * n / counts.sum()) for n in counts.tolist()]
    return Chart(
        title,
        "ms",
        about,
        [_digits(edge) for edge in edges.tolist()],
        [Line("share", "client", [*shares, 0.0])]
        + ([] if limit_ms is None else [Line("SLO", "limit", [limit_ms], limit=True)]),
        log=True,
    )


def _low(values: npt.NDArray[Any], weights: npt.NDArray[Any] | None) -> float:
    """Where the axis begins: one value in 200 may lie below, and stands in the first column."""
    order = np.argsort(values)
    below = np.cumsum(np.ones(values.size) if weights is None else weights[order])
    return float(values[order][np.searchsorted(below, below[-1] / 200)])


def _latency(title: str, about: str, table: Requests, ended: Any, limit_ms: float | None) -> Chart:
    """p50 and p99 of the good requests of each second by intended time, from ``ended`` (ns)."""
    good = table.ok & (table.first != NONE)
    begun = table.intended[good] / 1e9
    took = (ended[good] - table.intended[good]) / 1e6
    x: list[float] = []
    middle: Values = []
    tail: Values = []
    if begun.size:
        order = np.argsort(begun, kind="stable")
        begun, took = begun[order], took[order]
        step = max(1.0, float(begun[-1]) / _MOST_POINTS)
        marks = np.arange(math.floor(begun[0] / step), math.floor(begun[-1] / step) + 2) * step
        cuts = np.searchsorted(begun, marks)
        for mark, first, last in zip(marks.tolist(), cuts.tolist(), cuts[1:].tolist(), strict=False):
            x.append(round(mark + step / 2, 3))
            some = took[first:last]
            for values, q in ((middle, 50), (tail, 99)):
                values.append(_digits(float(np.percentile(some, q))) if some.size else None)
    lines = [Line("p50", "client", middle), Line("p99", "tail", tail)]
    if limit_ms is not None and x:
        lines.append(Line("SLO", "limit", [limit_ms] * len(x), limit=True))
    return Chart(title, "ms", about, x, lines)


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
