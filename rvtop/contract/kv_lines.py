"""The KV map as plain text: for plain lines, the result of a run, and the head of its screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rvtop.stats.kv_map import KvMap, row_of
from rvtop.text import digits


def now_line(kv: KvMap) -> str:
    """What the caches hold now, in a few words; empty where nothing is told yet."""
    if kv.note or not kv.engines:
        return ""
    row = row_of(kv)
    parts = [f"cached {row['cached']} blocks, {row['shared']} shared"]
    parts.append(f"evicted {digits(row['evicted_per_s'])}/s")
    if row["storms"]:
        parts.append("EVICTION STORM")
    if not row["complete"]:
        parts.append("map incomplete")
    return ", ".join(parts)


def result_line(block: Mapping[str, Any] | None) -> str:
    """The ``kv_map`` block of a summary; empty where there is none."""
    if block is None:
        return ""
    evicted = block["evicted_per_s"]
    parts = [
        f"KV map: cached {digits(block['cached']['mean'])} blocks (max {digits(block['cached']['max'])})",
        f"shared at most {digits(block['shared_max'])}",
        f"evicted {digits(evicted['mean'])}/s (max {digits(evicted['max'])})",
        f"hits at least {_percent(block['hit_share'])}, top prefix {_percent(block['top_share'])}",
    ]
    if block["engines"] > 1:
        parts.append(f"locality {_percent(block['locality'])}")
    if block["storm_s"]:
        parts.append(f"eviction storm for {block['storm_s']} s")
    if block["lost"]:
        parts.append(f"{block['lost']} batches lost")
    return ", ".join(parts)


def _percent(share: float | None) -> str:
    return "--" if share is None else f"{100 * share:.0f} %"
