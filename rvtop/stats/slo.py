"""What makes a request good: goodput counts those that meet every limit of the SLO."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


def meets(
    ttft: npt.NDArray[Any], e2e: npt.NDArray[Any], tokens: npt.NDArray[Any], limits: Mapping[str, float]
) -> npt.NDArray[np.bool_]:
    """Which of n requests that ended well meet all ``limits`` (``ttft``, ``tpot``, ``e2e``).

    Arrays have shape (n,), so has the result; times, from the intended send, are in the unit of the limits.
    TPOT = (E2E − TTFT)/(tokens − 1) is undefined for a single token, which breaks no limit.
    """
    met = np.ones(ttft.shape, dtype=bool)
    if "ttft" in limits:
        met &= ttft <= limits["ttft"]
    if "e2e" in limits:
        met &= e2e <= limits["e2e"]
    if "tpot" in limits:
        met &= (tokens <= 1) | ((e2e - ttft) / np.maximum(tokens - 1, 1) <= limits["tpot"])
    return met
