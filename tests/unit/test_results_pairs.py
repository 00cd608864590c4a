"""What pairs show, from rows of requests: which pairs count, in which order, and what is said of them."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from rvtop.contract.pairs import (
    ALIKE,
    CENSORED,
    HIGHER,
    LOWER,
    NOT_YET,
    SAME,
    Pairs,
    pair_words,
    same_words,
    signed,
    summary_words,
)
from rvtop.results.pairs import PairFold, for_summary
from tests.pair_rows import row, rows, same_then_both


def ttfts(seed: int, count: int, by_ms: float, noise_ms: float = 3.0) -> Iterator[tuple[float, float]]:
    rng = random.Random(seed)
    for _ in range(count):
        prompt = rng.gauss(60, 10)
        yield prompt + rng.gauss(0, noise_ms), prompt + by_ms + rng.gauss(0, noise_ms)


def fold_of(same: int, both: int, by_ms: float, same_by_ms: float = 0.0) -> PairFold:
    fold = PairFold("http://a", "http://b")
    for one in same_then_both(ttfts(1, same, same_by_ms), ttfts(2, both, by_ms)):
        fold.add(one)
    return fold


def test_a_difference_is_called_with_its_interval() -> None:
    fold = fold_of(50, 200, 5.0)
    found = fold.view()
    ttft, tpot, e2e = found.rows
    assert (found.count, found.same_count, found.lost, found.fair) == (200, 50, 0, True)
    assert [row.word for row in found.rows] == [HIGHER, ALIKE, HIGHER]
    assert ttft.low is not None
    assert ttft.high is not None
    assert 0 < ttft.low < 5.0 < ttft.high < 7.0
    assert ttft.called is not None
    assert ttft.called < 60
    assert fold.called == ttft.called
    assert (ttft.level, tpot.level, e2e.level) == (95.0, 97.5, 97.5)
    assert [point.pairs for point in found.points] == [15, 30, 60, 120, 200]
    assert fold.view() is found
    assert found.ttft_a.count == found.ttft_b.count == 200


def test_the_figure_that_was_chosen_comes_first_and_has_the_level() -> None:
    fold = PairFold("a", "b", "e2e")
    for one in rows(ttfts(3, 40, -9.0)):
        fold.add(one)
    first = fold.view().rows[0]
    assert (first.key, first.level, first.word) == ("e2e", 95.0, LOWER)


def test_pairs_count_in_the_order_in_which_they_were_sent() -> None:
    fold = PairFold("a", "b", warm=("w",))
    assert fold.add(row(1, 0, "p", 5.0)) == []
    assert fold.add(row(1, 1, "p", 6.0)) == []
    assert fold.add(row(2, 1, "p", 8.0)) == []
    assert fold.view().waiting == 1
    assert fold.add(row(0, 1, "w", 50.0)) == []
    counted = fold.add(row(0, 0, "w", 5.0))
    assert [(one["pair"], one["stage"], one["first"]) for one in counted] == [
        (0, "warm", "a"),
        (1, "both", "b"),
    ]
    assert (counted[1]["a"]["ttft"], counted[1]["b"]["ttft"]) == (5.0, 6.0)
    fold.add(row(2, 0, "p", 7.0))
    found = fold.view()
    assert (found.count, found.waiting) == (2, 0)
    assert (found.rows[0].a, found.rows[0].b, found.rows[0].difference) == (6.0, 7.0, 1.0)
    assert found.rows[0].word == NOT_YET


def test_a_pair_that_is_missed_holds_up_the_others_until_the_end() -> None:
    fold = PairFold("a", "b")
    for one in rows([(5.0, 6.0)] * 3, first=1):
        fold.add(one)
    assert (fold.view().count, fold.view().waiting) == (0, 3)
    assert [one["pair"] for one in fold.finish()] == [1, 2, 3]
    assert (fold.view().count, fold.view().waiting) == (3, 0)


def test_a_pair_with_a_failure_is_lost_and_a_difference_in_completion_is_censored() -> None:
    fold = PairFold("a", "b")
    for one in rows(ttfts(4, 97, -20.0)):
        fold.add(one)
    assert fold.view().rows[0].word == LOWER
    for pair in (97, 98, 99):
        fold.add(row(pair, 0, "p", 60.0))
        fold.add(row(pair, 1, "p", 0.0, "http_503"))
    found = fold.view()
    assert (found.count, found.lost, found.completed_a, found.completed_b) == (97, 3, 100.0, 97.0)
    assert {row.word for row in found.rows} == {CENSORED}


def test_an_instrument_that_is_not_fair_is_told_and_its_own_difference_is_no_finding() -> None:
    found = fold_of(150, 150, 4.0, same_by_ms=4.0).view()
    assert found.fair is False
    assert found.rows[0].word == NOT_YET
    assert "the instrument's" in same_words(found)
    assert fold_of(150, 150, 20.0, same_by_ms=4.0).view().rows[0].word == HIGHER
    assert fold_of(3, 10, 4.0).view().fair is None
    assert "too few" in same_words(fold_of(3, 0, 4.0).view())


def test_what_is_said_in_words() -> None:
    found = fold_of(50, 200, -5.0).view()
    words = pair_words(found)
    assert words.startswith("TTFT: B −5.46 ms [−6.37, −4.55]")
    assert "] after 200 pairs (B lower)  TPOT 0 (same)  E2E −5." in words
    told = for_summary(found)
    assert set(told["rows"]) == {"ttft", "tpot", "e2e"}
    lines = summary_words(told)
    assert lines[1] == "pairs: A http://a  B http://b"
    assert "A against A: no difference in 50 pairs" in lines[2]
    assert "95 % at any time: B lower; first called after" in lines[3]
    assert summary_words(None) == []
    same = fold_of(50, 0, 0.0).view()
    assert pair_words(same).startswith(f"{SAME}  TTFT: [−")
    assert (signed(None), signed(0.0), signed(-1.234), signed(5)) == ("--", "0", "−1.23", "+5")


@pytest.mark.parametrize("count", [0, 1])
def test_without_pairs_nothing_is_known(count: int) -> None:
    found: Pairs = fold_of(0, count, 1.0).view()
    assert {row.word for row in found.rows} == {NOT_YET}
    assert {row.low for row in found.rows} == {None}
    assert found.fair is None
