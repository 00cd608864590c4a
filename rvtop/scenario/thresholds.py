"""Thresholds: what a run's summary must not exceed (or fall below) for exit code 0."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any

#: The distributions of summary.json and the figures each holds.
DISTRIBUTIONS = ("ttft_ms", "ttft_service_ms", "itl_ms", "tpot_ms", "e2e_ms", "schedule_lag_ms")
STATS = ("mean", "p50", "p90", "p95", "p99", "p999", "min", "max")

#: Upper limits besides the distributions, then lower limits; with what each means.
UPPER = {
    "error_rate": "share of the requests that did not end ok, 0..1",
    "latency_total_s": "first intended send to last end, seconds",
}
LOWER = {
    "min_completed_pct": "requests that ended ok, percent of those planned",
    "min_tps": "output tokens a second over the whole run",
    "min_goodput_rps": "requests a second that met the SLO",
    "min_completed_rps": "requests a second that ended ok",
}

#: ``ttft_p99_ms`` -> ("ttft_ms", "p99")
_OF_DISTRIBUTIONS = {
    f"{dist.removesuffix('_ms')}_{stat}_ms": (dist, stat) for dist in DISTRIBUTIONS for stat in STATS
}
NAMES = (*_OF_DISTRIBUTIONS, *UPPER, *LOWER)


def threshold_problem(name: str) -> str | None:
    """Why ``name`` is no threshold, in a line; None when it is one."""
    if name in NAMES:
        return None
    close = difflib.get_close_matches(name, NAMES, n=1)
    if close:
        return f"unknown threshold; did you mean {close[0]}?"
    others = ", ".join((*UPPER, *LOWER))
    return f"unknown threshold; known: ttft_p99_ms, e2e_mean_ms and their like, {others}"


def check_thresholds(thresholds: Mapping[str, float], summary: Mapping[str, Any]) -> list[str]:
    """One line for each threshold that ``summary`` (summary.json's content) misses; [] when all hold.

    A threshold whose figure is missing counts as missed: a run that measured nothing proved nothing.
    """
    missed = []
    for name, limit in thresholds.items():
        value = _figure(name, summary)
        lower = name in LOWER
        if value is None:
            missed.append(f"{name}: no figure to hold against the limit {_short(limit)}")
        elif value < limit if lower else value > limit:
            missed.append(f"{name}: {_short(value)} is {'below' if lower else 'above'} {_short(limit)}")
    return missed


def _short(value: float) -> str:
    return f"{value:.6g}"


def _figure(name: str, summary: Mapping[str, Any]) -> float | None:
    """The figure of ``summary`` that the threshold ``name`` is about."""
    if name in _OF_DISTRIBUTIONS:
        dist, stat = _OF_DISTRIBUTIONS[name]
        return _number(summary, dist, stat)
    match name:
        case "error_rate":
            return _error_rate(summary)
        case "latency_total_s":
            return _number(summary, "kpm", "latency_total_s")
        case "min_completed_pct":
            return _number(summary, "kpm", "completed_pct")
        case "min_tps":
            return _number(summary, "kpm", "tps")
        case "min_goodput_rps":
            return _number(summary, "goodput_rps")
        case "min_completed_rps":
            return _number(summary, "rate", "completed_rps")
    raise ValueError(f"{name}: {threshold_problem(name)}")


def _number(data: Any, *keys: str) -> float | None:
    for key in keys:
        data = data.get(key) if isinstance(data, Mapping) else None
    if isinstance(data, bool) or not isinstance(data, int | float) or math.isnan(data):
        return None
    return float(data)


def _error_rate(summary: Mapping[str, Any]) -> float | None:
    """Failed over all that ended. ``dropped`` is a class of errors too: counted once, wherever it stands.
    What the client gave up itself (``cancelled``) is neither good nor a failure."""
    requests = summary.get("requests")
    if not isinstance(requests, Mapping):
        return None
    ok = _number(requests, "ok")
    errors = requests.get("errors") or {}
    failed = sum(n for kind, n in errors.items() if kind != "cancelled")
    if "dropped" not in errors:
        failed += _number(requests, "dropped") or 0.0
    if ok is None or ok + failed == 0:
        return None
    return float(failed / (ok + failed))
