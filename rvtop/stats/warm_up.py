"""Where the beginning of a run, which its start still bends, goes over into a steady state: MSER-5.

White, An effective truncation heuristic for bias reduction in simulation output, Simulation 69, 1997; with
means of five: White, Cobb and Spratt, A comparison of five steady-state truncation heuristics for simulation,
Winter Simulation Conference 2000. It cuts off as many values as make the standard error of the mean of the
rest least. It always finds some cut; that the part before it differs from the rest is asked beside.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rvtop.stats.intervals import welch

Floats = npt.NDArray[np.float64]

#: Values in a batch.
BATCH = 5
#: Fewer batches than this tell no beginning from a rest.
LEAST_BATCHES = 10
#: The two parts differ for sure, %, …
_SURE = 99.0
#: … and leaving the first one out moves the mean by at least so much of it.
_LEAST_CHANGE = 0.01


def truncation(values: Floats) -> int | None:
    """How many of ``values``, which follow each other in time, MSER-5 cuts off; None where they are too few,
    or where the best cut is in their second half: then they are not steady by their end."""
    batches = _batches(values)
    count = batches.size
    if count < LEAST_BATCHES:
        return None
    # Of batches d … count - 1: their number, sum, and sum of squares, for each d.
    rest = np.arange(count, 0, -1)
    sums = np.cumsum(batches[::-1])[::-1]
    squares = np.cumsum(batches[::-1] ** 2)[::-1]
    away = np.maximum(squares - sums**2 / rest, 0.0)  # from their mean, squared
    last = count - LEAST_BATCHES // 2  # of a few batches the variance is 0 by chance
    cut = int(np.argmin((away / rest**2.0)[:last]))
    return None if cut > count // 2 else cut * BATCH


def warm_up(values: Floats) -> int:
    """How many of ``values`` are of a warm-up; 0 where there is none, or where that can't be told."""
    cut = truncation(values)
    if not cut:
        return 0
    whole, rest = float(values.mean()), float(values[cut:].mean())
    if abs(whole - rest) < _LEAST_CHANGE * abs(rest):
        return 0
    before, after = _batches(values[:cut]), _batches(values[cut:])
    if before.size < 2:  # one batch has no variance: it is held against how far single ones lie
        far = abs(float(before[0]) - float(after.mean())) > 4 * float(after.std(ddof=1))
        return cut if far else 0
    interval = welch(before.tolist(), after.tolist(), _SURE)
    return cut if interval.excludes_zero else 0


def _batches(values: Floats) -> Floats:
    whole = values.size // BATCH * BATCH
    means: Floats = values[:whole].reshape(-1, BATCH).mean(axis=1)
    return means
