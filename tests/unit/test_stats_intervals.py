"""Intervals of differences: quantiles, Welch and memory by hand, and the blocks of a run folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rvtop.results import summary
from rvtop.stats.histogram import bucket_of
from rvtop.stats.intervals import BLOCKS, Interval, paired, student_t, variance_of_mean, welch
from tests.unit.run_folder import command, make, phase, request

GAP = [bucket_of(1_000_000 * ms).item() for ms in (5, 20)]


@pytest.mark.parametrize(
    ("level", "freedom", "value"),
    [  # printed tables
        (95, 1, 12.706),
        (95, 2, 4.303),
        (95, 9, 2.262),
        (99, 4, 4.604),
        (99.9, 3, 12.924),
        (80, 9, 1.383),
        (95, 1e6, 1.960),
    ],
)
def test_quantiles_of_student(level: float, freedom: float, value: float) -> None:
    assert student_t(level, freedom) == pytest.approx(value, abs=6e-4)


def test_a_paired_interval_by_hand() -> None:
    a = [10.0, 20.0, 30.0, 40.0]
    b = [11.0, 23.0, 31.0, 43.0]  # 1, 3, 1, 3 more: mean 2, s² 4/3, no positive memory
    found = paired(a, b)
    half = 3.18245 * (4 / 3 / 4) ** 0.5
    assert (found.low, found.high) == (pytest.approx(2 - half, abs=1e-4), pytest.approx(2 + half, abs=1e-4))
    assert found.excludes_zero
    assert not paired(a, [9.0, 23.0, 29.0, 43.0]).excludes_zero


def test_what_follows_each_other_alike_makes_an_interval_wider() -> None:
    rising, mixed = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 6.0, 2.0, 5.0, 3.0, 4.0]
    plain = 3.5 / 6
    assert variance_of_mean(mixed) == pytest.approx(plain)
    assert variance_of_mean(rising, serial=False) == pytest.approx(plain)
    r = 8.75 / 17.5 + 1 / 6
    assert variance_of_mean(rising) == pytest.approx(plain * (1 + r) / (1 - r))


def test_welch_by_hand() -> None:
    # Means 2 and 6, s²/n 1/3 and 4/3: 2.94 degrees of freedom.
    found = welch([1.0, 2.0, 3.0], [4.0, 6.0, 8.0], serial=False)
    freedom = (5 / 3) ** 2 / ((1 / 3) ** 2 / 2 + (4 / 3) ** 2 / 2)
    half = student_t(95, freedom) * (5 / 3) ** 0.5
    assert (found.low, found.high) == (pytest.approx(4 - half), pytest.approx(4 + half))
    assert welch([5.0, 5.0], [5.0, 5.0]) == Interval(0.0, 0.0)


def test_an_interval_reaches_what_was_measured() -> None:
    assert Interval(1.0, 2.0).reaching(2.5, 0.25) == Interval(0.75, 2.75)


def run_folder(folder: Path, count: int, failed: int = 0) -> Path:
    """``count`` requests, 10 ms apart; the TTFT of the k-th tenth is k + 1 ms, and 20 ms later all ends."""
    rows = []
    for n in range(count):
        first = 1.0 + n * BLOCKS // count
        rows.append(
            request(n, "hold", 10.0 * n, error="refused")
            if n < failed
            else request(
                n, "hold", 10.0 * n, lag=0, first=first, last=first + 20, tokens=3, itl_hist=[[GAP[n % 2], 2]]
            )
        )
    log = [phase("hold", 0, count / 100), command(count / 100, "stop")]
    return make(folder, rows, log)


def test_a_run_is_cut_into_stretches_of_as_many_requests(tmp_path: Path) -> None:
    found = summary.summarise(run_folder(tmp_path / "a", 1000, failed=5))["blocks"]
    whole = found["whole"]
    assert whole["ttft_mean"] == [pytest.approx(k + 1.0) for k in range(BLOCKS)]
    assert whole["ttft_p50"] == whole["ttft_mean"]
    assert whole["e2e_mean"] == [pytest.approx(k + 21.0) for k in range(BLOCKS)]
    assert whole["itl_mean"] == [pytest.approx(10.0)] * BLOCKS
    assert all(4.9 < value < 5.1 for value in whole["itl_p50"][1:])
    assert all(19.8 < value < 20.2 for value in whole["itl_p99"])
    assert whole["errors"] == [50.0, *[0.0] * 9], "as many as the whole would have"
    assert whole["completed_pct"] == [95.0, *[100.0] * 9]
    assert whole["ttft_p99"][0] is None, "95 requests have no p99"
    assert whole["ttft_p99"][1] == pytest.approx(2.0)
    assert found["phases"] == {"hold": whole}


def test_rates_of_stretches_are_in_the_mean_those_of_the_whole(tmp_path: Path) -> None:
    made = summary.summarise(run_folder(tmp_path / "a", 1000))
    whole = made["blocks"]["whole"]
    assert np.mean(whole["tps"]) == pytest.approx(made["kpm"]["tps"])
    assert np.mean(whole["goodput_rps"]) == pytest.approx(made["goodput_rps"])


def test_a_short_run_has_no_blocks(tmp_path: Path) -> None:
    made = summary.summarise(run_folder(tmp_path / "a", 90))
    assert made["blocks"] == {"whole": {}, "phases": {}}
