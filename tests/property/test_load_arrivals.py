"""Intended times: the inverse of the integral of the rate; even or right in law, as the arrivals ask for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvtop.load.plan.arrivals import RateLine, UnitArrivals

SETTINGS = settings(max_examples=200, deadline=None, derandomize=True)

rates = st.floats(0.01, 2000.0)
maybe_zero = st.one_of(st.just(0.0), rates)
steps = st.lists(st.tuples(st.floats(0.01, 20.0), maybe_zero), min_size=1, max_size=8)


def line_of(parts: list[tuple[float, float]]) -> RateLine:
    """A rate of steps: (how long, how much), the last for ever."""
    line, t = RateLine(), 0.0
    for length, rate in parts:
        line.change(t, rate)
        t += length
    return line


def area(parts: list[tuple[float, float]], until: float) -> float:
    """The integral of those steps, by adding rectangles."""
    total = t = 0.0
    for number, (length, rate) in enumerate(parts):
        end = math.inf if number == len(parts) - 1 else t + length
        total += max(0.0, min(until, end) - t) * rate
        t = end
    return total


@SETTINGS
@given(steps, st.lists(st.floats(0.0, 5000.0), min_size=1, max_size=30))
def test_when_is_the_inverse_of_the_integral_of_steps(
    parts: list[tuple[float, float]], raw: list[float]
) -> None:
    line, units = line_of(parts), np.sort(np.array(raw))
    times = line.when(units)
    assert times.shape == units.shape
    assert not np.isnan(times).any()
    known = np.isfinite(times)
    assert (np.diff(times[known]) >= -1e-9 * (1 + times[known][1:])).all()
    for unit, t in zip(units, times, strict=True):
        if math.isinf(t):
            assert area(parts, 1e6) <= unit + 1e-9
        else:
            assert area(parts, t) == pytest.approx(unit, rel=1e-9, abs=1e-9)
            assert line.expected(t) == pytest.approx(unit, rel=1e-9, abs=1e-9)


@SETTINGS
@given(maybe_zero, maybe_zero, st.floats(0.1, 600.0), st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_when_is_the_inverse_of_the_integral_of_a_ramp(
    start: float, end: float, length: float, shares: list[float]
) -> None:
    line = RateLine.ramp(start, end, length)
    whole = (start + end) / 2 * length
    assert line.expected(length) == pytest.approx(whole, rel=1e-9, abs=1e-9)
    units = np.sort(np.array(shares)) * whole
    for unit, t in zip(units, line.when(units), strict=True):
        if math.isinf(t):  # the very end of a ramp down to nothing
            assert end == 0.0
            assert unit >= whole * (1 - 1e-9)
            continue
        d = min(t, length)
        exact = start * d + (end - start) / length * d * d / 2 + max(0.0, t - length) * end
        assert exact == pytest.approx(unit, rel=1e-7, abs=1e-7)


@SETTINGS
@given(rates, st.floats(0.0, 50.0), rates, st.integers(1, 5000))
def test_a_change_of_rate_applies_at_once(before: float, t: float, after: float, count: int) -> None:
    """What comes before the change stays; of the waits that run, the rest shrinks or grows in proportion."""
    units = np.arange(count, dtype=float)
    line = RateLine.constant(before)
    planned = line.when(units)
    line.change(t, after)
    changed = line.when(units)
    gone = planned < t * (1 - 1e-12) - 1e-12
    assert np.array_equal(changed[gone], planned[gone])
    ahead = planned > t * (1 + 1e-12) + 1e-9
    np.testing.assert_allclose(
        changed[ahead], t + (planned[ahead] - t) * before / after, rtol=1e-6, atol=1e-9
    )


def test_a_wait_of_ten_seconds_shrinks_when_the_rate_goes_up() -> None:
    line = RateLine.constant(0.1)
    line.change(2.0, 10.0)
    np.testing.assert_allclose(line.when(np.arange(4.0)), [0.0, 2.08, 2.18, 2.28])


@SETTINGS
@given(rates, st.floats(0.0, 20.0), st.floats(0.01, 100.0))
def test_a_pause_adds_no_catch_up(rate: float, at: float, length: float) -> None:
    units = np.arange(2000.0)
    planned = RateLine.constant(rate).when(units)
    line = RateLine.constant(rate)
    line.change(at, 0.0)
    assert np.isinf(line.when(units)[planned > at + 1e-9]).all()
    line.splice(at + length, RateLine.constant(rate))
    shifted = np.where(planned < at - 1e-9, planned, planned + length)
    clear = np.abs(planned - at) > 1e-6
    np.testing.assert_allclose(line.when(units)[clear], shifted[clear], rtol=1e-6, atol=1e-6)
    assert line.expected(at + length) == pytest.approx(line.expected(at), rel=1e-9, abs=1e-12)


def test_after_a_pause_a_ramp_goes_on_where_the_plan_stands_by_then() -> None:
    plan = RateLine.ramp(0.0, 10.0, 10.0)
    line = RateLine.ramp(0.0, 10.0, 10.0)
    line.change(2.0, 0.0)
    line.splice(6.0, plan)
    assert [line.rate(t) for t in (1.0, 3.0, 5.9, 6.0, 8.0, 10.0, 99.0)] == [1, 0, 0, 6, 8, 10, 10]
    assert line.expected(10.0) == pytest.approx(2.0 + 32.0)


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_an_impossible_rate_is_refused(bad: float) -> None:
    line = RateLine.constant(5.0)
    with pytest.raises(ValueError, match="rate"):
        line.change(1.0, bad)
    assert line.rate(2.0) == 5.0


@SETTINGS
@given(st.floats(0.1, 5000.0), st.floats(0.01, 5.0))
def test_constant_arrivals_are_exactly_even_and_exactly_as_many(rate: float, length: float) -> None:
    count = math.ceil(rate * length * (1 - 1e-12))
    times = RateLine.constant(rate).when(UnitArrivals("constant", (1,)).span(0, count + 1))
    np.testing.assert_allclose(times, np.arange(count + 1) / rate, rtol=1e-12)
    assert (times[:count] < length).all()
    assert times[count] >= length * (1 - 1e-12)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    "parts", [[(20.0, 50.0)], [(5.0, 10.0), (5.0, 0.0), (5.0, 200.0), (5.0, 40.0)], [(0.5, 3000.0)]]
)
def test_poisson_counts_have_the_mean_and_the_spread_of_their_window(
    seed: int, parts: list[tuple[float, float]]
) -> None:
    """In every window the count is within 6 standard deviations of the integral there."""
    line = line_of([*parts, (1.0, 0.0)])
    end = sum(length for length, _ in parts)
    times = line.when(UnitArrivals("poisson", (seed, 0)).span(0, 8000))
    for a in np.linspace(0.0, end, 9):
        for b in np.linspace(a, end, 5)[1:]:
            mean = area(parts, b) - area(parts, a)
            count = int(((times >= a) & (times < b)).sum())
            assert abs(count - mean) <= 6 * math.sqrt(mean) + 1


def test_poisson_windows_vary_as_poisson_does() -> None:
    """Variance over mean of 2000 windows: 1, within 6 of its own standard errors."""
    units = UnitArrivals("poisson", (3, 1)).span(0, 42_000)
    counts = np.histogram(units, bins=np.arange(0, 40_001, 20))[0]
    assert counts.var() / counts.mean() == pytest.approx(1.0, abs=6 * math.sqrt(2 / counts.size))


@pytest.mark.parametrize("shape", [0.25, 0.5, 1.0, 4.0, 25.0])
def test_gamma_gaps_have_mean_one_and_the_variation_of_their_burstiness(shape: float) -> None:
    gaps = np.diff(UnitArrivals("gamma", (11, 2), shape).span(0, 200_000))
    assert gaps.mean() == pytest.approx(1.0, abs=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(1 / math.sqrt(shape), rel=0.03)
    assert (gaps >= 0).all()


def test_seeds_give_the_same_arrivals_in_every_release() -> None:
    """Golden: these numbers are part of what a recorded run means. They must never change."""
    np.testing.assert_allclose(UnitArrivals("poisson", (7, 0)).span(0, 5), GOLDEN_POISSON, rtol=1e-12)
    np.testing.assert_allclose(UnitArrivals("gamma", (7, 3), 0.5).span(0, 5), GOLDEN_GAMMA, rtol=1e-12)
    assert UnitArrivals("poisson", (7, 0)).span(9_000, 9_001)[0] == pytest.approx(GOLDEN_LATE, rel=1e-12)


GOLDEN_POISSON = [
    0.36572232990736075,
    1.3681082743103081,
    1.5838143406862275,
    2.3873669392194055,
    4.085165256620553,
]
GOLDEN_GAMMA = [
    0.440234703356183,
    0.6909274816079582,
    2.6064845648822628,
    5.305595545679296,
    5.589182264019378,
]
GOLDEN_LATE = 9041.192971281294


@SETTINGS
@given(
    st.sampled_from(["constant", "poisson", "gamma"]),
    st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 50)),
    st.lists(st.tuples(st.integers(0, 20_000), st.integers(1, 600)), min_size=1, max_size=6),
)
def test_the_stream_is_the_same_however_it_is_asked_for(
    kind: str, seed: tuple[int, int], asked: list[tuple[int, int]]
) -> None:
    whole = UnitArrivals(kind, seed, 0.7).span(0, 21_000)  # type: ignore[arg-type]
    parts = UnitArrivals(kind, seed, 0.7)  # type: ignore[arg-type]
    for start, count in sorted(asked):
        assert np.array_equal(parts.span(start, start + count), whole[start : start + count])
        parts.forget(start)
        assert np.array_equal(parts.span(start, start + count), whole[start : start + count])
    assert (np.diff(whole) >= 0).all()


def test_what_was_forgotten_is_not_kept_and_not_made_up() -> None:
    units = UnitArrivals("poisson", (1, 1))
    units.span(0, 1_000_000)
    units.forget(1_000_000)
    assert units._known.size <= 4096
    with pytest.raises(ValueError, match="forgotten"):
        units.span(0, 1)


def test_burstiness_must_be_positive() -> None:
    with pytest.raises(ValueError, match="burstiness"):
        UnitArrivals("gamma", (1,), 0.0)
