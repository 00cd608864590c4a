"""Confidence intervals of differences between two runs, without NumPy: a screen works them out too.

Requests that queue behind each other are not independent, so no interval here is of single requests. A run is
cut into ``BLOCKS`` blocks, long beside the queue's memory, and each block gives one value of a figure:
the method of batch means (Schmeiser, Batch size effects in the analysis of simulation output, Operations
Research 30, 1982, which recommends 10 to 30 batches). Where the same requests were sent at the same times in
both runs, block is held against block, so that what both feel (a burst, a long prompt) cancels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from statistics import fmean

#: Blocks of a run.
BLOCKS = 10
#: So sure is an interval where nothing else is asked for, %.
LEVEL = 95.0
#: Repeats of a run from which an interval comes from them.
LEAST_REPEATS = 3
#: More memory between neighbouring blocks than this is taken for this.
MOST_MEMORY = 0.8


@dataclass(frozen=True, slots=True)
class Interval:
    """``low`` and ``high`` of a difference."""

    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the difference is significant."""
        return self.low > 0 or self.high < 0

    def reaching(self, value: float, slack: float = 0.0) -> Interval:
        """Wide enough to hold ``value``, and then by ``slack`` wider at both ends."""
        return Interval(min(self.low, value) - slack, max(self.high, value) + slack)


def paired(a: Sequence[float], b: Sequence[float], level: float = LEVEL) -> Interval:
    """Of B − A, where ``a[i]`` and ``b[i]`` are of the same block: Student's interval of the mean of the
    n ≥ 2 differences, with n − 1 degrees of freedom and the variance of :func:`variance_of_mean`."""
    differences = [theirs - ours for ours, theirs in zip(a, b, strict=True)]
    middle, variance = fmean(differences), variance_of_mean(differences)
    half = student_t(level, len(differences) - 1) * math.sqrt(variance)
    return Interval(middle - half, middle + half)


def welch(a: Sequence[float], b: Sequence[float], level: float = LEVEL, *, serial: bool = True) -> Interval:
    """Of B − A, where the two have nothing in common: Welch's interval (Welch, The generalization of
    "Student's" problem when several different population variances are involved, Biometrika 34, 1947).

    ``serial``: the values of each follow each other in time. Both have two values or more.
    """
    ours, theirs = (variance_of_mean(values, serial=serial) for values in (a, b))
    both = ours + theirs
    middle = fmean(b) - fmean(a)
    if both == 0:
        return Interval(middle, middle)
    freedom = both**2 / (ours**2 / (len(a) - 1) + theirs**2 / (len(b) - 1))
    half = student_t(level, freedom) * math.sqrt(both)
    return Interval(middle - half, middle + half)


def variance_of_mean(values: Sequence[float], *, serial: bool = True) -> float:
    """Variance of the mean of n ≥ 2 values: s²/n and, for values that follow each other in time (``serial``),
    times (1 + r)/(1 − r).

    That is the variance of the mean of a first-order autoregressive process (Law and Kelton, Simulation
    Modeling and Analysis, §9.5). r is the autocorrelation at lag one, to which 1/n is added, by which it is
    too small in short series (Kendall, Note on bias in the estimation of autocorrelation, Biometrika 41,
    1954); below 0 it counts as 0: nothing makes an interval narrower.
    """
    count, middle = len(values), fmean(values)
    away = [value - middle for value in values]
    total = sum(one * one for one in away)
    variance = total / (count - 1) / count
    if not serial or total == 0 or count < 3:
        return variance
    lagged = sum(one * after for one, after in pairwise(away))
    memory = min(max(lagged / total + 1 / count, 0.0), MOST_MEMORY)
    return variance * (1 + memory) / (1 - memory)


@lru_cache(256)
def student_t(level: float, freedom: float) -> float:
    """What a variable with Student's t distribution of ``freedom`` > 0 degrees (not always a whole number)
    exceeds in neither direction with a probability of ``level`` %, by bisection of :func:`_outside`."""
    share, low, high = 1 - level / 100, 0.0, 1.0
    while _outside(high, freedom) > share and high < 1e9:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _outside(middle, freedom) > share else (low, middle)
    return (low + high) / 2


def _outside(t: float, freedom: float) -> float:
    """P(|T| > t) = I_x(ν/2, 1/2) with x = ν/(ν + t²) (Abramowitz and Stegun, 26.7.1)."""
    return _incomplete_beta(freedom / (freedom + t * t), freedom / 2, 0.5)


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function, by its continued fraction (Abramowitz and Stegun, 26.5.8)."""
    if x <= 0 or x >= 1:
        return min(max(x, 0.0), 1.0)
    if x > (a + 1) / (a + b + 2):  # there the fraction of the other side is quicker
        return 1 - _incomplete_beta(1 - x, b, a)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1) or 1e-300)
    result = d
    for m in range(1, 500):
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / (1 + step * d or 1e-300)
            c = 1 + step / c or 1e-300
            result *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    return front * result / a
