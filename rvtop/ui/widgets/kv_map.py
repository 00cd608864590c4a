"""The panels of the KV map: the engines, the blocks of the one at the cursor, its shared beginnings."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import wrap

from rvtop.contract.snapshot import Snapshot
from rvtop.stats.kv_map import EngineMap
from rvtop.ui.draw import Line
from rvtop.ui.format import count, percent
from rvtop.ui.kv_lines import NO_MAP, heat_lines, locality, prefix_lines, rows_of_engines
from rvtop.ui.widgets.panel import Panel

_MOST_TEXT = 100  # cells of a line of prose


@dataclass
class ChosenCache:
    """The engine at the cursor; the panels share it."""

    row: int = 0

    def engine(self, s: Snapshot) -> EngineMap | None:
        """That engine's cache, where any is told."""
        engines = s.kv_map.engines if s.kv_map is not None else ()
        return engines[min(self.row, len(engines) - 1)] if engines else None


class KvEnginesPanel(Panel):
    """A row an engine."""

    TOPIC = "kv_engines"

    def __init__(self, chosen: ChosenCache) -> None:
        super().__init__()
        self._chosen = chosen

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        styles = self.rich_styles
        left = Line("KV map ", styles.server_bold).put(
            "stored less evicted, by the engines' own events", styles.quiet
        )
        return left, locality(s.kv_map, styles) if s.kv_map is not None else Line()

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        styles, kv = self.rich_styles, s.kv_map
        if kv is None:
            lines = wrap(NO_MAP, max(1, min(width, _MOST_TEXT)), break_on_hyphens=False)  # options are whole
            return [Line(text, styles.quiet) for text in lines[:height]]
        if kv.note:
            return [Line(f"! {kv.note}", styles.attention).cut(width)]
        head, *rows = rows_of_engines(kv, styles, width, self._chosen.row)
        room = max(1, height - 1)
        first = max(0, min(self._chosen.row - room // 2, len(rows) - room))
        return [head, *rows[first : first + room]]

    def one_line(self, s: Snapshot, width: int) -> Line:
        engines = s.kv_map.engines if s.kv_map is not None else ()
        return Line(f" KV map: {len(engines)} engines", self.rich_styles.quiet).cut(width)


class HeatPanel(Panel):
    """Blocks by age and sharing."""

    TOPIC = "kv_heat"

    def __init__(self, chosen: ChosenCache) -> None:
        super().__init__()
        self._chosen = chosen

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        engine, styles = self._chosen.engine(s), self.rich_styles
        left = Line("blocks ", styles.server_bold).put(
            "by requests that share them, and age since stored", styles.quiet
        )
        right = Line()
        if engine is not None:
            size = f" of {engine.block_tokens} tokens" if engine.block_tokens else ""
            right = Line(f"{engine.name}  {count(engine.cached)} blocks{size}", styles.server)
        return left, right

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        engine = self._chosen.engine(s)
        return heat_lines(engine, self.rich_styles, width)[:height] if engine is not None else []

    def one_line(self, s: Snapshot, width: int) -> Line:
        engine = self._chosen.engine(s)
        text = f" {count(engine.cached)} blocks cached, {count(engine.shared)} shared" if engine else ""
        return Line(text, self.rich_styles.server).cut(width)


class PrefixPanel(Panel):
    """Beginnings that requests share."""

    TOPIC = "kv_prefixes"

    def __init__(self, chosen: ChosenCache) -> None:
        super().__init__()
        self._chosen = chosen

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        engine, styles = self._chosen.engine(s), self.rich_styles
        left = Line("prefixes ", styles.server_bold).put(
            "by the share of requests that branch off them", styles.quiet
        )
        if engine is None:
            return left, Line()
        hits = f"hits {percent(engine.hit_share)} of {count(engine.requests)} requests, at least"
        return left, Line(hits, styles.server)

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        engine = self._chosen.engine(s)
        return prefix_lines(engine, self.rich_styles, width, height) if engine is not None else []

    def one_line(self, s: Snapshot, width: int) -> Line:
        engine = self._chosen.engine(s)
        text = f" top prefix {percent(engine.top_share)}" if engine else ""
        return Line(text, self.rich_styles.server).cut(width)
