"""The comb in the gaps between tokens: found where something gathers them, and nowhere else."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise

import pytest

from rvtop.stats.comb import _NEAR, Comb, _fullest, comb_of, knob, said
from rvtop.stats.histogram import Histogram

ANSWERS, TOKENS = 30, 64


def gathered(period_ms: float, step_ms: float, jitter: float, draw: random.Random) -> Iterator[float]:
    """Gaps (ms) of answers whose tokens come every ``step_ms``, give or take, and are sent each period."""
    for _ in range(ANSWERS):
        at, sent = 0.0, []
        for _ in range(TOKENS):
            at += step_ms * draw.lognormvariate(0, jitter)
            sent.append(max(at, period_ms * (at // period_ms + 1)) * (1 + draw.gauss(0, 0.0005)))
        sent.sort()
        yield from (b - a for a, b in pairwise(sent))


def at_once(step_ms: float, jitter: float, draw: random.Random) -> Iterator[float]:
    """The same, each token sent when it is made."""
    yield from (step_ms * draw.lognormvariate(0, jitter) for _ in range(ANSWERS * (TOKENS - 1)))


def speculated(step_ms: float, jitter: float, draw: random.Random) -> Iterator[float]:
    """Gaps of steps that bring 1 to 4 tokens each."""
    for _ in range(ANSWERS * TOKENS // 3):
        yield step_ms * draw.lognormvariate(0, jitter)
        yield from (0.002 for _ in range(draw.randint(0, 3)))


def found(gaps_ms: Iterator[float], engine_gap_ms: float | None = None) -> Comb | None:
    return comb_of(Histogram.of([max(1, int(gap * 1e6)) for gap in gaps_ms]).distribution(), engine_gap_ms)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("period_ms", "step_ms"), [(50, 7), (50, 20), (180, 10), (100, 6)])
def test_what_gathers_tokens_is_found_with_its_period(period_ms: float, step_ms: float, seed: int) -> None:
    comb = found(gathered(period_ms, step_ms, 0.1, random.Random(seed)), step_ms)
    assert comb is not None
    assert comb.period_ms == pytest.approx(period_ms, rel=0.06)
    assert comb.lump == pytest.approx(period_ms / step_ms, rel=0.35)
    assert sum(comb.bars) == pytest.approx(1, abs=0.1)
    assert comb.bars[0] == pytest.approx(comb.together, abs=0.05)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("jitter", [0.02, 0.3, 1.5])
def test_tokens_that_come_one_by_one_are_no_comb(jitter: float, seed: int) -> None:
    assert found(at_once(10, jitter, random.Random(seed))) is None


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("jitter", "engine_gap_ms"), [(0.02, 30.0), (0.9, None)])
def test_lumps_of_speculative_decoding_are_no_comb(
    jitter: float, engine_gap_ms: float | None, seed: int
) -> None:
    """The engine's own gaps are as long, or the lumps have no period."""
    assert found(speculated(30, jitter, random.Random(seed)), engine_gap_ms) is None


@pytest.mark.parametrize("seed", range(20))
def test_the_fullest_band_is_the_first_of_those_that_hold_most(seed: int) -> None:
    """Held against all bands, each counted anew."""
    draw = random.Random(seed)
    apart = [(float(ns), draw.randint(1, 5)) for ns in sorted(draw.sample(range(1, 400), 60))]
    bands = [[(ns, n) for ns, n in apart if abs(ns - middle) <= _NEAR * middle] for middle, _ in apart]
    sums = [sum(n for _, n in band) for band in bands]
    assert _fullest(apart) == (bands[sums.index(max(sums))], max(sums))


def test_few_gaps_say_nothing() -> None:
    assert found(iter([50.0] * 20 + [0.001] * 100)) is None
    assert found(iter(())) is None


def test_it_is_said_with_what_ends_it() -> None:
    comb = Comb(50.2, 6.9, 0.86)
    assert said(comb)[0] == "lumps of 6.9 tokens every 50.2 ms; 86 % of gaps are 0"
    assert "--stream-batching-ms 0" in knob(comb, "rsv")
    assert knob(comb, None) == ""
    assert "http-no-delay" in knob(Comb(181.0, 18, 0.94), None)
