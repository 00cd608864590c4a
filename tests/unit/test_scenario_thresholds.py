"""Thresholds held against a run's summary."""

from __future__ import annotations

import math
from typing import Any

import pytest

from rvtop.scenario.thresholds import DISTRIBUTIONS, NAMES, STATS, check_thresholds, threshold_problem

DIST = {
    "mean": 50.0,
    "p50": 40.0,
    "p90": 90.0,
    "p95": 95.0,
    "p99": 120.0,
    "p999": 200.0,
    "min": 1.0,
    "max": 300.0,
    "count": 9,
}
SUMMARY: dict[str, Any] = {
    "requests": {"planned": 100, "sent": 98, "ok": 90, "errors": {"http_429": 5, "reset": 3}, "dropped": 2},
    "rate": {"requested_rps": 10, "sent_rps": 9.8, "completed_rps": 9.0},
    "kpm": {"ttft_ms": 50.0, "latency_avg_ms": 400.0, "latency_total_s": 12.5, "tps": 640.0,
            "completed_pct": 90.0},
    **{name: dict(DIST) for name in DISTRIBUTIONS},
    "goodput_rps": 7.5,
}  # fmt: skip


def test_every_distribution_and_figure_has_its_threshold() -> None:
    for dist in DISTRIBUTIONS:
        for stat in STATS:
            name = f"{dist.removesuffix('_ms')}_{stat}_ms"
            assert threshold_problem(name) is None
            assert check_thresholds({name: DIST[stat]}, SUMMARY) == []
            (missed,) = check_thresholds({name: DIST[stat] - 0.5}, SUMMARY)
            assert missed == f"{name}: {DIST[stat]:g} is above {DIST[stat] - 0.5:g}"


@pytest.mark.parametrize(
    ("name", "holds", "fails", "said"),
    [
        ("error_rate", 0.1, 0.09, "error_rate: 0.1 is above 0.09"),
        ("latency_total_s", 12.5, 12, "latency_total_s: 12.5 is above 12"),
        ("min_completed_pct", 90, 99.9, "min_completed_pct: 90 is below 99.9"),
        ("min_tps", 640, 641, "min_tps: 640 is below 641"),
        ("min_goodput_rps", 7.5, 8, "min_goodput_rps: 7.5 is below 8"),
        ("min_completed_rps", 9, 10, "min_completed_rps: 9 is below 10"),
    ],
)
def test_limits(name: str, holds: float, fails: float, said: str) -> None:
    assert check_thresholds({name: holds}, SUMMARY) == []
    assert check_thresholds({name: fails}, SUMMARY) == [said]


def test_dropped_requests_count_once() -> None:
    requests = {**SUMMARY["requests"], "errors": {"http_429": 8, "dropped": 2}}
    assert check_thresholds({"error_rate": 0.1}, {**SUMMARY, "requests": requests}) == []


def test_a_missing_figure_is_a_missed_threshold() -> None:
    nothing: dict[str, Any] = {
        "requests": {"ok": 0, "errors": {}, "dropped": 0},
        "ttft_ms": {"p99": None},
        "kpm": None,
    }
    for name in NAMES:
        assert check_thresholds({name: 1}, nothing) == [f"{name}: no figure to hold against the limit 1"]
    assert check_thresholds({"min_tps": 0}, {"kpm": {"tps": math.nan}}) != []


def test_every_threshold_name_has_a_figure_in_a_full_summary() -> None:
    lowest = {name: 0.0 if name.startswith("min_") else 1e9 for name in NAMES}
    assert check_thresholds(lowest, SUMMARY) == []


def test_several_misses_keep_their_order() -> None:
    missed = check_thresholds({"ttft_p99_ms": 1, "error_rate": 1, "min_tps": 1e6}, SUMMARY)
    assert [line.split(":")[0] for line in missed] == ["ttft_p99_ms", "min_tps"]


def test_an_unknown_name_is_explained() -> None:
    assert threshold_problem("tttft_p99_ms") == "unknown threshold; did you mean ttft_p99_ms?"
    assert (threshold_problem("zzz") or "").startswith("unknown threshold; known: ttft_p99_ms, ")
