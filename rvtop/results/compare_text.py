"""A comparison as lines of text and as JSON. All pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rvtop.results.compare import ALL, NO_INTERVAL, Comparison, Row, Side

MISSING = "--"
_NAME, _CELL = 16, 12
#: What is told of each phase, beside the table of all.
_OF_PHASES = ("ttft_mean", "ttft_p99", "tps")


def text_lines(found: Comparison) -> list[str]:
    """The table of all that was measured, and a line a figure for each phase."""
    lines = [f"A  {found.a.label}  {found.a.where}  (reference)", f"B  {found.b.label}  {found.b.where}"]
    lines += [f"{found.refusal}; compared all the same"] if found.refused else []
    heads = ("A", "B", "B - A", "change")
    lines += ["", " " * _NAME + "".join(f"{head:>{_CELL}}" for head in heads)]
    lines += [_line(row.figure.name, row) for row in found.parts[ALL]]
    for name in found.names[1:]:
        lines.append(f"phase {name}")
        lines += [_line(row.figure.name, row) for row in found.parts[name] if row.figure.key in _OF_PHASES]
    return [*lines, "", NO_INTERVAL, *found.notes]


def _line(name: str, row: Row) -> str:
    unit = row.figure.unit if row.figure.unit in ("ms", "%", "rps") else ""
    left = f"  {name} {unit}".rstrip()
    cells = (row.a, row.b)
    made = f"{left:<{_NAME}}" + "".join(f"{number(value):>{_CELL}}" for value in cells)
    return (made + f"{difference_text(row):>{_CELL}}{percent_text(row):>{_CELL}}  {row.word}").rstrip()


def number(value: float | None) -> str:
    """Four significant digits, or ``--``."""
    if value is None:
        return MISSING
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def difference_text(row: Row) -> str:
    """``-12.4``, ``+3``, of percentages ``-2.9 pt``; ``--`` where it is no comparison."""
    if row.difference is None:
        return MISSING
    sign = "+" if row.difference > 0 else ""
    return f"{sign}{number(row.difference)}" + (" pt" if row.figure.points else "")


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
        "interval": None,
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
