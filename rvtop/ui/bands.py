"""The shapes of the charts over time: bands over each other, stacks, where two sources differ. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.style import Style

from rvtop.ui.draw import UP, Cells

#: Two sources differ if they lie further apart than this, for so many points one after the other.
DIFFER, DIFFER_POINTS = 0.05, 5

Values = Sequence[float | None]


def log_eighths(values: Values, low: float, high: float, rows: int) -> list[int]:
    """Column heights in eighths of a cell on a log scale; what is known shows at least one eighth."""
    full, made = rows * 8, []
    scale = full / math.log(high / low) if high > low > 0 else 0.0
    for value in values:
        if value is None or value <= 0:
            made.append(0)
        else:
            made.append(min(full, max(1, round(math.log(value / low) * scale))))
    return made


def bands(
    front: Sequence[int],
    behind: Sequence[int],
    rows: int,
    *,
    style: Style,
    on_tail: Style | None = None,
    low: Style | None = None,
) -> Cells:
    """Two heights in eighths a column: ``front`` solid, what ``behind`` rises above it in whole cells ``▒``.

    ``on_tail`` is for where the front ends in a cell that the tail fills. A tail of less than half a cell is
    not drawn, except in the last row, with ``low``.
    """
    cells = Cells(len(front), rows)
    filled = [(x, near, far) for x, (near, far) in enumerate(zip(front, behind, strict=True)) if near or far]
    for y in range(rows):
        floor = (rows - 1 - y) * 8
        chars, styles = cells.chars[y], cells.styles[y]
        for x, near, far in filled:
            solid, shade = near - floor, far - floor
            if solid >= 8:
                chars[x], styles[x] = "█", style
            elif solid > 0:
                chars[x], styles[x] = UP[solid], on_tail if on_tail and shade >= 5 else style
            elif shade >= 4:
                chars[x], styles[x] = "▒", style
            elif floor == 0 < far and low is not None:
                chars[x], styles[x] = UP[far], low
    return cells


def stack(layers: Sequence[tuple[Values, str, Style]], top: float, rows: int) -> Cells:
    """Layers of (values, glyph, style) upon each other, the lowest first, on a scale up to ``top``.

    The lowest one has the precision of eighths, the others that of whole cells; one that is there but takes
    less than half a cell is not drawn, except in the first row over nothing else.
    """
    columns = len(layers[0][0]) if layers else 0
    cells = Cells(columns, rows)
    if top <= 0:
        return cells
    scale = rows / top
    for x in range(columns):
        height = 0.0
        for index, (values, glyph, style) in enumerate(layers):
            value = values[x]
            if not value or value <= 0:
                continue
            begin, height = height, min(float(rows), height + value * scale)
            if index == 0:
                eighths = max(1, round(height * 8))
                for row in range(min(rows, -(-eighths // 8))):
                    cells.set(x, rows - 1 - row, UP[min(8, eighths - 8 * row)], style)
                height = eighths / 8
            else:
                first = 0 if begin == 0 else math.floor(begin + 0.5)
                last = max(math.floor(height + 0.5), 1 if begin == 0 else 0)
                for row in range(first, min(rows, last)):
                    cells.set(x, rows - 1 - row, glyph, style)
    return cells


def differing(ours: Values, theirs: Values) -> list[float | None]:
    """``theirs`` where it lies further than ``DIFFER`` from ``ours`` for ``DIFFER_POINTS`` points or more."""
    apart = [
        a is not None and b is not None and abs(a - b) > DIFFER * max(abs(a), abs(b))
        for a, b in zip(ours, theirs, strict=False)
    ]
    made: list[float | None] = [None] * len(theirs)
    begin = 0
    for index in range(len(apart) + 1):
        if index < len(apart) and apart[index]:
            continue
        if index - begin >= DIFFER_POINTS:
            made[begin:index] = theirs[begin:index]
        begin = index + 1
    return made
