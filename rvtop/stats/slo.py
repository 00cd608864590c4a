"""What makes a request good: goodput counts those that meet every limit of the SLO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

#: Stands for the TTFT of an answer that came in one piece, which has none.
NO_TTFT = -1


def meets(
    ttft: npt.NDArray[Any], e2e: npt.NDArray[Any], tokens: npt.NDArray[Any], limits: Mapping[str, float]
) -> npt.NDArray[np.bool_]:
    """Which of n requests that ended well meet all ``limits`` (``ttft``, ``tpot``, ``e2e``).

    Arrays have shape (n,), so has the result; times, from the intended send, are in the unit of the limits.
    TPOT = (E2E − TTFT)/(tokens − 1) is undefined for a single token, which breaks no limit; an answer in one
    piece (a TTFT of NO_TTFT, or NaN) has neither figure, and E2E alone judges it.
    """
    in_one_piece = ~(ttft >= 0)
    met = np.ones(ttft.shape, dtype=bool)
    if "ttft" in limits:
        met &= in_one_piece | (ttft <= limits["ttft"])
    if "e2e" in limits:
        met &= e2e <= limits["e2e"]
    if "tpot" in limits:
        met &= in_one_piece | (tokens <= 1) | ((e2e - ttft) / np.maximum(tokens - 1, 1) <= limits["tpot"])
    return met


def good(
    slos: Sequence[tuple[int, Mapping[str, float]]],
    intended_ns: npt.NDArray[np.int64],
    ttft: npt.NDArray[Any],
    e2e: npt.NDArray[Any],
    tokens: npt.NDArray[Any],
) -> npt.NDArray[np.bool_]:
    """Which of n requests that ended well meet the SLO that was in force at their intended time; none where
    it had no limit.

    ``slos`` are (since when, ns; limits), in that order: of several from one time on the last one counts. All
    else is as in :func:`meets`.
    """
    if len(slos) == 1:
        limits = slos[0][1]
        return meets(ttft, e2e, tokens, limits) if limits else np.zeros(ttft.shape, dtype=bool)
    number = np.searchsorted([since for since, _ in slos], intended_ns, side="right") - 1
    met = np.zeros(ttft.shape, dtype=bool)
    for each in np.unique(number):
        limits, those = slos[each][1], number == each
        if limits:
            met[those] = meets(ttft[those], e2e[those], tokens[those], limits)
    return met
