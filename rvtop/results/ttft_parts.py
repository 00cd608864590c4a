"""``ttft_parts`` of a summary: where the TTFT of the typical requests went, and who says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from rvtop.stats.typical import HISTOGRAMS, STAGES, Typical, estimated
from rvtop.stats.waterfall import typical

Floats = npt.NDArray[np.float64]


def ttft_parts(
    ttft_ms: Floats, late_ms: Floats, decode_ms: Floats, told: Floats, server: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Of n requests that ended well; shapes as in ``stats.waterfall.typical``. ``server``: the server's
    figures over just these requests, None where it has others in them.

    ``told`` of ``requests`` have parts that a server told. ``estimate``: these are means of its histograms.
    """
    found = {one.name: one for one in typical(ttft_ms, late_ms, decode_ms, told)}
    count = int((told[:, -1] > 0).sum())
    if not count and server is not None and "mean" in found:
        queue, prefill = server.get("queue_time_ms_mean"), server.get("prefill_time_ms_mean")
        found["mean"] = estimated(found["mean"], queue, prefill) or found["mean"]
    return {
        "source": found["mean"].source or None if found else None,
        "requests": int(ttft_ms.size),
        "told": count,
        **{name: _parts(found.get(name)) for name in ("mean", "p50", "p99")},
    }


def _parts(one: Typical | None) -> dict[str, Any] | None:
    """Milliseconds; None is a part that nobody tells, which is in ``network_ms``; stages of retrieval
    stand there only where a server has them."""
    if one is None:
        return None
    parts = one.parts
    return {
        "ttft_ms": one.ttft_ms,
        "lag_ms": parts.late,
        "network_ms": parts.network,
        "router_ms": parts.router,
        "queue_ms": parts.queue,
        "retrieve_ms": parts.retrieve,
        **{f"{stage}_ms": took for stage in STAGES if (took := getattr(parts, stage)) is not None},
        "prefill_ms": parts.prefill,
        "decode_ms": one.decode_ms,
        "estimate": one.source == HISTOGRAMS,
    }
