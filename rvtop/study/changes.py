"""Changes of the key figures against a reference, each with its interval. All pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from statistics import fmean
from typing import Any

from rvtop.contract.showdown import COMPARED, HEADS
from rvtop.results.compare import (
    NOT_SIGNIFICANT,
    SAME_COMPLETION,
    SIGNIFICANT,
    TOO_FEW,
    Blocks,
    interval_of,
)
from rvtop.stats.intervals import BLOCKS, LEAST_REPEATS, Interval, welch

#: What blocks of a run tell of the key figures; of the whole time there is one a run.
_OF_BLOCKS = {"ttft_ms": "ttft_mean", "latency_avg_ms": "e2e_mean", "tps": "tps"}

Kpm = Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Measured:
    """The key figures of a topology, or of a phase of it: of each time that it ran, in their order.
    ``blocks`` are those of each, empty where it has none."""

    kpms: Sequence[Kpm] = ()
    blocks: Sequence[Blocks] = field(default=())

    @property
    def means(self) -> dict[str, float | None]:
        """Of each figure over the times in which it was told."""
        return {key: fmean(of) if (of := self.values(key)) else None for key in HEADS}

    @property
    def ranges(self) -> dict[str, list[float] | None]:
        """Least and greatest value of each figure."""
        return {key: [min(of), max(of)] if (of := self.values(key)) else None for key in HEADS}

    def values(self, key: str) -> list[float]:
        """Those that were told."""
        return [value for kpm in self.kpms if (value := kpm.get(key)) is not None]


def change(mine: Measured, reference: Measured) -> dict[str, Any]:
    """``change_pct`` of each figure, ``interval_pct`` of that (95 %; [low, high] or None) and ``verdict``
    (as ``rvtop.results.compare`` has it). They are empty, and ``censored`` is true, where completion differs
    by more than a point."""
    told: dict[str, Any] = {"change_pct": {}, "interval_pct": {}, "verdict": {}, "censored": False}
    if not mine.kpms or not reference.kpms:
        return told
    ours, theirs = mine.means, reference.means
    completed = ours["completed_pct"], theirs["completed_pct"]
    if completed[0] is None or completed[1] is None or abs(completed[0] - completed[1]) > SAME_COMPLETION:
        return {**told, "censored": True}
    for key in COMPARED:
        base, value = theirs[key], ours[key]
        if value is None or not base:
            told["change_pct"][key] = told["interval_pct"][key] = None
            told["verdict"][key] = ""
            continue
        found = _interval(key, mine, reference)
        told["change_pct"][key] = 100 * (value / base - 1)
        if found is None:
            told["interval_pct"][key], told["verdict"][key] = None, TOO_FEW
            continue
        found = found.reaching(value - base)
        told["interval_pct"][key] = [100 * found.low / base, 100 * found.high / base]
        told["verdict"][key] = SIGNIFICANT if found.excludes_zero else NOT_SIGNIFICANT
    return told


def _interval(key: str, mine: Measured, reference: Measured) -> Interval | None:
    """From repeats where both have three or more, else from the blocks of the runs, in pairs."""
    ours, theirs = mine.values(key), reference.values(key)
    if min(len(ours), len(theirs)) >= LEAST_REPEATS:
        return welch(theirs, ours, serial=False)
    figure = _OF_BLOCKS.get(key)
    pairs = min(len(mine.blocks), len(reference.blocks))
    if figure is None or not pairs:
        return None

    def joined(side: Measured) -> Blocks:
        none: list[float | None] = [None] * BLOCKS
        return {figure: [value for of in side.blocks[:pairs] for value in of.get(figure, none)]}

    return interval_of(figure, joined(reference), joined(mine))


def paper_change(name: str, reference: str) -> Mapping[str, float] | None:
    """What the experiment's paper reports of the same change, in %; None where it reports none."""
    told = paper()
    own = name.partition("-")[0]
    same = own == told["topology"] and reference == told["reference"]
    found: Mapping[str, float] | None = told["change_pct"] if same else None
    return found


@cache
def paper() -> dict[str, Any]:
    """The figures of the paper, with their source."""
    told: dict[str, Any] = json.loads(files("rvtop.study").joinpath("paper.json").read_text("utf-8"))
    return told
