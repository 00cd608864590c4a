"""How many replicas of a model there are, by their state; and that as a page of metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

#: Series of :func:`page`.
SERIES = "rvtop:replicas"


@dataclass(frozen=True)
class Counts:
    """``wanted`` are to be there, ``starting`` do not answer yet, ``draining`` end what they have begun."""

    wanted: int = 0
    starting: int = 0
    healthy: int = 0
    draining: int = 0


def page(counts: Mapping[str, Counts]) -> str:
    """Prometheus text, by the names of the models."""
    lines = [
        f"# HELP {SERIES} Replicas of a model: wanted, and those that are starting, healthy or draining.",
        f"# TYPE {SERIES} gauge",
    ]
    for model, of_model in counts.items():
        name = model.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        lines += [
            f'{SERIES}{{model_name="{name}",state="{state}"}} {count}'
            for state, count in asdict(of_model).items()
        ]
    return "\n".join(lines) + "\n"
