"""KV map: what is in the engines' prefix caches, by the events that they publish."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from rvtop.contract.snapshot import Snapshot
from rvtop.stats.kv_map import SHARE_EDGES
from rvtop.ui.screens.list_screen import ENDS
from rvtop.ui.screens.steering import Steering
from rvtop.ui.shell import ScreenShell
from rvtop.ui.widgets.header import Header
from rvtop.ui.widgets.kv_map import ChosenCache, HeatPanel, KvEnginesPanel, PrefixPanel
from rvtop.ui.widgets.place_footer import PlaceFooter

#: Rows of the screen below which the tree, and then the heat map too, are left out.
_ROOM_FOR_ALL = 20
_ROOM_FOR_HEAT = 14


class KvScreen(Steering):
    PLACES: ClassVar[str] = "A*K"
    BINDINGS: ClassVar[list[BindingType]] = ENDS
    CSS = """
    KvScreen { layout: vertical; }
    KvScreen PrefixPanel { height: 1fr; }
    """

    def __init__(self, shell: ScreenShell) -> None:
        super().__init__(shell)
        self.chosen = ChosenCache()

    def compose(self) -> ComposeResult:
        yield Header()
        yield KvEnginesPanel(self.chosen)
        yield HeatPanel(self.chosen)
        yield PrefixPanel(self.chosen)
        yield PlaceFooter(self.PLACES)

    def show(self, s: Snapshot) -> None:
        self._share(s)
        super().show(s)

    def on_resize(self) -> None:
        if self.snapshot is not None:
            self._share(self.snapshot)
        super().on_resize()

    def _share(self, s: Snapshot) -> None:
        """The rows of each panel: a map that says nothing has the screen for why."""
        height, told = self.size.height, self.chosen.engine(s) is not None
        engines = len(s.kv_map.engines) if s.kv_map is not None else 0
        heat, tree = self.query_one(HeatPanel), self.query_one(PrefixPanel)
        heat.display = told and height >= _ROOM_FOR_HEAT
        tree.display = told and height >= _ROOM_FOR_ALL
        heat.styles.height = len(SHARE_EDGES) + 2 if tree.display else "1fr"
        least = 2 + len(SHARE_EDGES) + 5  # header, footer, the heat map, the tree's least
        rows = 2 + min(engines, max(1, height - least)) if heat.display else "1fr"
        self.query_one(KvEnginesPanel).styles.height = rows

    # -- keys --------------------------------------------------------------------------------

    def action_cursor(self, step: int) -> None:
        engines = self.snapshot.kv_map.engines if self.snapshot is not None and self.snapshot.kv_map else ()
        self.chosen.row = max(0, min(self.chosen.row + step, len(engines) - 1))
        for panel in self._panels:
            panel.repaint()
