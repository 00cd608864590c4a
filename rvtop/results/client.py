"""The ``client`` block of a summary: how busy the load workers were, from the timeline's samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def client_summary(
    timeline: Sequence[Mapping[str, Any]], spans: Sequence[tuple[float, float]]
) -> dict[str, float | None]:
    """The load workers over the seconds inside ``spans`` ((start, end), seconds from the run's start).

    ``loop_lag_p99_ms``: delays of the event loops. A loop is looked at ten times a second and a second keeps
    its worst, so the p90 over seconds stands for the p99 over looks (0.99^10 = 0.90). ``worker_cpu``: the
    busiest worker's share (0..1) of a core, p90 over seconds. ``workers``: most at one time.
    """
    rows = [row for row in timeline if any(start < row["t_s"] <= end for start, end in spans)]
    return {
        "loop_lag_p99_ms": _p90([row.get("loop_lag_ms") for row in rows]),
        "worker_cpu": _p90([row.get("worker_cpu") for row in rows]),
        "workers": max((row["workers"] for row in rows if row.get("workers") is not None), default=None),
    }


def _p90(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.percentile(known, 90)) if known else None
