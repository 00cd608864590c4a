"""The ``server`` block of a summary, from the timeline's once-a-second samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

#: Samples come once a second, so what happened in a span may show up to a second after it.
_SLACK_S = 1.0


def server_summary(
    timeline: Sequence[Mapping[str, Any]], spans: Sequence[tuple[float, float]]
) -> dict[str, Any]:
    """Server figures over the seconds inside ``spans`` ((start, end), seconds from the run's start).

    What no sample ever had is None. ``running`` and ``waiting`` are sums over engines at one moment,
    ``kv_cache_usage`` (0..1): ``mean`` over time and engines, ``max`` of the fullest engine; counters
    are their growth inside the spans.
    """
    rows = [row for row in timeline if any(start <= row["t_s"] <= end + _SLACK_S for start, end in spans)]
    hits = _growth(timeline, spans, "prefix_hits")
    queries = _growth(timeline, spans, "prefix_queries")
    fullest = (engine.get("kv_usage") for row in rows for engine in row.get("engines") or [])
    return {
        "kv_cache_usage": {"mean": _mean(row.get("kv_usage") for row in rows), "max": _most(fullest)},
        "running_max": _most(row.get("running") for row in rows),
        "waiting_max": _most(row.get("waiting") for row in rows),
        "preemptions": _growth(timeline, spans, "preemptions"),
        "prefix_cache_hit_rate": hits / queries if hits is not None and queries else None,
        "gpus": _gpus(rows),
        "nodes": _nodes(rows),
        "deployments": _deployments(rows),
    }


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
    """Ray Serve's deployments; ``latency_ms_mean`` is the time inside a replica, an estimate."""
    return [
        {
            "deployment": name,
            "replicas_max": _most(s.get("replicas") for s in samples),
            "ongoing_max": _most(s.get("ongoing") for s in samples),
            "queued_max": _most(s.get("queued") for s in samples),
            "latency_ms_mean": _mean(s.get("latency_ms") for s in samples),
        }
        for name, samples in _by_name(rows, "deployments").items()
    ]


def _gpus(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    seen: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for row in rows:
        for gpu in row.get("gpus") or []:
            seen.setdefault((gpu["node"], gpu["index"]), []).append(gpu)
    return [
        {
            "node": node,
            "index": index,
            "name": samples[-1].get("name"),
            "memory_used_max": _most(s.get("memory_used") for s in samples),
            "memory_total": _most(s.get("memory_total") for s in samples),
            "util_mean": _mean(s.get("util") for s in samples),
        }
        for (node, index), samples in sorted(seen.items())
    ]
