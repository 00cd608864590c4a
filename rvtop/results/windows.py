"""The phases of a run as a summary sees them: when each had arrivals, and which requests are its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from rvtop.results.table import Bools, Requests


@dataclass(frozen=True)
class Window:
    """When a phase's arrivals ran, seconds from the run's start."""

    name: str
    start_s: float
    end_s: float
    warmup: bool
    lost: Mapping[str, int]  # requests that went down with a worker, by model
    cut: Mapping[str, int] = field(default_factory=dict)  # that have no line: the run ended before, by model


def of_phases(table: Requests, names: Collection[str]) -> Bools:
    """The requests of the phases of these names."""
    wanted = [index for index, name in enumerate(table.phases) if name in names]
    return np.isin(table.phase, wanted)
