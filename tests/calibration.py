"""Pairs of runs that are made up: what a queue does to latencies, so that requests are not independent."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rvtop.results.blocks import PartBlocks
from rvtop.results.compare import Blocks, interval_of
from rvtop.results.part import Part, RunFacts
from rvtop.results.table import Requests
from rvtop.stats.waterfall import NOTHING

Floats = npt.NDArray[np.float64]

#: The figures whose intervals are judged.
JUDGED = ("ttft_mean", "ttft_p50", "ttft_p90", "ttft_p99", "e2e_mean", "tps")
#: Requests that an engine works on at once.
_ENGINES = 4
_ANSWER_S = 0.4


def arrivals(count: int, load: float, seed: int) -> Floats:
    """Seconds at which ``count`` requests are meant to be sent, at random, ``load`` of what is served."""
    mean = 1 / (load * _ENGINES)
    return np.cumsum(np.random.default_rng(seed).exponential(mean, count))


def latencies(intended: Floats, seed: int) -> Floats:
    """Seconds to the first token at a server that takes about a second for each request, after waiting."""
    rng = np.random.default_rng(seed)
    service = rng.gamma(4.0, 0.25, intended.size) * rng.lognormal(-0.045, 0.3, intended.size)
    free = [0.0] * _ENGINES
    first = np.empty(intended.size)
    for n, (at, takes) in enumerate(zip(intended.tolist(), service.tolist(), strict=True)):
        engine = free.index(min(free))
        free[engine] = max(at, free[engine]) + takes
        first[n] = free[engine] - at
    return first


def run_of(intended: Floats, seed: int, slower: float = 1.0) -> Blocks:
    """The blocks of a run whose TTFTs are ``slower`` times those of the server."""
    first = latencies(intended, seed) * slower
    return figures_of(intended, first, first + _ANSWER_S)


def figures_of(intended: Floats, ttft: Floats, e2e: Floats) -> Blocks:
    """Of a run of requests with these times, seconds."""
    count = intended.size
    start = (intended * 1e9).astype(np.int64)
    zeros = np.zeros(count, np.int64)
    table = Requests(
        phases=("hold",),
        models=("m",),
        errors=("",),
        phase=zeros,
        model=zeros,
        error=zeros,
        intended=start,
        sent=start,
        first=start + (ttft * 1e9).astype(np.int64),
        last=start + (e2e * 1e9).astype(np.int64),
        output_tokens=np.full(count, 20, np.int64),
        prompt_tokens=zeros,
        cached_tokens=zeros,
        chunks=np.full(count, 20, np.int64),
        from_usage=np.ones(count, bool),
        told=np.tile(NOTHING, (count, 1)),
        gaps={},
    )
    facts = RunFacts(table, [], [(0, {})], "1")
    return PartBlocks(Part(facts, np.ones(count, bool), [(0.0, float(intended[-1]))], {})).figures()


def significant(figure: str, a: Blocks, b: Blocks, *, pairs: bool = True) -> bool:
    """Whether the two are called different."""
    found = interval_of(figure, a, b, pairs=pairs)
    assert found is not None, f"{figure}: too few data"
    return found.excludes_zero


def called_different(pairs: int, count: int, load: float, *, same_arrivals: bool = True) -> dict[str, int]:
    """Of so many pairs of runs of one and the same server, how many differ significantly, by figure."""
    wrong = dict.fromkeys(JUDGED, 0)
    for pair in range(pairs):
        ours = arrivals(count, load, 3 * pair)
        theirs = ours if same_arrivals else arrivals(count, load, 1_000_000 + pair)
        a, b = run_of(ours, 3 * pair + 1), run_of(theirs, 3 * pair + 2)
        for figure in JUDGED:
            wrong[figure] += significant(figure, a, b, pairs=same_arrivals)
    return wrong


def found_slower(
    pairs: int, count: int, load: float, slower: float, figures: tuple[str, ...]
) -> dict[str, int]:
    """Of so many pairs, the second run of which is ``slower`` times as slow, how many are found."""
    right = dict.fromkeys(figures, 0)
    for pair in range(pairs):
        intended = arrivals(count, load, 3 * pair)
        a, b = run_of(intended, 3 * pair + 1), run_of(intended, 3 * pair + 2, slower)
        for figure in figures:
            right[figure] += significant(figure, a, b)
    return right
