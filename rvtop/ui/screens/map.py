"""Map: clients, who waits where, each engine's batch, tokens out; before a switch above what is now."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.chart_view import ChartView
from rvtop.ui.map_lines import batches
from rvtop.ui.screens.ghost_keys import GhostKeys
from rvtop.ui.screens.steering import Steering
from rvtop.ui.shell import ScreenShell
from rvtop.ui.widgets.header import Header
from rvtop.ui.widgets.map import BeforePanel, Chosen, EnginePanel, MapPanel, OneEnginePanel
from rvtop.ui.widgets.place_footer import PlaceFooter

#: Rows of the screen from which on both halves leave room for one engine's tokens and the engine's figures.
_ROOM_FOR_ALL = 30
#: The same without a ghost, for the engine's figures.
_ROOM_FOR_ENGINE = 18


class MapScreen(Steering, GhostKeys):
    PLACES: ClassVar[str] = "A*M"
    CSS = "MapScreen { layout: vertical; }"

    def __init__(self, shell: ScreenShell) -> None:
        super().__init__(shell)
        self.chosen = Chosen()
        self.view = ChartView()

    def compose(self) -> ComposeResult:
        yield Header()
        yield BeforePanel()
        yield MapPanel(self.chosen)
        yield OneEnginePanel()
        yield EnginePanel(self.chosen)
        yield PlaceFooter(self.PLACES)

    def on_mount(self) -> None:
        for panel in (*self.query(BeforePanel), *self.query(MapPanel), *self.query(OneEnginePanel)):
            panel.view = self.view
        super().on_mount()

    def show(self, s: Snapshot) -> None:
        self.view.ghost = self._ghosts.shown
        self._share()
        super().show(s)

    def on_resize(self) -> None:
        self._share()
        super().on_resize()

    def _share(self) -> None:
        """Which panels there is room for."""
        both, rows = self.view.ghost is not None, self.size.height
        self.query_one(BeforePanel).display = both
        self.query_one(OneEnginePanel).display = both and rows >= _ROOM_FOR_ALL
        self.query_one(EnginePanel).display = rows >= (_ROOM_FOR_ALL if both else _ROOM_FOR_ENGINE)

    def _show_again(self) -> None:
        if self.snapshot is not None:
            with self.app.batch_update():
                self.show(self.snapshot)

    # -- keys --------------------------------------------------------------------------------

    def action_cursor(self, step: int) -> None:
        if self.snapshot is not None:
            last = len(batches(self.snapshot.engines)) - 1
            self.chosen.row = max(0, min(self.chosen.row + step, last))
            for panel in self._panels:
                panel.repaint()
