"""Where the beginning of a run, which its start still bends, goes over into a steady state: MSER-5.

White, An effective truncation heuristic for bias reduction in simulation output, Simulation 69, 1997; with
means of five: White, Cobb and Spratt, A comparison of five steady-state truncation heuristics for simulation,
Winter Simulation Conference 2000. It cuts off as many values as make the standard error of the mean of the
rest least. It always finds some cut; that the part before it differs from the rest is asked beside.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from rvtop.stats.intervals import student_t, variance_of_mean

Floats = npt.NDArray[np.float64]

#: Values in a batch.
BATCH = 5
#: Fewer batches than this tell no beginning from a rest.
LEAST_BATCHES = 10
#: The two parts differ for sure, %, …
_SURE = 99.9
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
    last = 3 * count // 4 + 1  # of a few batches the variance is 0 by chance
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
    # What the mean of so many batches of the steady state would differ from that of all the rest by.
    variance = variance_of_mean(after.tolist()) * (after.size / before.size + 1)
    far = abs(float(before.mean()) - float(after.mean()))
    return cut if far > student_t(_SURE, after.size - 1) * math.sqrt(variance) else 0


def _batches(values: Floats) -> Floats:
    whole = values.size // BATCH * BATCH
    means: Floats = values[:whole].reshape(-1, BATCH).mean(axis=1)
    return means
