"""Map: clients, who waits where, each engine's batch, tokens out; before a switch above what is now."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.describe import describe_engine, describe_engines
from rvtop.ui.layout import FOUR_COLUMNS, GAP, TWO_COLUMNS
from rvtop.ui.map_lines import NO_ENGINES, batches, engines_of_row
from rvtop.ui.screens.about_server import AboutServer
from rvtop.ui.screens.doctor import show_doctor
from rvtop.ui.screens.held_screen import HeldScreen
from rvtop.ui.screens.list_screen import ENDS
from rvtop.ui.screens.steering import Steering
from rvtop.ui.screens.text import TextScreen
from rvtop.ui.screens.verdict_keys import VerdictKeys
from rvtop.ui.shell import ScreenShell
from rvtop.ui.widgets.header import Header
from rvtop.ui.widgets.inflight import InFlightPanel
from rvtop.ui.widgets.latency_time import LatencyTimePanel
from rvtop.ui.widgets.map import BeforePanel, Chosen, EnginePanel, MapPanel, OneEnginePanel
from rvtop.ui.widgets.panel import Panel
from rvtop.ui.widgets.place_footer import PlaceFooter
from rvtop.ui.widgets.time_chart import TimeChart
from rvtop.ui.widgets.tokens import TokensPanel

#: Rows of the screen from which on both halves leave room for one engine's tokens and the engine's figures.
_ROOM_FOR_ALL = 30
#: The same without a ghost, for the engine's figures.
_ROOM_FOR_ENGINE = 18
_ONE_ROWS = 3  # of the panel below the halves
_ENGINE_ROWS = 6  # of the engine's figures, at most
#: Rows of the charts over time: fewer say nothing, more say no more.
_LEAST_CHARTS, _MOST_CHARTS = 7, 24


class MapScreen(Steering, VerdictKeys, AboutServer, HeldScreen):
    PLACES: ClassVar[str] = "A*M"
    BINDINGS: ClassVar[list[BindingType]] = ENDS
    CSS = """
    MapScreen { layout: vertical; }
    MapScreen #over-time { height: 1fr; }
    MapScreen PlaceFooter { dock: bottom; }
    """

    def __init__(self, shell: ScreenShell) -> None:
        super().__init__(shell)
        self.chosen = Chosen()
        self._zoomed: Panel | None = None
        self._engine_rows: dict[int, int] = {}  # by the screen's width

    def compose(self) -> ComposeResult:
        yield Header()
        yield BeforePanel()
        yield MapPanel(self.chosen)
        yield OneEnginePanel()
        yield EnginePanel(self.chosen)
        with Horizontal(id="over-time"):
            yield InFlightPanel()
            yield TokensPanel()
            yield LatencyTimePanel()
        yield PlaceFooter(self.PLACES)

    def _arrange(self, s: Snapshot) -> None:
        self._share(s)

    def on_resize(self) -> None:
        self._share(self.snapshot)
        super().on_resize()

    def _share(self, s: Snapshot | None) -> None:
        """Which panels there is room for: the halves get what they fill, charts over time the rest."""
        both, rows = self.view.ghost is not None, self.size.height
        half, before = self.query_one(MapPanel), self.query_one(BeforePanel)
        one, engine = self.query_one(OneEnginePanel), self.query_one(EnginePanel)
        charts = self.query_one("#over-time")
        if self._zoomed is not None and (both or self._zoomed not in (before, one)):
            for panel in self._body:
                panel.display = panel is self._zoomed
            charts.display = isinstance(self._zoomed, TimeChart)
            return
        half.display, before.display = True, both
        one.display = both and rows >= _ROOM_FOR_ALL
        engine.display = rows >= (_ROOM_FOR_ALL if both else _ROOM_FOR_ENGINE)
        fill = {panel: panel.wanted(s, self.size.width) for panel in (half, before) if s and panel.display}
        rest = rows - 2 - sum(fill.values()) - _ONE_ROWS * one.display
        if engine.display:
            engine.styles.height = self._rows_of_engine(engine, s)
            rest -= self._engine_rows[self.size.width]
        charts.display = s is not None and engine.display and rest >= _LEAST_CHARTS
        for panel in (half, before):
            panel.styles.height = fill.get(panel, "1fr") if charts.display else "1fr"
        charts.styles.max_height = max(_LEAST_CHARTS, min(rest, _MOST_CHARTS))
        shown = 1 + (self.size.width >= TWO_COLUMNS) + (self.size.width >= FOUR_COLUMNS)
        wanting = [chart for chart in self.query(TimeChart) if s is not None and chart.wants(s)]
        for chart in self.query(TimeChart):
            chart.display = charts.display and chart in wanting[:shown]
            chart.styles.margin = (0, 0, 0, GAP if chart in wanting[1:] else 0)

    def _rows_of_engine(self, engine: EnginePanel, s: Snapshot | None) -> int:
        """As many as its figures ever needed in this width, so that nothing below moves as they change."""
        width = self.size.width
        now = engine.wanted(s, width) if s is not None else 0
        rows = self._engine_rows[width] = max(2, min(now, _ENGINE_ROWS), self._engine_rows.get(width, 0))
        return rows

    @property
    def _body(self) -> list[Panel]:
        return [panel for panel in self._panels if panel.can_focus]

    # -- keys --------------------------------------------------------------------------------

    def action_cursor(self, step: int) -> None:
        if self.snapshot is not None:
            last = len(batches(self.snapshot.engines)) - 1
            self.chosen.row = max(0, min(self.chosen.row + step, last))
            for panel in self._panels:
                panel.repaint()

    def action_zoom(self) -> None:
        if self._zoomed is not None:
            self._unzoom()
            return
        self._zoomed = self.panel_in_focus or self.query_one(MapPanel)
        self._zoomed.styles.height = "1fr"
        self._share(self.snapshot)
        self._zoomed.focus()

    def _unzoom(self) -> None:
        if self._zoomed is not None:
            self._zoomed.styles.clear_rule("height")
        self._zoomed = None
        self._share(self.snapshot)

    def action_window(self, step: int) -> None:
        if self.query_one("#over-time").display:
            super().action_window(step)
        else:
            self.notify_briefly("the map shows one instant here: its charts need more rows")

    def action_back(self) -> None:
        if self._zoomed is not None and self.view.cursor_s is None:
            self._unzoom()
        else:
            super().action_back()

    def action_open(self) -> None:
        """All that the engine at the cursor tells, as it comes; of a row of a node, its engines."""
        s = self.newest
        if s is None or not s.engines:
            self.notify_briefly(NO_ENGINES)
            return
        rows = batches(s.engines)
        name = rows[min(self.chosen.row, len(rows) - 1)].name
        names = {engine.name for engine in engines_of_row(s.engines, self.chosen.row)}

        def lines() -> list[str]:
            now = [e for e in (self.newest or s).engines if e.name in names]
            return describe_engine(now[0]) if len(now) == 1 else describe_engines(now)

        self.app.push_screen(TextScreen(name, lines))

    def action_doctor(self) -> None:
        if self.app.is_web:
            self.notify_briefly("the doctor looks at rvtop's own machine: in its terminal")
        else:
            show_doctor(self)
