"""The ``server`` block of a summary, from the timeline's once-a-second samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rvtop.contract.figures import BY_KEY, SHOWN, SPLIT, Figure, share_of
from rvtop.contract.snapshot import IDLE_UTIL

#: Samples come once a second, so what happened in a span may show up to a second after it.
_SLACK_S = 1.0


def seconds_in(
    timeline: Sequence[Mapping[str, Any]], spans: Sequence[tuple[float, float]], slack_s: float = 0.0
) -> list[Mapping[str, Any]]:
    """The rows of the seconds inside ``spans`` ((start, end), seconds from the run's start), and up to
    ``slack_s`` behind one."""
    return [row for row in timeline if any(start <= row["t_s"] <= end + slack_s for start, end in spans)]


def server_summary(
    timeline: Sequence[Mapping[str, Any]], spans: Sequence[tuple[float, float]]
) -> dict[str, Any]:
    """Server figures over the seconds inside ``spans`` ((start, end), seconds from the run's start).

    Figures of engines have their names and meaning in ``contract.figures``. What no sample ever had is None.
    Gauges that add up are the most of all engines at one moment; other gauges and shares of gauges have
    ``mean`` over time and ``max`` of one engine; counters are their growth inside the spans, histograms
    their mean there (of seconds, in ms). A figure with a label is {value: figure}.
    """
    rows = seconds_in(timeline, spans, _SLACK_S)
    figures = {f.summary: _figure(f, rows, lambda name: _growth(timeline, spans, name)) for f in SHOWN}
    figures.pop("", None)
    return {**figures, "gpus": _gpus(rows), "nodes": _nodes(rows), "deployments": _deployments(rows)}


def _figure(
    figure: Figure, rows: Sequence[Mapping[str, Any]], growth: Callable[[str], float | None]
) -> float | dict[str, float | None] | None:
    """One figure of the table over the seconds of ``rows``; ``growth`` gives a counter's inside the spans."""
    if figure.label:
        names = {name for row in rows for name in row.get("figures") or {} if _splits(figure, name)}
        if figure.kind == "counter":
            split = {name: growth(name) for name in names}
        elif figure.parts:
            one, whole = figure.parts
            split = {
                name: share_of(figure, growth(f"{one}{SPLIT}{name.partition(SPLIT)[2]}"), growth(whole))
                for name in names
            }
        else:
            split = {name: _most(_told(row, name) for row in rows) for name in names}
        return {name.partition(SPLIT)[2]: split[name] for name in sorted(split)} or None
    if figure.kind == "counter":
        return growth(figure.key)
    if figure.kind == "histogram":
        total, count = growth(f"{figure.key}.sum"), growth(f"{figure.key}.count")
        return figure.scale * total / count if total is not None and count else None
    if figure.parts and BY_KEY[figure.parts[0]].kind == "counter":
        return share_of(figure, *(growth(part) for part in figure.parts))
    if figure.kind == "gauge" and figure.combine == "sum":
        return _most(_told(row, figure.key) for row in rows)
    each = (_told(engine, figure.key) for row in rows for engine in row.get("engines") or [])
    return {"mean": _mean(_told(row, figure.key) for row in rows), "max": _most(each)}


def _splits(figure: Figure, name: str) -> bool:
    return name.startswith(figure.key + SPLIT)


def _told(told: Mapping[str, Any], name: str) -> float | None:
    """A figure of a row (all engines together) or of an engine in it, from its field or its ``figures``."""
    value: float | None = told[name] if name in told else (told.get("figures") or {}).get(name)
    return value


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _mean(values: Iterable[float | None]) -> float | None:
    known = _known(values)
    return sum(known) / len(known) if known else None


def _most(values: Iterable[float | None]) -> float | None:
    return max(_known(values), default=None)


def _growth(
    timeline: Sequence[Mapping[str, Any]], spans: Sequence[tuple[float, float]], name: str
) -> float | None:
    """How much a counter grew inside the spans; the timeline holds totals that restarts don't set back."""
    grown: float | None = None
    for start, end in spans:
        before = after = None
        for row in timeline:
            value = (row.get("totals") or {}).get(name)
            if value is None or row["t_s"] > end + _SLACK_S:
                continue
            if row["t_s"] <= start or before is None:
                before = value
            after = value
        if before is not None and after is not None:
            grown = (grown or 0.0) + after - before
    return grown


def _by_name(rows: Sequence[Mapping[str, Any]], key: str) -> dict[str, list[Mapping[str, Any]]]:
    seen: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        for item in row.get(key) or []:
            seen.setdefault(item["name"], []).append(item)
    return dict(sorted(seen.items()))


def _nodes(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Machines of the Ray cluster: ``cpu_mean`` 0..1 of all cores, memory in bytes."""
    return [
        {
            "node": name,
            "cpu_mean": _mean(s.get("cpu") for s in samples),
            "memory_used_max": _most(s.get("memory_used") for s in samples),
            "memory_total": _most(s.get("memory_total") for s in samples),
        }
        for name, samples in _by_name(rows, "nodes").items()
    ]


def _deployments(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Ray Serve's deployments; ``latency_ms_mean`` is the time inside a replica, ``batch_wait_ms_mean`` the
    time in which a batch was filled: both are estimates."""
    return [
        {
            "deployment": name,
            "replicas_max": _most(s.get("replicas") for s in samples),
            "ongoing_max": _most(s.get("ongoing") for s in samples),
            "queued_max": _most(s.get("queued") for s in samples),
            "latency_ms_mean": _mean(s.get("latency_ms") for s in samples),
            "replica_starts": _most(s.get("starts") for s in samples),
            "batch_size_mean": _mean(s.get("batch_size") for s in samples),
            "batch_wait_ms_mean": _mean(s.get("batch_wait_ms") for s in samples),
        }
        for name, samples in _by_name(rows, "deployments").items()
    ]


def _gpus(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """``idle_share``: of the seconds in which requests were in flight, how many found the GPU idle."""
    seen: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    busy: dict[tuple[str, int], list[float]] = {}  # its use while requests were in flight
    for row in rows:
        in_flight = any(row.get(name) for name in ("in_flight", "running", "waiting"))
        for gpu in row.get("gpus") or []:
            key = (gpu["node"], gpu["index"])
            seen.setdefault(key, []).append(gpu)
            used = busy.setdefault(key, [])
            if in_flight and gpu.get("util") is not None:
                used.append(gpu["util"])
    return [
        {
            "node": node,
            "index": index,
            "name": samples[-1].get("name"),
            "memory_used_max": _most(s.get("memory_used") for s in samples),
            "memory_total": _most(s.get("memory_total") for s in samples),
            "util_mean": _mean(s.get("util") for s in samples),
            "idle_share": _mean(float(util < IDLE_UTIL) for util in busy[node, index]),
        }
        for (node, index), samples in sorted(seen.items())
    ]
