"""Where the combinations of a sweep lie: tokens/s against TTFT p99, a letter each. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rvtop.text import printable
from rvtop.ui.axis import LogAxis, nice
from rvtop.ui.draw import Line
from rvtop.ui.format import sig3

_SCALE = 8
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def pareto_lines(
    rows: Sequence[Mapping[str, Any]], width: int, height: int, slo_ms: float | None = None
) -> list[Line]:
    """The picture and what its letters are; nothing without a figure. A letter in brackets: no other
    combination has more tokens/s and a lower TTFT p99. Where two lie in one cell it shows ``*``."""
    points = [
        (letter, row, float(row["figures"]["ttft_p99_ms"]), float(row["figures"]["tps_each"]))
        for letter, row in zip(_LETTERS, rows, strict=False)
        if row["figures"]["ttft_p99_ms"] and row["figures"]["tps_each"] is not None
    ]
    if not points or height < 3 or width < 3 * _SCALE:
        return []
    axis, room = LogAxis(), width - _SCALE - 2
    slowest = max(ttft for _, _, ttft, _ in points)
    axis.include(min(ttft for _, _, ttft, _ in points), max(slowest, slo_ms or 0.0))
    most = nice(max(tps for _, _, _, tps in points) or 1.0, up=True)
    cells: list[list[str]] = [[" "] * room for _ in range(height)]
    if slo_ms is not None:
        at = min(room - 1, max(0, axis.column(slo_ms, room)))
        for line in cells:
            line[at] = "┊"
    for letter, row, ttft, tps in points:
        x = min(room - 2, max(1, axis.column(ttft, room)))
        line = cells[height - 1 - min(height - 1, int(tps / most * height))]
        line[x] = "*" if line[x] in _LETTERS or line[x] == "*" else letter
        if row["pareto"]:
            line[x - 1], line[x + 1] = "[", "]"
    made = [Line(f"{'tok/s each':>{_SCALE}}")]
    for number, line in enumerate(cells):
        label = sig3(most) if number == 0 else "0" if number == height - 1 else ""
        made.append(Line(f"{label:>{_SCALE}} │" + "".join(line)))
    made.append(Line(" " * _SCALE + " └" + "─" * room))
    labels = Line(" " * (_SCALE + 2))
    for column, text in axis.ticks(room):
        labels.to(column + _SCALE + 2).put(text)
    made.append(labels.put("  TTFT p99" + ("" if slo_ms is None else ", ┊ SLO")))
    made += [Line(f"  {letter}  {printable(row['name'])}") for letter, row, _, _ in points]
    return [line.cut(width) for line in made]
