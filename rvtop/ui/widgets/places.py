"""The body of the live screen: its panels stand where ``rvtop.ui.layout`` says."""

from __future__ import annotations

from collections.abc import Sequence

from textual.geometry import NULL_OFFSET, NULL_SPACING, Region, Size
from textual.layout import ArrangeResult, Layout, WidgetPlacement
from textual.widget import Widget

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.layout import FOUR_COLUMNS, PLACES, THREE_COLUMNS, Ask, Place, arrange, column_widths
from rvtop.ui.widgets.panel import Panel
from rvtop.ui.widgets.steps import is_starting
from rvtop.ui.widgets.time_chart import TimeChart

#: What stands while a backend starts.
_WHILE_STARTING = ("header", "steps", "banner", "footer")


def asks(panels: Sequence[Panel], s: Snapshot, width: int, folded: frozenset[str]) -> list[Ask]:
    """What the panels ask for to show ``s``, those that have something to show."""
    starting = is_starting(s)
    wanting = [p for p in panels if p.wants(s) and (not starting or p.name_in_layout in _WHILE_STARTING)]
    if width < THREE_COLUMNS:  # what says why has its own column, or its own screen
        wanting = [p for p in wanting if p.PLACE != "third"]
    columns = PLACES[1:5]

    def place_of(panel: Panel) -> str:
        return panel.PLACE_WHERE_WIDE or panel.PLACE if width >= FOUR_COLUMNS else panel.PLACE

    column = column_widths(width, {place_of(panel) for panel in wanting})[0]
    made = []
    for panel in wanting:
        place, time = place_of(panel), isinstance(panel, TimeChart)
        least, best = panel.heights(s, column if place in columns else width)
        name = panel.name_in_layout
        good = min(best, max(least, panel.GOOD))
        made.append(Ask(name, place, least, good, best, panel.CHART, time, name in folded))
    return made


class _Placed(Layout):
    name = "placed"

    def __init__(self, places: Places) -> None:
        self._places = places

    def arrange(
        self, parent: Widget, children: list[Widget], size: Size, greedy: bool = True
    ) -> ArrangeResult:
        regions = self._places.regions(size)
        return [
            WidgetPlacement(regions[child.name_in_layout], NULL_OFFSET, NULL_SPACING, child)
            for child in children
            if isinstance(child, Panel) and child.name_in_layout in regions
        ]


class Places(Widget):
    """Holds the panels. ``show`` says what they show; a resize alone needs no new snapshot."""

    def __init__(self, *panels: Panel) -> None:
        super().__init__(*panels)
        self._panels = panels
        self._layout = _Placed(self)
        self._snapshot: Snapshot | None = None
        self._folded: frozenset[str] = frozenset()
        self._asks: list[Ask] = []
        self._asked_for = (-1, -1)
        self._shown: list[Place] = []
        self.zoomed: str | None = None

    @property
    def layout(self) -> Layout:
        return self._layout

    def show(self, s: Snapshot, folded: frozenset[str]) -> None:
        """Finds the places for ``s``, and lays the panels out anew if they changed."""
        self._snapshot, self._folded = s, folded
        if self.size.area and self._find(self.size):
            self._panels[0].refresh(layout=True)  # which forgets what its container had arranged

    def zoom(self, name: str | None) -> None:
        """Gives a panel the whole body, or with None all of them their places back."""
        self.zoomed = name
        self._asked_for = (-1, -1)
        self._find(self.size)
        self._panels[0].refresh(layout=True)

    def regions(self, size: Size) -> dict[str, Region]:
        """Where each panel that has room stands in ``size``."""
        self._find(size)
        return {p.name: Region(p.x, p.y, p.width, p.height) for p in self._shown}

    def _find(self, size: Size) -> bool:
        """Finds the places in ``size``; True if they are others than before."""
        if self._snapshot is None:
            self._shown = []
            return False
        made = asks(self._panels, self._snapshot, size.width, self._folded)
        if (size.width, size.height) == self._asked_for and made == self._asks:
            return False
        before = self._shown
        self._asks, self._asked_for = made, (size.width, size.height)
        self._shown = arrange(made, size.width, size.height, self.zoomed)
        names = {place.name for place in self._shown}
        for panel in self._panels:
            panel.placed = panel.name_in_layout in names
        return self._shown != before
