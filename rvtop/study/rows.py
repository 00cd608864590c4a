"""The rows of a showdown: KPM of each topology, and its change against the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from rvtop.text import printable

#: The figures of a row, and the heads of their columns.
HEADS = {
    "ttft_ms": "TTFT ms",
    "latency_avg_ms": "Latency_avg ms",
    "latency_total_s": "Latency_total s",
    "tps": "TPS",
    "completed_pct": "completed %",
}
COMPARED = ("ttft_ms", "latency_avg_ms", "latency_total_s", "tps")
#: Points of completion between which means are still of the same requests.
_SAME_COMPLETION = 1.0
_WIDTH = 16
_NAME = 14


@dataclass(frozen=True, slots=True)
class Result:
    """How one session ended. ``reason`` says why its figures do not count; empty when they do."""

    name: str
    folder: str
    exit_code: int
    reason: str = ""
    summary: Mapping[str, Any] | None = None


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


def table(found: Sequence[Mapping[str, Any]], reference: str) -> list[str]:
    """The rows as lines; the second line of a row is its change against the reference, or its failure."""
    lines = [" " * _NAME + "".join(f"{head:>{_WIDTH}}" for head in HEADS.values())]
    for row in found:
        lines.append(f"{row['name']:<{_NAME}}" + "".join(_cell(row["kpm"].get(key)) for key in HEADS))
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
    return lines


def _row(name: str, results: Sequence[Result]) -> dict[str, Any]:
    mine = [result for result in results if result.name == name]
    kpms = [r.summary["kpm"] for r in mine if r.summary is not None and not r.reason]
    values = {key: [kpm[key] for kpm in kpms if kpm.get(key) is not None] for key in HEADS}
    return {
        "name": name,
        "folders": [result.folder for result in mine],
        "repeats": len(kpms),
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
