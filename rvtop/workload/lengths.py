"""Draws lengths from a scenario's distributions."""

from __future__ import annotations

import math
import random

from rvtop.scenario.lengths import MOST, Lengths


def draw(length: int | Lengths, source: random.Random) -> int:
    """One length, >= 1. A fixed length takes nothing from ``source``."""
    if isinstance(length, int):
        return length
    value = _value(length, source)
    # NaN and infinity can't come: every parameter is finite and above 0.
    return round(min(max(value, length.low), length.high, MOST))


def _value(length: Lengths, source: random.Random) -> float:
    mean, std = length.mean or 0.0, length.std or 0.0
    match length.dist:
        case "normal":
            return source.gauss(mean, std)
        case "lognormal":
            # mean and std are those of the lengths; the distribution wants those of their logarithm.
            variance = math.log1p((std / mean) ** 2)
            return source.lognormvariate(math.log(mean) - variance / 2, math.sqrt(variance))
        case "uniform":
            return source.randint(length.low, int(length.high))
        case "exponential":
            return source.expovariate(1 / mean)
