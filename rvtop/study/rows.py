"""The rows of a showdown: KPM of each topology, and its change against the reference."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from rvtop.contract.showdown import COMPARED, HEADS
from rvtop.results.compare import ALL, CENSORED, Blocks
from rvtop.results.stored import blocks_of
from rvtop.stats.distribution import EMPTY, Distribution
from rvtop.stats.intervals import LEAST_REPEATS
from rvtop.study.changes import Kpm, Measured, change, paper, paper_change
from rvtop.text import printable

_ROUND = re.compile(r"#\d+$")
_FROM_REPEATS = "from the repeats"
_FROM_BLOCKS = "from blocks and rounds of each run; what differs from start to start three repeats show"
_WIDTH = 17
_START = 9
_NAME = 14


@dataclass(frozen=True, slots=True)
class Result:
    """How one session ended. ``reason`` says why its figures do not count; empty when they do. ``start_s``:
    seconds until its topology was ready. ``knobs`` are what its engines said of themselves."""

    name: str
    folder: str
    exit_code: int
    reason: str = ""
    summary: Mapping[str, Any] | None = None
    start_s: float | None = None
    knobs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def counts(self) -> bool:
        """Whether its figures do."""
        return self.summary is not None and not self.reason

    @property
    def ttft(self) -> Distribution:
        """The TTFT of all that was measured; empty where it does not count."""
        told = self.summary.get("ttft_histogram") if self.summary is not None and self.counts else None
        if told is None:
            return EMPTY
        buckets = tuple((index, count) for index, count in told["buckets"])
        return Distribution(buckets, told["sum_ns"], told["min_ns"], told["max_ns"])


def sessions_of(name: str, results: Sequence[Result]) -> dict[str, Any]:
    """What a row tells of its sessions: their folders, which count, how long starts took, why others do not
    count."""
    mine = [result for result in results if result.name == name]
    counted = [result.folder for result in mine if result.counts]
    starts = [result.start_s for result in mine if result.start_s is not None]
    return {
        "name": name,
        "folders": [result.folder for result in mine],
        "counted": counted,
        "repeats": len(counted),
        "start_s": fmean(starts) if starts else None,
        "reasons": [result.reason for result in mine if result.reason],
    }


def rows(results: Sequence[Result], reference: str) -> list[dict[str, Any]]:
    """One row a topology: means and ranges of its KPM over the repeats that count, and what ``change`` tells
    against ``reference``; ``phases`` the same of each phase, the rounds of one size being one."""
    names = list(dict.fromkeys(result.name for result in results))
    measured = {name: _measured(results, name) for name in names}
    phases = {name: _of_phases(results, name) for name in names}
    made = []
    for name in names:
        row = {
            **sessions_of(name, results),
            **_told(measured[name], measured.get(reference), name == reference),
            "phases": [
                {
                    "name": phase,
                    "count": len(one.kpms),
                    **_told(one, phases.get(reference, {}).get(phase), name == reference),
                }
                for phase, one in phases[name].items()
            ],
            "paper_change_pct": paper_change(name, reference),
        }
        made.append(row)
    return made


def _told(mine: Measured, reference: Measured | None, is_reference: bool) -> dict[str, Any]:
    base = Measured() if is_reference or reference is None else reference
    return {"kpm": mine.means, "range": mine.ranges, **change(mine, base)}


def _counted(results: Sequence[Result], name: str) -> list[Mapping[str, Any]]:
    return [r.summary for r in results if r.name == name and r.summary is not None and r.counts]


def _measured(results: Sequence[Result], name: str) -> Measured:
    summaries = _counted(results, name)
    return Measured([one["kpm"] for one in summaries], [blocks_of(one).get(ALL, {}) for one in summaries])


def _of_phases(results: Sequence[Result], name: str) -> dict[str, Measured]:
    """By phase, without warm-ups; ``paper/n=24#1`` to ``#5`` are five times one."""
    kpms: dict[str, list[Kpm]] = {}
    blocks: dict[str, list[Blocks]] = {}
    for one in _counted(results, name):
        by_part = blocks_of(one)
        for phase in one.get("phases") or ():
            if not phase["warmup"]:
                group = _ROUND.sub("", phase["name"])
                kpms.setdefault(group, []).append(phase["kpm"])
                blocks.setdefault(group, []).append(by_part.get(phase["name"], {}))
    return {group: Measured(of, blocks[group]) for group, of in kpms.items()}


def table(found: Sequence[Mapping[str, Any]], reference: str, differing: Sequence[str] = ()) -> list[str]:
    """The rows as lines; below a row are its range, its change against the reference with its interval and
    what that says, what the paper reports, or its failure. Where there are several phases, then their tables.
    ``differing`` says which knobs are not the same for all."""
    heads = "".join(f"{head:>{_WIDTH}}" for head in HEADS.values())
    lines = [" " * _NAME + heads + f"{'start s':>{_START}}"]
    for row in found:
        lines.append(f"{row['name']:<{_NAME}}" + _figures(row) + _cell(row["start_s"], _START))
        if row["repeats"] > 1:
            lines.append(f"{'  min..max':<{_NAME}}" + "".join(_range(row["range"].get(key)) for key in HEADS))
        lines += ["  reference"] if row["name"] == reference else _changes(row)
        if row["paper_change_pct"] is not None:
            told = "".join(_percent(row["paper_change_pct"].get(key)) for key in COMPARED)
            lines.append(f"{'  paper':<{_NAME}}{told}")
        lines += [f"  {printable(reason)}" for reason in row["reasons"]]
    names = list(dict.fromkeys(phase["name"] for row in found for phase in row["phases"]))
    for name in names if len(names) > 1 else ():
        lines.append(f"phase {printable(name)}")
        for row in found:
            for phase in (one for one in row["phases"] if one["name"] == name):
                lines.append(f"  {row['name']:<{_NAME - 2}}" + _figures(phase))
                lines += _changes(phase) if row["name"] != reference else []
    return [*lines, *legend(found), *(f"differs: {printable(line)}" for line in differing)]


def _figures(row: Mapping[str, Any]) -> str:
    return "".join(_cell(row["kpm"].get(key)) for key in HEADS)


def _changes(row: Mapping[str, Any]) -> list[str]:
    if row["censored"]:
        return [" " * _NAME + f"{CENSORED:>{_WIDTH}}" * len(COMPARED)]
    if not row["change_pct"]:
        return []
    lines = [" " * _NAME + "".join(_percent(row["change_pct"][key]) for key in COMPARED)]
    if any(row["interval_pct"].values()):
        told = "".join(_interval(row["interval_pct"][key]) for key in COMPARED)
        lines.append(f"{'  95 %':<{_NAME}}{told}")
    if any(row["verdict"].values()):
        lines.append(" " * _NAME + "".join(f"{row['verdict'][key]:>{_WIDTH}}" for key in COMPARED))
    return lines


def legend(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where intervals are from, and the paper's figures."""
    lines = []
    if any(of for row in found for of in row["interval_pct"].values()):
        few = min(row["repeats"] for row in found if row["repeats"]) < LEAST_REPEATS
        lines.append(f"95 % intervals of the changes: {_FROM_BLOCKS if few else _FROM_REPEATS}")
    if any(row["paper_change_pct"] is not None for row in found):
        told = paper()
        lines.append(f"paper: {told['source']}; {told['load']}, its clock begins behind the queue")
    return lines


def _cell(value: float | None, width: int = _WIDTH) -> str:
    return f"{'--' if value is None else f'{value:.4g}':>{width}}"


def _range(of: Sequence[float] | None) -> str:
    return f"{'--' if of is None else f'{of[0]:.4g}..{of[1]:.4g}':>{_WIDTH}}"


def _interval(of: Sequence[float] | None) -> str:
    return f"{'--' if of is None else f'{of[0]:+.1f}..{of[1]:+.1f} %':>{_WIDTH}}"


def _percent(change: float | None) -> str:
    return f"{'--' if change is None else f'{change:+.1f} %':>{_WIDTH}}"
