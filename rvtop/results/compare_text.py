"""A comparison as lines of text and as JSON. All pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rvtop.results.compare import ALL, NO_INTERVAL, SIGNIFICANT, Comparison, Row, Side
from rvtop.stats.intervals import BLOCKS
from rvtop.text import phase_words

MISSING = "--"
_NAME, _CELL, _INTERVAL = 16, 12, 20
#: What is told of each phase, beside the table of all; where neither side's answers come token by token
#: (embeddings, ``stream: false``), their latency.
_OF_PHASES = ("ttft_mean", "ttft_p99", "tps")
_IN_ONE_PIECE = ("e2e_mean", "e2e_p99", "tps")


def text_lines(found: Comparison) -> list[str]:
    """The table of all that was measured, and a line a figure for each phase."""
    lines = [f"A  {found.a.label}  {found.a.where}  (reference)", f"B  {found.b.label}  {found.b.where}"]
    lines += [f"{found.refusal}; compared all the same"] if found.refused else []
    heads = ("A", "B", "B - A", "change")
    level = f"{found.level:g} % of B - A"
    lines += ["", " " * _NAME + "".join(f"{head:>{_CELL}}" for head in heads) + f"{level:>{_INTERVAL}}"]
    lines += [_line(row.figure.name, row) for row in found.parts[ALL]]
    for name in found.names[1:]:
        lines.append(f"phase {phase_words(name)}")
        lines += [_line(row.figure.name, row) for row in of_phase(found.parts[name])]
    return [*lines, "", *about_intervals(found), *found.notes]


def of_phase(rows: Sequence[Row]) -> list[Row]:
    """Those of a phase's figures that are told."""
    known = {row.figure.key for row in rows if row.a is not None or row.b is not None}
    keys = _OF_PHASES if known.intersection(_OF_PHASES[:2]) or "e2e_mean" not in known else _IN_ONE_PIECE
    shown = [row for row in rows if row.figure.key in keys]
    return shown if keys == _OF_PHASES else [row for row in shown if row.figure.key in known]


def about_intervals(found: Comparison) -> list[str]:
    """Where they come from, and what they don't hold."""
    if not found.a.blocks or not found.b.blocks:
        old = [side.where for side in (found.a, found.b) if not side.blocks]
        return [f"{NO_INTERVAL}: {', '.join(old)} has no blocks; rvtop report {old[0]} makes them"]
    how = "the same requests at the same times, so block against block" if found.paired else "unpaired"
    return [
        f"{found.level:g} % intervals from {BLOCKS} blocks of each run ({how})",
        "they hold what changes within a run; what differs from one start to the next only repeats show",
    ]


def _line(name: str, row: Row) -> str:
    unit = row.figure.unit if row.figure.unit in ("ms", "%", "rps") else ""
    left = f"  {name} {unit}".rstrip()
    cells = (row.a, row.b)
    made = f"{left:<{_NAME}}" + "".join(f"{number(value):>{_CELL}}" for value in cells)
    made += f"{difference_text(row):>{_CELL}}{percent_text(row):>{_CELL}}{interval_text(row):>{_INTERVAL}}"
    return f"{made}  {verdict_text(row)}".rstrip()


def verdict_text(row: Row) -> str:
    """``B lower, significant``, ``not significant``, ``too few data``, or the row's word."""
    return f"{row.word}, {row.verdict}" if row.verdict == SIGNIFICANT else row.verdict or row.word


def interval_text(row: Row) -> str:
    """``-14.1..-10.8``, or ``--``."""
    found = row.interval
    return MISSING if found is None else f"{_signed(found.low)}..{_signed(found.high)}"


def _signed(value: float) -> str:
    text = number(value)
    return f"+{text}" if value > 0 else text


def number(value: float | None) -> str:
    """Four significant digits, or ``--``."""
    if value is None:
        return MISSING
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def difference_text(row: Row) -> str:
    """``-12.4``, ``+3``, of percentages ``-2.9 pt``; ``--`` where it is no comparison."""
    if row.difference is None:
        return MISSING
    return _signed(row.difference) + (" pt" if row.figure.points else "")


def percent_text(row: Row) -> str:
    """``-43.7 %``, or ``--``; nothing of a percentage."""
    if row.figure.points:
        return ""
    return MISSING if row.percent is None else f"{row.percent:+.1f} %"


def as_data(found: Comparison) -> dict[str, Any]:
    """A comparison as JSON has it; docs/compare.md lists the fields."""
    return {
        "a": _side(found.a),
        "b": _side(found.b),
        "work_differs": list(found.refused),
        "notes": list(found.notes),
        "level_pct": found.level,
        "paired": found.paired,
        "figures": _rows(found.parts[ALL]),
        "phases": [{"name": name, "figures": _rows(found.parts[name])} for name in found.names[1:]],
    }


def _side(side: Side) -> dict[str, Any]:
    return {"label": side.label, "folder": side.where}


def _rows(rows: Sequence[Row]) -> dict[str, Any]:
    return dict(_row(row) for row in rows)


def _row(row: Row) -> tuple[str, dict[str, Any]]:
    told = asdict(row)
    figure = told.pop("figure")
    return figure["key"], {"unit": figure["unit"], **told}
