"""Map: clients, who waits where, each engine's batch, tokens out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult

from rvtop.contract.figures import SHOWN, texts
from rvtop.contract.snapshot import Engine, Snapshot
from rvtop.ui.draw import Line
from rvtop.ui.format import FORMATS, milliseconds, rate, sig3
from rvtop.ui.map_lines import MOST_ENGINES, NO_ENGINES, batches, detail_lines, map_lines
from rvtop.ui.screens.steering import Steering
from rvtop.ui.shell import ScreenShell
from rvtop.ui.widgets.header import Header
from rvtop.ui.widgets.panel import Panel
from rvtop.ui.widgets.place_footer import PlaceFooter


@dataclass
class Chosen:
    """The row under the cursor; the map's panels share it."""

    row: int = 0

    def engine(self, s: Snapshot) -> Engine | None:
        """The engine of the row; None where a row is a node."""
        if not s.engines or len(s.engines) > MOST_ENGINES:
            return None
        name = batches(s.engines)[min(self.row, len(s.engines) - 1)].name
        return next(engine for engine in s.engines if engine.name == name)


class MapPanel(Panel):
    DEFAULT_CSS = """
    MapPanel { height: 1fr; min-height: 3; }
    """
    TOPIC = "map"

    def __init__(self, chosen: Chosen) -> None:
        super().__init__()
        self._chosen = chosen

    async def on_mouse_scroll_up(self) -> None:
        await self.run_action("screen.cursor(-1)")

    async def on_mouse_scroll_down(self) -> None:
        await self.run_action("screen.cursor(1)")

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        styles = self.rich_styles
        left = Line(s.target.topology or "this server", styles.server_bold)
        left.put(f" · {len(s.engines)}" if s.engines else "", styles.quiet)
        right = Line(f"served {rate(s.load.completed_rps)} rps  ", styles.client)
        right.put(f"TTFT p50 {milliseconds(s.latency.ttft.p50)}  ", styles.client)
        tokens = s.tokens.per_s if s.tokens.per_s is not None else s.tokens.server_per_s
        return left, right.put(f"{sig3(tokens)} tok/s", styles.client)

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        return map_lines(s, self.rich_styles, width, height, self._chosen.row)

    def one_line(self, s: Snapshot, width: int) -> Line:
        return Line(f" map: {len(s.engines)} engines", self.rich_styles.quiet).cut(width)


class EnginePanel(Panel):
    DEFAULT_CSS = """
    EnginePanel { height: 6; }
    """
    TOPIC = "engines"

    def __init__(self, chosen: Chosen) -> None:
        super().__init__()
        self._chosen = chosen

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        engine = self._chosen.engine(s)
        name = engine.name if engine is not None else "engine"
        right = Line((engine.model or "") if engine is not None else "", self.rich_styles.quiet)
        return Line(name, self.rich_styles.server_bold), right

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        engine = self._chosen.engine(s)
        if engine is None:
            text = f"over {MOST_ENGINES} engines: a row is a node" if s.engines else NO_ENGINES
            return [Line(text, self.rich_styles.quiet)]
        told = texts(SHOWN, engine.figures, FORMATS)
        figures = [(figure.heading, part) for figure, parts in told for part in parts]
        return detail_lines(self.rich_styles, engine, figures, width)[:height]

    def one_line(self, s: Snapshot, width: int) -> Line:
        engine = self._chosen.engine(s)
        return Line(f" {engine.name}" if engine else "", self.rich_styles.quiet).cut(width)


class MapScreen(Steering):
    PLACES: ClassVar[str] = "A*M"
    VERTICAL_BREAKPOINTS = [(0, "-low"), (18, "-high")]  # noqa: RUF012  (Textual's own declaration)
    CSS = """
    MapScreen { layout: vertical; }
    MapScreen.-low EnginePanel { display: none; }
    """

    def __init__(self, shell: ScreenShell) -> None:
        super().__init__(shell)
        self.chosen = Chosen()

    def compose(self) -> ComposeResult:
        yield Header()
        yield MapPanel(self.chosen)
        yield EnginePanel(self.chosen)
        yield PlaceFooter(self.PLACES)

    def action_cursor(self, step: int) -> None:
        if self.snapshot is not None:
            last = len(batches(self.snapshot.engines)) - 1
            self.chosen.row = max(0, min(self.chosen.row + step, last))
            for panel in self._panels:
                panel.repaint()
