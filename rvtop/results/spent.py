"""What a part of a run took beside time: energy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rvtop.results.energy import NO_POWERS, Powers, energy_summary
from rvtop.results.part import Part


@dataclass(frozen=True)
class Means:
    """What a run used, by its ``environment.json``: GPUs of all engines (None: they don't tell), and what the
    settings say of their power."""

    engine_gpus: int | None = None
    powers: Powers = NO_POWERS


def means_of(environment: Mapping[str, Any]) -> Means:
    """Those of a run; what is not as this version writes it counts as not told."""
    return Means(_engine_gpus(environment.get("target_engines")))


def spent(part: Part, means: Means) -> dict[str, Any]:
    """The blocks of a summary that tell what ``part`` took."""
    return {
        "energy": energy_summary(
            part.run.timeline,
            windows(part),
            tokens=int(part.tokens.sum()),
            requests=part.ok_count,
            engine_gpus=means.engine_gpus,
            powers=means.powers,
        )
    }


def windows(part: Part) -> list[tuple[float, float]]:
    """When the part's requests were worked on: its spans, each up to the last token of what arrived in it."""
    table = part.run.table
    intended, last = table.intended[part.good] / 1e9, table.last[part.good] / 1e9
    made: list[tuple[float, float]] = []
    for number, (start, end) in enumerate(sorted(part.spans)):
        following = sorted(part.spans)[number + 1][0] if number + 1 < len(part.spans) else np.inf
        ends = last[(intended >= start - 1e-6) & (intended <= max(end, start) + 1e-6)]
        made.append((start, min(float(ends.max(initial=end)), max(end, following))))
    return made


def _engine_gpus(rows: Any) -> int | None:
    """GPUs of all engines, from what each said of itself; None where one did not."""
    if not isinstance(rows, list) or not rows:
        return None
    counts = [row.get("devices") if isinstance(row, dict) else None for row in rows]
    known = [count for count in counts if type(count) is int and 0 <= count <= 1 << 20]
    return sum(known) if len(known) == len(counts) else None
