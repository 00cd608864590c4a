"""How often a comparison of two runs is wrong, at a made-up server whose requests wait for each other.

The same with 200 pairs and real runs: ``python -m tests.bench.compare``."""

from __future__ import annotations

from rvtop.stats.intervals import welch
from tests.calibration import arrivals, called_different, found_slower, latencies


def test_a_server_is_rarely_called_different_from_itself() -> None:
    assert max(called_different(60, 1000, 0.85).values()) <= 7


def test_runs_of_other_arrivals_are_rarely_called_different() -> None:
    assert max(called_different(30, 1000, 0.85, same_arrivals=False).values()) <= 4


def test_ten_percent_more_latency_is_found() -> None:
    found = found_slower(20, 10_000, 0.5, 1.1, ("ttft_mean", "ttft_p50", "ttft_p90", "e2e_mean"))
    assert found == dict.fromkeys(found, 20)


def test_single_requests_would_call_most_pairs_different() -> None:
    """So the made-up requests depend on each other as those of a busy server do."""
    wrong = 0
    for pair in range(20):
        a, b = (latencies(arrivals(1000, 0.85, pair + seed), pair + seed) for seed in (1000, 2000))
        wrong += welch(a.tolist(), b.tolist(), serial=False).excludes_zero
    assert wrong >= 10
