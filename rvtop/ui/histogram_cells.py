"""A histogram on a log axis, the longer past behind it, and the outline of what was before. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rvtop.stats.distribution import Distribution, middle_ns
from rvtop.ui.axis import LogAxis
from rvtop.ui.bands import bands
from rvtop.ui.columns import client_columns, shares
from rvtop.ui.dashes import put_dash
from rvtop.ui.draw import Cells, eighths
from rvtop.ui.theme import Styles

#: Fewer requests than this are drawn as dots, one each.
DOTS_BELOW = 60
DOT = "●"


def dot_columns(found: Distribution, axis: LogAxis, width: int) -> list[int]:
    """How many requests stand in each of ``width`` cells of the axis, each in one of them."""
    made = [0] * max(0, width)
    for bucket, n in found.buckets:
        x = axis.column(middle_ns(bucket) / 1e6, width)
        if 0 <= x < width:
            made[x] += n
    return made


def _columns(found: Distribution, axis: LogAxis, width: int) -> Sequence[float]:
    """Events a column; few of them in whole ones, so that they stand where their dots stood."""
    few = 0 < found.count < DOTS_BELOW
    return dot_columns(found, axis, width) if few else client_columns(found, axis, width)


@dataclass(frozen=True, slots=True)
class Layers:
    """Shares of requests a column. ``dots``: the requests of ``front`` a column, where they are few."""

    front: Sequence[float]
    behind: Sequence[float]
    ghost: Sequence[float]
    dots: Sequence[int] | None = None
    count: int = 0

    @classmethod
    def of(
        cls,
        recent: Distribution,
        phase: Distribution,
        ghost: Distribution | None,
        axis: LogAxis,
        width: int,
        rows: int,
    ) -> Layers:
        """What the axis holds of them. Dots need a row each, so many upon each other are a column."""
        dots = dot_columns(recent, axis, width) if 0 < recent.count < DOTS_BELOW else None
        return cls(
            shares(client_columns(recent, axis, width)),
            shares(_columns(phase, axis, width)),
            [] if ghost is None else shares(client_columns(ghost, axis, width)),
            dots if dots is not None and max(dots, default=0) <= rows else None,
            recent.count,
        )

    @property
    def highest(self) -> float:
        """The largest share of a column."""
        return max((*self.front, *self.behind, *self.ghost), default=0.0)

    def cells(self, top: float, rows: int, styles: Styles) -> Cells:
        """The picture on a scale up to the share ``top``; that of dots is one request a row."""
        width = len(self.front)
        if self.dots is not None:
            top = rows / self.count
        front = [0] * width if self.dots is not None else eighths(self.front, top, rows)
        cells = bands(
            front,
            eighths(self.behind, top, rows),
            rows,
            style=styles.client,
            on_tail=styles.client_on_shade,
            low=styles.client_shade,
        )
        for x, n in enumerate(self.dots or ()):
            for y in range(rows - min(n, rows), rows):
                cells.set(x, y, DOT, styles.client)
        outline(cells, eighths(self.ghost, top, rows), styles)
        return cells


def outline(cells: Cells, heights: Sequence[int], styles: Styles) -> None:
    """Dashes along the top of columns of ``heights`` eighths, upright ones where it is steep."""
    rows = cells.height
    tops = [rows - math.ceil(height / 8) for height in heights]  # of a column of nothing: below the last row
    for x, top in enumerate(tops):
        if top >= rows:
            continue
        sides = (tops[x - 1] if x else rows, tops[x + 1] if x + 1 < len(tops) else rows)
        for y in range(top + 1, min(rows, max(sides))):
            put_dash(cells, x, y, styles, "╎")
        put_dash(cells, x, top, styles)
