"""The rows of a showdown: KPM of each topology, and its change against the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from rvtop.contract.showdown import COMPARED, HEADS
from rvtop.stats.distribution import EMPTY, Distribution
from rvtop.text import printable

#: Points of completion between which means are still of the same requests.
_SAME_COMPLETION = 1.0
_WIDTH = 16
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
    def ttft(self) -> Distribution:
        """The TTFT of all that was measured; empty where it does not count."""
        told = self.summary.get("ttft_histogram") if self.summary is not None and not self.reason else None
        if told is None:
            return EMPTY
        buckets = tuple((index, count) for index, count in told["buckets"])
        return Distribution(buckets, told["sum_ns"], told["min_ns"], told["max_ns"])


def rows(results: Sequence[Result], reference: str) -> list[dict[str, Any]]:
    """One row a topology: means and ranges of its KPM over the repeats that count, ``change_pct`` against
    ``reference`` (%), and ``censored`` where completion differs by more than a point."""
    found = [_row(name, results) for name in dict.fromkeys(result.name for result in results)]
    base = next((row for row in found if row["name"] == reference), None)
    for row in found:
        row["change_pct"], row["censored"] = {}, False
        if base is None or base is row or not row["repeats"] or not base["repeats"]:
            continue
        mine, theirs = row["kpm"]["completed_pct"], base["kpm"]["completed_pct"]
        if mine is None or theirs is None or abs(mine - theirs) > _SAME_COMPLETION:
            row["censored"] = True
            continue
        row["change_pct"] = {key: _change(row["kpm"][key], base["kpm"][key]) for key in COMPARED}
    return found


def table(found: Sequence[Mapping[str, Any]], reference: str, differing: Sequence[str] = ()) -> list[str]:
    """The rows as lines; the second line of a row is its change against the reference, or its failure.
    ``differing`` says which knobs are not the same for all."""
    heads = (*HEADS.values(), "start s")
    lines = [" " * _NAME + "".join(f"{head:>{_WIDTH}}" for head in heads)]
    for row in found:
        cells = [*(_cell(row["kpm"].get(key)) for key in HEADS), _cell(row["start_s"])]
        lines.append(f"{row['name']:<{_NAME}}" + "".join(cells))
        if row["repeats"] > 1:
            lines.append(f"{'  min..max':<{_NAME}}" + "".join(_range(row["range"].get(key)) for key in HEADS))
        if row["name"] == reference:
            lines.append("  reference")
        elif row["censored"]:
            lines.append(f"{'':<{_NAME}}" + f"{'CENSORED':>{_WIDTH}}" * len(COMPARED))
        elif row["change_pct"]:
            changes = (row["change_pct"][key] for key in COMPARED)
            lines.append(f"{'':<{_NAME}}" + "".join(_percent(change) for change in changes))
        lines += [f"  {printable(reason)}" for reason in row["reasons"]]
    return lines + [f"differs: {printable(line)}" for line in differing]


def _row(name: str, results: Sequence[Result]) -> dict[str, Any]:
    mine = [result for result in results if result.name == name]
    kpms = [r.summary["kpm"] for r in mine if r.summary is not None and not r.reason]
    starts = [result.start_s for result in mine if result.start_s is not None]
    values = {key: [kpm[key] for kpm in kpms if kpm.get(key) is not None] for key in HEADS}
    return {
        "name": name,
        "folders": [result.folder for result in mine],
        "repeats": len(kpms),
        "start_s": fmean(starts) if starts else None,
        "kpm": {key: fmean(of) if of else None for key, of in values.items()},
        "range": {key: [min(of), max(of)] if of else None for key, of in values.items()},
        "reasons": [result.reason for result in mine if result.reason],
    }


def _change(value: float | None, reference: float | None) -> float | None:
    return None if value is None or not reference else 100 * (value / reference - 1)


def _cell(value: float | None) -> str:
    return f"{'--' if value is None else f'{value:.4g}':>{_WIDTH}}"


def _range(of: Sequence[float] | None) -> str:
    return f"{'--' if of is None else f'{of[0]:.4g}..{of[1]:.4g}':>{_WIDTH}}"


def _percent(change: float | None) -> str:
    return f"{'--' if change is None else f'{change:+.1f} %':>{_WIDTH}}"
