"""vLLM's figures on a node's page of Ray's metrics, as vLLM's own page has them.

All but the sums of histograms: Ray exports counts per bucket only and makes the sum up, each value as the
middle of its bucket. A queue of no time at all would be told as 150 ms.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_SERIES = re.compile(r"ray_vllm[_:](\w+)\{(.*)\} (\S+)")
_HEAD = re.compile(r"# (HELP|TYPE) ray_vllm[_:](\w+)(.*)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
#: What Ray adds to the labels of a series of vLLM's.
RAYS_LABELS = frozenset(
    {
        *("ReplicaId", "WorkerId", "NodeId", "NodeAddress", "SessionName", "Version", "Component", "Pid"),
        *("JobId", "ActorId", "WorkerRank"),
        *("otel_scope_name", "otel_scope_schema_url", "otel_scope_version"),
    }
)


def of_replicas(page: str, engines: Mapping[str, str]) -> str:
    """The series of those replicas whose id is a key of ``engines``, with its value as their engine's name
    (``name.1`` for the second of several data-parallel ranks)."""
    lines, made_up = [], set()
    for line in page.splitlines():
        if head := _HEAD.fullmatch(line):
            if head[3] == " histogram":
                made_up.add(f"{head[2]}_sum")
            lines.append(f"# {head[1]} vllm:{head[2]}{head[3]}")
        elif series := _SERIES.fullmatch(line):
            labels = dict(_LABEL.findall(series[2]))
            name = engines.get(labels.get("ReplicaId", ""))
            if name is None or series[1] in made_up:
                continue
            rank = labels.get("engine", "0")
            kept = {key: text for key, text in labels.items() if key not in RAYS_LABELS}
            kept["engine"] = name if rank == "0" else f"{name}.{rank}"
            text = ",".join(f'{key}="{value}"' for key, value in kept.items())
            lines.append(f"vllm:{series[1]}{{{text}}} {series[3]}")
    return "\n".join(lines) + "\n" if lines else ""
