"""The ``kv_map`` block of a summary: what KV events told of the engines' prefix caches, from the timeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def kv_summary(
    timeline: Sequence[Mapping[str, Any]], spans: Sequence[tuple[float, float]]
) -> dict[str, Any] | None:
    """All engines together, over the seconds inside ``spans`` ((start, end), seconds from the run's start);
    None where none told. Blocks are counts, ``evicted_per_s`` is of blocks, shares are 0..1.

    ``hit_share`` and ``locality``: of the requests seen to begin inside the spans. ``top_share`` is that of the
    most used beginning at the last look, since rvtop began to watch; ``lost`` and ``complete`` are of then too.
    """How much one counter grew for each that the other did."""
    known = [row for row in rows if row[part] is not None and row[whole] is not None]
    if not known:
        return None
    grown = known[-1][whole] - known[0][whole]
    return (known[-1][part] - known[0][part]) / grown if grown > 0 else None
