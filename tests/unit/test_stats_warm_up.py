"""MSER-5 finds the beginning that a start bends, and nothing where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from rvtop.stats.warm_up import truncation, warm_up
from tests.unit.queue_rows import FIRST_TOKEN_S, queue_requests


def noise(seed: int, count: int) -> np.ndarray:
    """TTFTs of a server that is steady: gamma around 50 ms, with some memory."""
    random = np.random.default_rng(seed)
    made = random.gamma(25, 2.0, count)
    for at in range(1, count):
        made[at] += 0.5 * (made[at - 1] - 50)
    return made


def test_a_slow_beginning_is_cut_where_it_ends() -> None:
    """A server that needs 30 ms more at first, and less and less."""
    for seed in range(20):
        values = noise(seed, 600)
        values[:120] += np.linspace(60, 0, 120)
        assert warm_up(values) in range(50, 160), f"seed {seed}"


def test_one_bad_batch_at_the_beginning_is_enough() -> None:
    values = noise(1, 600)
    values[:5] += 2000
    assert warm_up(values) == 5


def test_a_steady_run_has_no_warm_up() -> None:
    assert sum(warm_up(noise(seed, 400)) > 0 for seed in range(40)) <= 1


def test_a_queue_that_grows_is_never_steady() -> None:
    values = np.linspace(50, 5000, 400) + noise(3, 400)
    assert truncation(values) is None
    assert warm_up(values) == 0


@pytest.mark.parametrize("count", [0, 4, 49])
def test_few_requests_tell_nothing(count: int) -> None:
    values = noise(1, count)
    values[:5] += 2000
    assert warm_up(values) == 0


def test_equal_values_have_no_warm_up() -> None:
    assert warm_up(np.full(200, 50.0)) == 0


def test_a_queue_that_begins_full_is_steady_once_it_is_empty() -> None:
    """200 requests wait as it begins, and at half of its capacity 40 places of 0.4 s make an end of them."""
    arrivals, first = queue_requests(4, 40, 0.4, 0.5, 60.0, waiting=200)
    cut = warm_up((first - arrivals) * 1e3)
    late = np.flatnonzero(first - arrivals > FIRST_TOKEN_S + 0.2)
    assert late.size > 50
    assert cut > late.max() * 0.8
