"""The search for the highest rate that holds an SLO, against servers made of a formula."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvtop.errors import UserError
from rvtop.session.search import Search, SearchOptions, parse_slo

Server = Callable[[float], float]  # rate -> TTFT p99, ms


def searched(options: SearchOptions, ttft: Server, errors: Server = lambda rate: 0.0) -> Search:
    search = Search(options)
    while (phase := search.next()) is not None:
        assert len(search.curve) < 60
        assert phase.rate_from == phase.rate_to <= options.max_rps
        rate = phase.rate_from
        search.judge({"ttft_p99": ttft(rate), "error_rate": errors(rate)})
    return search


def queue(capacity: float, alone_ms: float = 20.0) -> Server:
    """Latency of a server that is full at ``capacity`` (M/M/1)."""
    return lambda rate: alone_ms / (1 - rate / capacity) if rate < capacity else 1e6


SLO = parse_slo("ttft_p99=200")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.floats(0.3, 5000.0), st.floats(0.1, 100.0))
def test_it_finds_the_knee_within_its_tolerance(capacity: float, start: float) -> None:
    knee = capacity * (1 - 20.0 / 200.0)
    search = searched(SearchOptions(SLO, start_rps=start), queue(capacity))
    assert search.best is not None
    assert knee / 1.06 <= search.best <= knee * (1 + 1e-9)
    assert search.curve[-1].confirms
    assert search.curve[-1].held


def test_it_never_asks_for_more_than_it_may() -> None:
    search = searched(SearchOptions(SLO, start_rps=10, max_rps=60), lambda rate: 5.0)
    assert search.best == 60
    assert [step.rps for step in search.curve] == [10, 20, 40, 60, 60]


def test_a_server_that_never_holds_gives_no_rate() -> None:
    search = searched(SearchOptions(SLO), lambda rate: 900.0)
    assert search.best is None
    assert not any(step.held for step in search.curve)
    assert min(step.rps for step in search.curve) < 0.1


def test_errors_end_a_rate_also_where_the_survivors_are_fast() -> None:
    search = searched(
        SearchOptions(SLO, start_rps=8), lambda rate: 5.0, lambda rate: 0.5 if rate > 50 else 0.0
    )
    assert search.best is not None
    assert 47 < search.best <= 50


def test_a_missing_figure_is_a_miss() -> None:
    search = Search(SearchOptions(SLO))
    search.next()
    assert not search.judge({"error_rate": 0.0}).held
    assert "ttft_p99 -- > 200 ms" in search.curve[-1].describe(SLO)


def test_a_miss_of_a_limited_client_says_so_and_counts_all_the_same() -> None:
    search = Search(SearchOptions(SLO, start_rps=10))
    search.next()
    assert search.judge({"ttft_p99": 5.0, "error_rate": 0.0}, "late").limited_by is None  # it held anyway
    search.next()
    step = search.judge({"ttft_p99": 900.0, "error_rate": 0.0}, "sends are late by 9.0 ms")
    assert not step.held
    assert step.describe(SLO).endswith("ttft_p99 900 > 200 ms; client-limited: sends are late by 9.0 ms")
    following = search.next()
    assert following is not None
    assert 10 < following.rate_from < 20


def test_a_lucky_step_does_not_stand() -> None:
    """A server that holds 100 rps for a moment only: the confirmation sees it, the search goes on below."""
    options = SearchOptions(SLO, start_rps=100, max_rps=100)
    search = Search(options)
    while (phase := search.next()) is not None:
        confirms = phase.name.startswith("confirm")
        rate = phase.rate_from
        search.judge({"ttft_p99": 10.0 if rate <= 70 or not confirms else 900.0, "error_rate": 0.0})
    assert search.best is not None
    assert 40 <= search.best <= 70
    assert any(step.confirms and not step.held for step in search.curve)


def test_noise_ends_too() -> None:
    random.seed(5)
    search = searched(
        SearchOptions(SLO, start_rps=1), lambda rate: queue(80)(rate) * random.uniform(0.7, 1.4)
    )
    assert search.best is not None


def test_a_step_is_long_enough_for_its_percentile_and_the_confirmation_longer() -> None:
    search = Search(SearchOptions(SLO, start_rps=50, max_rps=50, step_s=10, hold_s=30))
    first = search.next()
    assert first is not None
    assert first.duration_s == 10
    search.judge({"ttft_p99": 1.0, "error_rate": 0.0})
    confirm = search.next()
    assert confirm is not None
    assert confirm.duration_s == 30
    slow = Search(SearchOptions(SLO, start_rps=2)).next()
    assert slow is not None
    assert slow.duration_s == 50


def test_a_hopeless_step_is_given_up_but_not_by_a_few_requests() -> None:
    search = Search(SearchOptions(SLO))
    search.next()
    assert not search.hopeless({"ttft_p99": 5000.0, "error_rate": 0.0}, 10)
    assert search.hopeless({"ttft_p99": 5000.0, "error_rate": 0.0}, 100)
    assert not search.hopeless({"ttft_p99": 300.0, "error_rate": 0.0}, 1000)
    assert not search.hopeless({"ttft_p99": None, "error_rate": 0.0}, 1000)


def test_what_an_slo_says() -> None:
    assert parse_slo("ttft_p99=200, tpot_mean_ms=50") == {
        "error_rate": 0.01,
        "ttft_p99": 200,
        "tpot_mean": 50,
    }
    assert parse_slo("error_rate=0")["error_rate"] == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "unknown figure; known: ttft, itl, tpot, e2e with _mean, _p50"),
        ("ttft=200", "--slo 'ttft=200': unknown figure"),
        ("ttft_p99", "--slo ttft_p99: needs a limit > 0, such as ttft_p99=200"),
        ("ttft_p99=-1", "needs a limit > 0"),
        ("ttft_p99=nan", "needs a limit > 0"),
        ("ttft_p99=1,ttft_p99=2", "names ttft_p99 twice"),
        ("ttft_p75=1", "unknown figure"),
    ],
)
def test_an_slo_that_can_not_be_meant(text: str, says: str) -> None:
    with pytest.raises(UserError) as refused:
        parse_slo(text)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not math.isnan(len(str(refused.value)))
