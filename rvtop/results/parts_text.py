"""Where the TTFT went, as one line: of ``ttft_parts`` of a summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rvtop.stats.typical import HISTOGRAMS
from rvtop.text import digits

#: (key in ``ttft_parts``, name), in the order in which they pass.
PARTS = (
    ("lag_ms", "lag"),
    ("network_ms", "network and front end"),
    ("router_ms", "router"),
    ("queue_ms", "queue"),
    ("retrieve_ms", "retrieval"),
    ("embed_ms", "embed"),
    ("search_ms", "search"),
    ("rerank_ms", "rerank"),
    ("prefill_ms", "prefill"),
)


def parts_lines(told: Mapping[str, Any] | None) -> list[str]:
    """Of p50 and p99, or of the mean where the parts are an estimate of that alone; none where no server
    tells any."""
    if not told or told["source"] is None:
        return []
    ranks = ("mean",) if told["source"] == HISTOGRAMS else ("p50", "p99")
    source = "ESTIMATE by the server's histograms" if told["source"] == HISTOGRAMS else told["source"]
    lines = []
    for rank in ranks:
        one = told[rank]
        if one is not None:
            parts = (f"{name} {digits(one[key])}" for key, name in PARTS if one.get(key) is not None)
            lines.append(f"TTFT {rank} {digits(one['ttft_ms'])} = {' + '.join(parts)} ms ({source})")
    return lines
