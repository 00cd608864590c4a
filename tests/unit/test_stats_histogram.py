"""The latency histogram: percentiles within 1 %, and no way of splitting the events changes it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvtop.stats.distribution import BUCKETS, GAMMA
from rvtop.stats.histogram import LAST_NS, MIDDLE_NS, UPPER_NS, Histogram, _bucket, bucket_of

SETTINGS = settings(max_examples=150, deadline=None, derandomize=True)
durations = st.lists(st.integers(0, 4_000_000_000_000), max_size=200)
in_range = st.lists(st.integers(1_000, 2_000_000_000_000), min_size=1, max_size=200)


@SETTINGS
@given(durations, st.lists(st.integers(0, 200), max_size=4))
def test_parts_add_up_to_the_whole(values: list[int], at: list[int]) -> None:
    merged = Histogram()
    cuts = sorted({min(cut, len(values)) for cut in at})
    for a, b in zip([0, *cuts], [*cuts, len(values)], strict=True):
        merged.merge(Histogram.of(values[a:b]))
    whole = Histogram.of(values)
    assert merged == whole
    assert merged.copy() == whole
    one_by_one = Histogram()
    for value in values:
        one_by_one.add(value)
    assert one_by_one == whole


@SETTINGS
@given(in_range, st.floats(0.0, 100.0))
def test_percentiles_are_within_one_percent(values: list[int], q: float) -> None:
    exact = sorted(values)[max(1, math.ceil(len(values) * q / 100.0)) - 1]
    assert Histogram.of(values).percentile(q) == pytest.approx(exact, rel=0.01)


@SETTINGS
@given(in_range)
def test_mean_extremes_and_count_are_exact(values: list[int]) -> None:
    made = Histogram.of(values)
    assert (made.count, made.sum_ns, made.min_ns, made.max_ns) == (
        len(values),
        sum(values),
        min(values),
        max(values),
    )
    assert made.mean_ns == pytest.approx(sum(values) / len(values))
    assert made.min_ns <= made.percentile(0) <= made.percentile(100) <= made.max_ns


def test_an_empty_histogram_has_no_figures() -> None:
    empty = Histogram()
    assert math.isnan(empty.mean_ns)
    assert math.isnan(empty.percentile(99))
    assert empty.sparse() == {}
    assert Histogram.from_sparse([]) == empty
    full = Histogram.of([5_000])
    full.merge(empty)
    assert full == Histogram.of([5_000])


@SETTINGS
@given(durations, st.lists(st.floats(1.0, 1e13), min_size=1, max_size=30))
def test_rebinning_keeps_every_event(values: list[int], inner: list[float]) -> None:
    made = Histogram.of(values).distribution()
    counts = made.rebin([0.0, *sorted(inner), math.inf])
    assert len(counts) == len(inner) + 1
    assert min(counts) >= -1e-9
    assert sum(counts) == pytest.approx(made.count)


def test_rebinning_puts_events_where_they_are() -> None:
    made = Histogram.of([2_000_000] * 10 + [50_000_000] * 5)
    rebin = made.distribution().rebin
    assert rebin([0, 1e6, 10e6, 100e6]) == pytest.approx([0, 10, 5])
    assert rebin([0.0, *UPPER_NS]) == pytest.approx(made.counts.tolist())


@SETTINGS
@given(durations, st.floats(0.0, 100.0))
def test_what_is_shown_has_the_figures_of_the_histogram(values: list[int], q: float) -> None:
    made = Histogram.of(values)
    shown = made.distribution()
    assert (shown.count, shown.sum_ns, shown.min_ns, shown.max_ns) == (
        made.count,
        made.sum_ns,
        made.min_ns,
        made.max_ns,
    )
    assert shown.percentile(q) == pytest.approx(made.percentile(q), nan_ok=True)
    assert shown.mean_ns == pytest.approx(made.mean_ns, nan_ok=True)
    assert dict(shown.buckets) == made.sparse()


@SETTINGS
@given(in_range)
def test_the_sparse_form_gives_the_counts_back(values: list[int]) -> None:
    made = Histogram.of(values)
    sparse = made.sparse()
    assert all(count > 0 for count in sparse.values())
    back = Histogram.from_sparse(sparse.items())
    assert np.array_equal(back.counts, made.counts)
    assert back.count == made.count
    for q in (1, 50, 90, 99, 100):
        assert back.percentile(q) == pytest.approx(made.percentile(q), rel=0.02)
    assert Histogram.from_sparse(back.sparse().items()) == back


@pytest.mark.parametrize("bad", [(-1, 1), (BUCKETS, 1), (3, -1)])
def test_a_bucket_that_is_none_is_refused(bad: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="no such histogram bucket"):
        Histogram.from_sparse([bad])


def test_one_event_and_many_go_to_the_same_bucket_at_every_edge() -> None:
    around = np.concatenate([np.floor(UPPER_NS) - 1, np.floor(UPPER_NS), np.ceil(UPPER_NS)]).astype(np.int64)
    assert [_bucket(ns) for ns in around.tolist()] == bucket_of(around).tolist()


def test_the_last_nanosecond_of_each_bucket_is_its_last() -> None:
    assert bucket_of(LAST_NS).tolist() == list(range(BUCKETS))
    assert bucket_of(LAST_NS[:-1] + 1).tolist() == list(range(1, BUCKETS))


def test_edges_belong_to_the_bucket_below_and_the_range_has_ends() -> None:
    assert bucket_of([UPPER_NS[5], UPPER_NS[5] * 1.001, UPPER_NS[6]]).tolist() == [5, 6, 6]
    assert bucket_of([0, -5, 1, 1000]).tolist() == [0, 0, 0, 0]
    assert bucket_of(10**18).item() == BUCKETS - 1
    assert (MIDDLE_NS[1:] / UPPER_NS[:-1] < GAMMA).all()
    assert UPPER_NS[-1] > 2_500e9  # the longest request that is told from a longer one
