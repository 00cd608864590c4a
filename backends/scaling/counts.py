"""How many replicas of a model there are, by their state; and that as a page of metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

#: Series of :func:`page`.
SERIES, TARGET, NODES = "rvtop:replicas", "rvtop:replica_target_requests", "rvtop:replica_nodes"


@dataclass(frozen=True)
class Counts:
    """``wanted`` are to be there, ``starting`` do not answer yet, ``draining`` end what they have begun.
    ``pending``: those of the starting ones that have no place in the cluster yet. ``nodes`` of the cluster,
    None where there is none."""

    wanted: int = 0
    starting: int = 0
    healthy: int = 0
    draining: int = 0
    pending: int = 0
    nodes: int | None = None


def page(counts: Mapping[str, Counts], targets: Mapping[str, float] | None = None) -> str:
    """Prometheus text, by the names of the models. ``targets``: the requests that a replica is to hold, where
    replicas follow the load."""
    lines = [
        f"# HELP {SERIES} Replicas of a model: wanted, and those that are starting, healthy or draining.",
        f"# TYPE {SERIES} gauge",
    ]
    for model, of_model in counts.items():
        name = _escaped(model)
        lines += [
            f'{SERIES}{{model_name="{name}",state="{state}"}} {count}'
            for state, count in asdict(of_model).items()
            if state != "nodes"
        ]
    nodes = {model: of_model.nodes for model, of_model in counts.items() if of_model.nodes is not None}
    if nodes:
        lines += [f"# HELP {NODES} Nodes of the cluster of a model.", f"# TYPE {NODES} gauge"]
        lines += [f'{NODES}{{model_name="{_escaped(model)}"}} {count}' for model, count in nodes.items()]
    if targets:
        lines += [f"# HELP {TARGET} Requests that a replica is to hold.", f"# TYPE {TARGET} gauge"]
        lines += [f'{TARGET}{{model_name="{_escaped(model)}"}} {each:g}' for model, each in targets.items()]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
