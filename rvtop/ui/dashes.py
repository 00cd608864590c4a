"""What a ghost's lines are made of. Pure."""

from __future__ import annotations

from rvtop.ui.draw import UP, Cells
from rvtop.ui.theme import Styles


def put_dash(cells: Cells, x: int, y: int, styles: Styles, dash: str = "╌") -> None:
    """A piece of a ghost's line. Where a column ends in that very cell the two agree: its edge shows both."""
    if 0 <= x < cells.width and 0 <= y < cells.height and cells.chars[y][x] not in UP[1:8]:
        cells.set(x, y, dash, styles.ghost_on_client if cells.chars[y][x] == "█" else styles.ghost)
