"""The waterfall of many requests: what servers told of each as columns, and the mean parts of the typical.

A request passes through lag (ours, how late it was sent), network and front end (the residual), router,
queue, retrieval (or its stages: embed, search, rerank) and prefill; then comes decode. The client's times are
exact and the residual is what the other parts leave of them, so the parts sum to the TTFT by construction;
what nobody tells is in the residual.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan
from typing import Any

import numpy as np
import numpy.typing as npt

from rvtop.stats.typical import OURS, STAGES, TOLERANCE_MS, VLLM, TtftParts, Typical

Floats = npt.NDArray[np.float64]

#: The parts that a server tells, as ``server`` of a line of requests.jsonl names them, in the order in which
#: they pass; those of ``TtftParts`` without ``_ms``.
TOLD = ("router_ms", "queue_ms", "retrieve_ms", *(f"{stage}_ms" for stage in STAGES), "prefill_ms")
_PARTS = len(TOLD)
_RETRIEVE = TOLD.index("retrieve_ms")
_IN_RETRIEVAL = slice(_RETRIEVE + 1, _RETRIEVE + 1 + len(STAGES))
#: A server's timing beyond this is noise, ms.
_LONGEST_MS = 1e9
#: Below so many a p99 is the slowest one by another name.
LEAST_FOR_P99 = 20

Told = tuple[float, ...]  # TOLD, NaN where it is not told; then who told, _WHO's place
_WHO = ("", OURS, VLLM)
#: Of a request of which the server told nothing.
NOTHING: Told = (*(nan,) * _PARTS, 0.0)


def told_of(server: Any) -> Told:
    """The parts that a server told of a request (``server`` of its line)."""
    if not server or not isinstance(server, Mapping):
        return NOTHING
    told = [_timing(server.get(name)) for name in TOLD]
    if all(part != part for part in told):  # NaN
        return NOTHING
    if any(part == part for part in told[_IN_RETRIEVAL]):
        told[_RETRIEVE] = nan  # it is those; what lies between them is in the residual
    return *told, 2.0 if server.get("source") == VLLM else 1.0


def _timing(value: Any) -> float:
    sound = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _LONGEST_MS
    return float(value) if sound else nan


def typical(ttft_ms: Floats, late_ms: Floats, decode_ms: Floats, told: Floats) -> tuple[Typical, ...]:
    """The mean of n requests, and the means of those around p50 and p99; nothing of none. Shapes (n,), of
    ``told`` (n, 8), a row as from ``told_of``. Of some that the server told parts of only these count: the
    others' queue is in their residual."""
    if not ttft_ms.size:
        return ()
    columns = np.column_stack((ttft_ms, late_ms, decode_ms, told))[np.argsort(ttft_ms, kind="stable")]
    # What does not fit into the client's time is no part of it.
    rest = columns[:, 0] - columns[:, 1] - np.nansum(columns[:, 3 : 3 + _PARTS], axis=1)
    columns[rest < -TOLERANCE_MS, 3:] = NOTHING
    made = [_mean("mean", columns), _mean("p50", _around(columns, 0.5))]
    if len(columns) >= LEAST_FOR_P99:
        made.append(_mean("p99", _around(columns, 0.99)))
    return tuple(made)


def _around(ranked: Floats, rank: float) -> Floats:
    """One in fifty of them, those around a rank (0..1)."""
    size = max(1, len(ranked) // 50)
    begin = round(rank * (len(ranked) - 1)) - size // 2
    begin = min(max(0, begin), len(ranked) - size)
    return ranked[begin : begin + size]


def _mean(name: str, some: Floats) -> Typical:
    told = some[some[:, -1] > 0]
    some = told if len(told) else some
    # A part that some did not have (no documents looked up) took them no time.
    parts = [
        None if np.isnan(column).all() else float(np.nansum(column) / len(some))
        for column in some[:, 3 : 3 + _PARTS].T
    ]
    rest = some[:, 0] - some[:, 1] - np.nansum(some[:, 3 : 3 + _PARTS], axis=1)
    ttft, late, decode = some[:, :3].mean(axis=0).tolist()
    network = float(np.maximum(rest, 0.0).mean())
    return Typical(name, ttft, parts_of_told(late, network, parts), decode, _source(some[:, -1]))


def parts_of_told(late_ms: float, network_ms: float, told: Sequence[float | None]) -> TtftParts:
    """The parts with ``told`` in the order of TOLD."""
    named = {name.removesuffix("_ms"): part for name, part in zip(TOLD, told, strict=True)}
    return TtftParts(late_ms, network_ms, **named)


def _source(who: Floats) -> str:
    return " + ".join(_WHO[place] for place in np.unique(who).astype(int).tolist() if place)
