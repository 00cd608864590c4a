"""A confidence sequence: an interval of a mean that may be looked at after each value, for as long as one
likes.

An interval of a fixed number of values (Student's) that is looked at again and again leaves out the true mean
sooner or later. These do so with a probability of at most α at any time at all: whoever stops when 0 lies
outside is wrong no more often than that.

Let x̄ be the mean of n values and S = Σ(x − x̄)². For a guess μ of the mean, the likelihood of values with mean
μ + δσ, where δ (the effect in deviations) is normal with mean 0 and variance 1/c, against that of values with
mean μ, σ unknown and integrated out in both (right Haar measure dσ/σ), is

    E(μ) = √(c / (n + c)) · (V / (V − T² / (n + c)))^(n/2),   V = S + n(x̄ − μ)²,  T = n(x̄ − μ).

It is 1 at n = 1 and a martingale for normal values whose mean is μ, so by Ville's inequality it reaches 1/α
with a probability of at most α (Lai, On confidence sequences, Annals of Statistics 4, 1976; Wang and Ramdas,
Anytime-valid t-tests and confidence sequences for Gaussian means with unknown variance, arXiv:2310.03722).
The guesses that it has not ruled out are x̄ ± √(S · f), with

    k = ((n + c) / (c α²))^(1/n),   f = (k − 1) / (n · (1 − k c / (n + c))),

and all of them while 1 ≤ k c / (n + c).

It is exact for normal differences. Differences that are symmetric about their mean but have longer tails are
ruled out less often than α, as Student's t is conservative there; of lopsided ones it is right in the limit
(Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, Time-uniform central limit theory and asymptotic confidence
sequences, Annals of Statistics 52, 2024), which rare large values on one side delay.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rvtop.stats.intervals import MOST_MEMORY, Interval

#: The interval is narrowest, for its kind, at about so many values; ten times as many or as few widen it by
#: about a tenth.
PLANNED = 200
#: A prior of variance 1/c is best at n = c · (2 ln(1/α) + ln(1 + 2 ln(1/α))), for α = 0.05 (Howard, Ramdas,
#: McAuliffe and Sekhon, Time-uniform, nonparametric, nonasymptotic confidence sequences, Annals of
#: Statistics 49, 2021, §3.5).
_BEST = 7.94
#: Fewer values say nothing: S is near 0 by chance where clocks are coarse.
LEAST = 10
#: Values beyond which nothing is foretold.
_MOST = 1_000_000


def factor(n: int, alpha: float, planned: int = PLANNED) -> float:
    """f of the module's head: the half width is √(S · f) after n values; infinite while nothing is ruled
    out."""
    c = planned / _BEST
    k = math.exp((math.log((n + c) / c) - 2 * math.log(alpha)) / n)
    left = 1 - k * c / (n + c)
    return (k - 1) / (n * left) if left > 0 else math.inf


@dataclass(slots=True)
class MeanSequence:
    """Takes values one by one. ``alpha`` is how likely :meth:`interval` ever leaves out the mean.

    Where values remember the ones before them, S is multiplied by (1 + r)/(1 − r), as in
    ``intervals.variance_of_mean``: queues on two servers do not empty within one request.
    """

    alpha: float = 0.05
    planned: int = PLANNED
    n: int = 0
    _shift: float = 0.0  # the first value: sums of what is left lose no digits
    _sum: float = 0.0
    _squares: float = 0.0
    _lagged: float = 0.0  # Σ of each value times the one before it
    _last: float = 0.0

    def add(self, value: float) -> None:
        """One value more."""
        if self.n == 0:
            self._shift = value
        value -= self._shift
        if self.n:
            self._lagged += value * self._last
        self._last = value
        self.n += 1
        self._sum += value
        self._squares += value * value

    @property
    def mean(self) -> float | None:
        """Of the values so far."""
        return self._shift + self._sum / self.n if self.n else None

    @property
    def deviation(self) -> float | None:
        """Of single values: √(S / (n − 1)); None of fewer than two."""
        return math.sqrt(self._spread() / (self.n - 1)) if self.n > 1 else None

    @property
    def memory(self) -> float:
        """r, 0 and up: how much of a value is left in the one that follows."""
        spread, middle = self._spread(), self._sum / max(1, self.n)
        if self.n < 3 or spread <= 0:
            return 0.0
        # Σ(x − x̄)(y − x̄) over neighbours; the first value is 0 by its shift.
        lagged = self._lagged - middle * (2 * self._sum - self._last) + (self.n - 1) * middle * middle
        return min(max(lagged / spread + 1 / self.n, 0.0), MOST_MEMORY)

    def _spread(self) -> float:
        return max(0.0, self._squares - self._sum * self._sum / self.n) if self.n else 0.0

    def interval(self) -> Interval | None:
        """Of the mean, valid whenever it is asked for; None while there is none."""
        mean, f = self.mean, factor(self.n, self.alpha, self.planned) if self.n >= LEAST else math.inf
        if mean is None or math.isinf(f):
            return None
        half = math.sqrt(self._spread() * f * (1 + self.memory) / (1 - self.memory))
        return Interval(mean - half, mean + half)

    def until(self, half: float) -> int | None:
        """After about how many values in all the half width is ``half``, if they go on as they did; None
        where that can't be told, or is beyond a million."""
        deviation = self.deviation
        if deviation is None or half <= 0 or self.n < LEAST:
            return None
        spread = deviation * math.sqrt((1 + self.memory) / (1 - self.memory))

        def too_wide(n: int) -> bool:
            return spread * math.sqrt((n - 1) * factor(n, self.alpha, self.planned)) > half

        low, high = self.n - 1, self.n
        while too_wide(high):
            low, high = high, 2 * high
            if high > _MOST:
                return None
        while high - low > max(1, high // 50):
            middle = (low + high) // 2
            low, high = (middle, high) if too_wide(middle) else (low, middle)
        return high
