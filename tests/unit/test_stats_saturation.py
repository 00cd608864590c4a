"""Over-saturation is called on queues whose capacity is known, and only where load is above it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rvtop.stats.saturation import LoadSecond, Slope, saturation_of, slopes
from tests.unit.queue_rows import queue_seconds

SEEDS = range(20)
#: Places and seconds a request of a server that answers 40 requests a second.
SERVER = (8, 0.2)
#: Evenly spaced, Poisson, and four times the variance of Poisson.
ARRIVALS = (None, 1.0, 0.25)


def called_at(seconds: list[LoadSecond], begin: int = 0) -> int | None:
    """The first second at whose end it is called."""
    ends = range(begin + 1, len(seconds) + 1)
    return next((end for end in ends if saturation_of(seconds[:end]) is not None), None)


@pytest.mark.parametrize("spread", [None, 4.0], ids=["same-lengths", "gamma-lengths"])
@pytest.mark.parametrize("shape", ARRIVALS, ids=["constant", "poisson", "bursty"])
def test_it_is_called_within_15_s_of_a_step_to_125_percent(shape: float | None, spread: float | None) -> None:
    for seed in SEEDS:
        seconds = queue_seconds(seed, *SERVER, ((0.5, 12), (1.25, 15)), shape, spread)
        called = called_at(seconds)
        assert called in range(12 + 1, 12 + 15 + 1), f"seed {seed}"


@pytest.mark.parametrize("spread", [None, 4.0], ids=["same-lengths", "gamma-lengths"])
@pytest.mark.parametrize("shape", ARRIVALS, ids=["constant", "poisson", "bursty"])
def test_it_is_never_called_at_90_percent(shape: float | None, spread: float | None) -> None:
    for seed in SEEDS:
        seconds = queue_seconds(1000 + seed, *SERVER, ((0.9, 40), (0.3, 10), (0.9, 20)), shape, spread)
        assert called_at(seconds) is None, f"seed {seed}"


def test_the_slope_is_what_is_planned_above_the_capacity() -> None:
    seconds = queue_seconds(1, 8, 0.2, ((0.5, 12), (1.25, 20)), 1.0)
    found = slopes(seconds, 15)
    assert found is not None
    assert found.planned_rps == pytest.approx(50.0)
    assert found.answered_rps == pytest.approx(40.0, abs=0.5)
    assert found.in_flight.per_s == pytest.approx(10.0, abs=0.5)
    # A queue's wait grows by the share that is not answered.
    assert found.ttft.per_s == pytest.approx(200.0, abs=60.0)


def test_requests_that_take_long_do_not_look_like_a_server_that_is_late() -> None:
    """In flight grows for as long as a request takes, and TTFT does not."""
    for seed in SEEDS:
        seconds = queue_seconds(seed, 400, 10.0, ((0.9, 60),), 1.0, 2.0)
        assert called_at(seconds) is None, f"seed {seed}"


def test_a_ramp_that_ends_below_the_capacity_is_no_saturation() -> None:
    ramp = [(share / 20, 2.0) for share in range(1, 19)]
    for seed in SEEDS:
        assert called_at(queue_seconds(seed, 32, 0.8, (*ramp, (0.9, 20)), 1.0, 4.0)) is None, f"seed {seed}"


def test_without_a_planned_rate_nothing_is_known() -> None:
    """A closed loop waits for the server, and a paused load has nothing planned."""
    seconds = queue_seconds(1, 8, 0.2, ((0.5, 12), (1.25, 20)), 1.0)
    assert called_at([replace(second, planned_rps=None) for second in seconds]) is None
    assert called_at([replace(second, planned_rps=0.0) for second in seconds]) is None


def test_errors_that_come_at_once_are_no_saturation() -> None:
    """What is refused is answered: in flight does not grow."""
    seconds = [LoadSecond(8, 50, 50.0, 30.0 + 30 * at, 0.2) for at in range(40)]
    assert called_at(seconds) is None


def test_a_client_that_falls_behind_is_no_saturation() -> None:
    """It sends 40 of the 50 that are due, so that TTFT, from the intended time on, grows as well."""
    seconds = [LoadSecond(8, 40, 50.0, 30.0 + 200 * at, 0.2) for at in range(40)]
    assert called_at(seconds) is None


def test_a_silent_second_gives_no_slope() -> None:
    seconds = queue_seconds(1, 8, 0.2, ((1.25, 20),), None)
    assert slopes(seconds, 8) is not None
    seconds[-3] = replace(seconds[-3], ttft_ms=None)
    assert slopes(seconds, 8) is None


def test_a_line_has_its_own_slope_and_no_error() -> None:
    seconds = [LoadSecond(10 + 5 * at, 25, 25.0, 100.0 + 40 * at, 0.5) for at in range(20)]
    found = saturation_of(seconds)
    assert found is not None
    assert found.in_flight == Slope(pytest.approx(5.0), pytest.approx(0.0))  # type: ignore[arg-type]
    assert found.ttft == Slope(pytest.approx(40.0), pytest.approx(0.0, abs=1e-9))  # type: ignore[arg-type]
