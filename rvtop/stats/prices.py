"""What serving costs, from prices, GPUs, time and energy. Pure.

Money is in the currency of the prices. A price that is set and whose quantity is not known makes the whole
unknown (None): less than all of it would be a wrong figure.
"""

from __future__ import annotations

from dataclasses import dataclass

_JOULES_A_KWH = 3.6e6


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices, and what a GPU uses that does not tell its power (``gpu_power_w``) or its power while it idles
    (``gpu_idle_w``), W. None: not set."""

    gpu_hour: float | None = None
    kwh: float | None = None
    gpu_power_w: float | None = None
    gpu_idle_w: float | None = None

    @property
    def any(self) -> bool:
        """Whether anything has a price."""
        return self.gpu_hour is not None or self.kwh is not None


@dataclass(frozen=True, slots=True)
class Cost:
    """``gpus`` and ``energy`` are its parts, None where that has no price; ``whole`` is None where a part of
    it is not known."""

    whole: float | None = None
    gpus: float | None = None
    energy: float | None = None


def cost(prices: Prices, gpus: float | None, seconds: float, joules: float | None) -> Cost:
    """What ``gpus`` GPUs cost over a time in which ``joules`` were used. GPUs that are not known, or none at
    all, have no cost."""
    parts: list[float | None] = []
    of_gpus = of_energy = None
    if prices.gpu_hour is not None:
        of_gpus = prices.gpu_hour * gpus * seconds / 3600 if gpus else None
        parts.append(of_gpus)
    if prices.kwh is not None:
        of_energy = prices.kwh * joules / _JOULES_A_KWH if joules is not None else None
        parts.append(of_energy)
    known = [part for part in parts if part is not None]
    return Cost(sum(known) if known and len(known) == len(parts) else None, of_gpus, of_energy)


def per_million(money: float | None, tokens: float | None) -> float | None:
    """Money for a million tokens, of which ``tokens`` cost ``money``."""
    return None if money is None or not tokens else 1e6 * money / tokens


def split(money: float | None, prefill_share: float | None) -> tuple[float | None, float | None]:
    """The parts of input and output tokens: ``prefill_share``, 0..1, is how much of the time that requests
    held a place in the engine they were in prefill."""
    if money is None or prefill_share is None:
        return None, None
    return money * prefill_share, money * (1 - prefill_share)


def prefill_share(prefill: float | None, decode: float | None) -> float | None:
    """Of the (mean) times of requests in both, which must be in one unit."""
    if prefill is None or decode is None or prefill + decode <= 0:
        return None
    return prefill / (prefill + decode)
