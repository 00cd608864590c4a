"""The map's panels: the half of now, the half of before, tokens of one engine, the engine at the cursor."""

from __future__ import annotations

from dataclasses import dataclass

from rvtop.contract.snapshot import Engine, Snapshot
from rvtop.ui.describe import figures_of
from rvtop.ui.draw import Line
from rvtop.ui.format import milliseconds, rate, sig3, wall
from rvtop.ui.map_lines import (
    MOST_ENGINES,
    NO_ENGINES,
    detail_lines,
    engines_of_row,
    map_lines,
    scale_of,
    times,
    token_bars,
    tokens_of_one_engine,
)
from rvtop.ui.placement_lines import placement_lines
from rvtop.ui.stage_lines import stage_lines
from rvtop.ui.theme import Styles
from rvtop.ui.widgets.nodes import with_dashboard
from rvtop.ui.widgets.panel import MARGINS, Panel

_ALL = 1000  # rows: as many as there are


@dataclass
class Chosen:
    """The row under the cursor; the map's panels share it."""

    row: int = 0

    def engine(self, s: Snapshot) -> Engine | None:
        """The engine of the row; None where a row is a node."""
        if not s.engines or len(s.engines) > MOST_ENGINES:
            return None
        return engines_of_row(s.engines, self.row)[0]


def name_of(s: Snapshot) -> str:
    """What a half of the map is called."""
    return s.target.topology or "this server"


def _figures(s: Snapshot, styles: Styles) -> Line:
    """What a half's rule says: asked and served, TTFT, tokens."""
    line = Line(f"asked {rate(s.load.target_rps)}  ", styles.command)
    line.put(f"served {rate(s.load.completed_rps)} rps  ", styles.client)
    line.put(f"TTFT p50 {milliseconds(s.latency.ttft.p50)}  ", styles.client)
    tokens = s.tokens.per_s if s.tokens.per_s is not None else s.tokens.server_per_s
    return line.put(f"{sig3(tokens)} tok/s", styles.client)


class MapPanel(Panel):
    """The half of now."""

    DEFAULT_CSS = """
    MapPanel, BeforePanel { height: 1fr; min-height: 3; }
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
        left = Line("now: " if self.view.ghost else "", styles.quiet).put(name_of(s), styles.server_bold)
        left.put(f" · {len(s.engines)}" if s.engines else "", styles.quiet)
        right = _figures(s, styles)
        return with_dashboard(left, right, s, styles, width), right

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        ghost = self.view.ghost
        scale = scale_of(width, s, ghost.snapshot) if ghost is not None else None
        styles, plan = self.rich_styles, s.placement
        below = stage_lines(s.stages, styles, width, height)
        below += placement_lines(plan, styles, width, height - len(below)) if plan is not None else []
        return [*map_lines(s, styles, width, height - len(below), self._chosen.row, scale), *below]

    def wanted(self, s: Snapshot, width: int) -> int:
        """Rows that it fills, its rule among them."""
        return 1 + len(self.rows(s, width - MARGINS, _ALL))

    def one_line(self, s: Snapshot, width: int) -> Line:
        return Line(f" map: {len(s.engines)} engines", self.rich_styles.quiet).cut(width)


class BeforePanel(Panel):
    """The half of before: the ghost, in the scale of the half of now."""

    TOPIC = "before"

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        ghost, styles = self.view.ghost, self.rich_styles
        if ghost is None:
            return Line(), Line()
        before = ghost.snapshot
        left = Line("before: ", styles.quiet).put(name_of(before), styles.ghost)
        left.put(f" · {len(before.engines)}" if before.engines else "", styles.quiet)
        return left, _figures(before, styles)

    def footing(self, s: Snapshot, width: int) -> Line:
        ghost = self.view.ghost
        return Line(f"ghost of {wall(ghost.snapshot.unix_s)}" if ghost else "", self.rich_styles.quiet)

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        ghost, styles = self.view.ghost, self.rich_styles
        if ghost is None:
            return []
        before, scale = ghost.snapshot, scale_of(width, s, ghost.snapshot)
        key = (id(before), scale, styles, width, height)
        return self.once(key, lambda: map_lines(before, styles, width, height, None, scale, legend=False))

    def wanted(self, s: Snapshot, width: int) -> int:
        """Rows that it fills, its rule among them."""
        return 1 + len(self.rows(s, width - MARGINS, _ALL))

    def one_line(self, s: Snapshot, width: int) -> Line:
        ghost = self.view.ghost
        return Line(f" before: {name_of(ghost.snapshot)}" if ghost else "", self.rich_styles.quiet).cut(width)


class OneEnginePanel(Panel):
    """Tokens that one engine makes in one second, before and now."""

    DEFAULT_CSS = """
    OneEnginePanel { height: 3; }
    """
    TOPIC = "one_engine"

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        ghost, styles = self.view.ghost, self.rich_styles
        before = tokens_of_one_engine(ghost.snapshot) if ghost else None
        right = Line(times(tokens_of_one_engine(s), before), styles.strong)
        return Line("tokens of one engine in one second", styles.strong), right

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        ghost = self.view.ghost
        if ghost is None:
            return []
        before, now = ghost.snapshot, name_of(s)
        told = [(ghost.name(s), tokens_of_one_engine(before)), (now, tokens_of_one_engine(s))]
        return token_bars(self.rich_styles, told, width, height)

    def one_line(self, s: Snapshot, width: int) -> Line:
        return Line(f" {sig3(tokens_of_one_engine(s))} tok/s", self.rich_styles.quiet).cut(width)


class EnginePanel(Panel):
    """The engine at the cursor."""

    DEFAULT_CSS = """
    EnginePanel { height: 6; }
    """
    TOPIC = "engines"

    def __init__(self, chosen: Chosen) -> None:
        super().__init__()
        self._chosen = chosen

    def draws(self, s: Snapshot) -> tuple[object, ...] | None:
        return s.engines, self._chosen.row

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
        return detail_lines(self.rich_styles, figures_of(engine), width)[:height]

    def wanted(self, s: Snapshot, width: int) -> int:
        """Rows that it fills, its rule among them."""
        return 1 + len(self.rows(s, width - MARGINS, _ALL))

    def one_line(self, s: Snapshot, width: int) -> Line:
        engine = self._chosen.engine(s)
        return Line(f" {engine.name}" if engine else "", self.rich_styles.quiet).cut(width)
