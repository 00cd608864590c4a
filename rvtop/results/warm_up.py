"""The warm-up at the beginning of a run: found, said with the figures with and without it, and left out only
where that was asked for (``--exclude-warm-up auto``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rvtop.results.part import Part, RunFacts, dist
from rvtop.results.table import LARGEST, Bools, Requests
from rvtop.results.windows import Window, of_phases
from rvtop.stats.warm_up import warm_up
from rvtop.text import LEFT_OUT

#: The flag of ``environment.json``, and what ``--exclude-warm-up`` may say.
FLAG = "exclude_warm_up"
AUTO = "auto"
#: Commands after which the load is another one.
_CHANGES = ("rate", "plan", "pause", "resume", "target", "workload")


@dataclass(frozen=True)
class WarmUp:
    """The warm-up of phase ``phase``: ``mask`` has its requests, ``until_s`` is when the first one after it
    was meant to be sent, seconds from the run's start. ``told``: what was measured with and without it."""

    phase: str
    mask: Bools
    until_s: float
    told: Mapping[str, Any]

    def fields(self, *, excluded: bool) -> dict[str, Any]:
        """``warm_up`` of a summary."""
        count = int(self.mask.sum())
        return {
            **{"phase": self.phase, "until_s": self.until_s, "requests": count, "excluded": excluded},
            **self.told,
        }


def found_in(
    table: Requests, windows: Sequence[Window], commands: Sequence[Mapping[str, Any]]
) -> WarmUp | None:
    """The warm-up of the first phase that is measured, by the TTFT of its requests (by the latency of answers
    in one piece) in the order of their intended times. None where there is none, or where the load itself
    changes within that phase."""
    first = next((window for window in windows if not window.warmup), None)
    if first is None or not _is_even(first, commands):
        return None
    mask = of_phases(table, {first.name})
    rows = np.flatnonzero(mask & table.answered)
    rows = rows[np.argsort(table.intended[rows], kind="stable")]
    cut = warm_up((table.begun[rows] - table.intended[rows]) / 1e6)
    if not cut:
        return None
    until_ns = int(table.intended[rows[cut]])
    early: Bools = mask & (table.intended < until_ns)
    told = {"with": _figures(table, mask), "without": _figures(table, mask & ~early)}
    return WarmUp(first.name, early, until_ns / 1e9, told)


def _is_even(window: Window, commands: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the load of a phase is the same from its beginning to its end."""
    for position, entry in enumerate(commands):
        if entry["cmd"] == "phase" and entry["name"] == window.name:
            changed = any(
                later["cmd"] in _CHANGES and later["at_ns"] / 1e9 < window.end_s
                for later in commands[position + 1 :]
            )
            uneven = entry.get("rate_from") != entry.get("rate_to") or entry.get("changes")
            return not (changed or uneven or entry.get("burst") or entry.get("trace"))
    return False


def left_out(table: Requests, windows: Sequence[Window], found: WarmUp) -> tuple[Requests, list[Window]]:
    """The same with the requests of the warm-up in a phase of their own, which is not measured."""
    name = found.phase + LEFT_OUT
    number = len(table.phases)
    phase = np.where(found.mask, number, table.phase)
    gaps = dict(table.gaps)
    for model in set(table.model[found.mask].tolist()):
        theirs = np.where(found.mask & table.ok & (table.model == model), 0, -1)
        counts = sum(each.counts(theirs[each.row], 1, LARGEST)[0] for each in table.each_gaps)
        for old in [index for index, known in enumerate(table.phases) if known == found.phase]:
            if (old, model) in gaps and not isinstance(counts, int):
                gaps[old, model] = gaps[old, model] - counts
                gaps[number, model] = counts
    split: list[Window] = []
    for window in windows:
        if window.name == found.phase:
            split.append(replace(window, name=name, end_s=found.until_s, warmup=True, lost={}, cut={}))
            split.append(replace(window, start_s=min(found.until_s, window.end_s)))
        else:
            split.append(window)
    return replace(table, phases=(*table.phases, name), phase=phase, gaps=gaps), split


def is_excluded(flags: Mapping[str, Any]) -> bool:
    """Whether the run's figures are to be without it."""
    return flags.get(FLAG) == AUTO


def _figures(table: Requests, mask: Bools) -> dict[str, Any]:
    part = Part(RunFacts(table, (), (), "1"), mask, (), {})
    tokens = part.output
    return {
        "ttft_ms": part.ttft_dist,
        "e2e_ms": dist(part.e2e),
        "tps": tokens / part.total_s if part.total_s and tokens is not None else None,
    }
