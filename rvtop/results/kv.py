"""The ``kv_map`` block of a summary: what KV events told of the engines' prefix caches, from the timeline."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from rvtop.results.server import seconds_in


def kv_summary(
    timeline: Sequence[Mapping[str, Any]], spans: Sequence[tuple[float, float]]
) -> dict[str, Any] | None:
    """All engines together, over the seconds inside ``spans`` ((start, end), seconds from the run's start);
    None where none told. Blocks are counts, ``evicted_per_s`` is of blocks, shares are 0..1.

    ``hit_share`` and ``locality``: of the requests seen to begin inside the spans. ``top_share`` is that of
    the most used beginning at the last look, since rvtop began to watch; ``lost`` and ``complete`` are of
    then too."""
    rows = [row["kv_map"] for row in seconds_in(timeline, spans) if row.get("kv_map")]
    if not rows:
        return None
    evicted = [row["evicted_per_s"] for row in rows if row["evicted_per_s"] is not None]
    return {
        "engines": max(row["engines"] for row in rows),
        "cached": {
            "mean": sum(row["cached"] for row in rows) / len(rows),
            "max": max(r["cached"] for r in rows),
        },
        "shared_max": max(row["shared"] for row in rows),
        "evicted_per_s": {
            "mean": sum(evicted) / len(evicted) if evicted else None,
            "max": max(evicted, default=None),
        },
        "storm_s": sum(row["storms"] > 0 for row in rows),
        "hit_share": _share(rows, "hits", "requests"),
        "top_share": rows[-1]["top_share"],
        "locality": _share(rows, "taken", "offered"),
        "lost": rows[-1]["lost"],
        "complete": rows[-1]["complete"],
    }


def _share(rows: Sequence[Mapping[str, Any]], part: str, whole: str) -> float | None:
    """How much one counter grew for each that the other did. Both begin anew with another server."""
    known = [(row[part], row[whole]) for row in rows if row[part] is not None and row[whole] is not None]
    grown = [0.0, 0.0]
    for before, now in itertools.pairwise(known):
        anew = now[1] < before[1]
        for place in (0, 1):
            grown[place] += now[place] - (0 if anew else before[place])
    return grown[0] / grown[1] if grown[1] > 0 else None
