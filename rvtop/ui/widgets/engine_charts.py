"""A small chart of the KV cache for each engine, where there is a column to spare."""

from __future__ import annotations

import math
from collections import deque

from rvtop.contract.snapshot import Engine, Snapshot
from rvtop.ui.draw import Line, area, eighths
from rvtop.ui.format import count, fixed, percent
from rvtop.ui.layout import FOUR_COLUMNS
from rvtop.ui.widgets.panel import Panel

#: So many engines have a chart; seconds that are kept of each; cells of a name; rows of a chart at most.
MOST, KEPT_S, NAME, HIGHEST = 24, 120, 12, 3
_LEAST_CHART = 10


class EngineChartsPanel(Panel):
    """It keeps what it was shown: the session's series are sums over the engines."""

    TOPIC = "engines"
    NAME = "engine_charts"
    PLACE = "right"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._seconds: dict[str, deque[tuple[int, float]]] = {}

    def wants(self, s: Snapshot) -> bool:
        return self.app.size.width >= FOUR_COLUMNS and any(e.kv_usage is not None for e in s.engines)

    def heights(self, s: Snapshot, width: int) -> tuple[int, int]:
        engines = min(MOST, len(s.engines))
        return 1 + min(3, engines), 1 + HIGHEST * engines

    def observe(self, s: Snapshot) -> None:
        now = math.floor(s.t_s)
        for engine in s.engines:
            kept = self._seconds.setdefault(engine.name, deque(maxlen=KEPT_S))
            if kept and kept[-1][0] > now:  # another session
                kept.clear()
            if engine.kv_usage is not None and engine.stale_s is None:
                if kept and kept[-1][0] == now:
                    kept.pop()
                kept.append((now, engine.kv_usage))

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        left = Line("KV cache", self.rich_styles.server_bold)
        left.put(f" · by engine, last {KEPT_S // 60} min", self.rich_styles.quiet)
        rest = len(s.engines) - MOST
        right = f"wait   KV   {count(rest)} more" if rest > 0 else "wait   KV"
        return left, Line(right, self.rich_styles.quiet)

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        engines = s.engines[: min(MOST, height)]
        high = max(1, min(HIGHEST, height // max(1, len(engines))))
        return [line for engine in engines for line in self._lines_of(engine, s.t_s, width, high)]

    def _lines_of(self, engine: Engine, now_s: float, width: int, high: int) -> list[Line]:
        """Its chart, with its name and its figures of now in the last row."""
        styles = self.rich_styles
        waits = styles.attention if engine.waiting else styles.server
        tail = Line(f"{count(engine.waiting):>6}", waits).put(f"{percent(engine.kv_usage):>7}", styles.server)
        columns = width - NAME - 1 - tail.width
        if columns < _LEAST_CHART:
            return [Line(fixed(engine.name, NAME), styles.base).join(tail).cut(width)]
        drawn = self._chart(engine.name, now_s, columns, high)
        named = [""] * (high - 1) + [engine.name]
        lines = [
            Line(fixed(name, NAME) + " ", styles.base).join(row)
            for name, row in zip(named, drawn, strict=True)
        ]
        lines[-1].join(tail)
        return lines

    def _chart(self, name: str, now_s: float, columns: int, high: int) -> list[Line]:
        """The newest second at the right; a second nobody told of is blank."""
        shown, told = min(KEPT_S, columns), dict(self._seconds.get(name, ()))
        values = [told.get(math.floor(now_s) - shown + 1 + x) for x in range(shown)]
        drawn = area(eighths(values, 1.0, high), high, self.rich_styles.server)
        return [Line(" " * (columns - shown)).join(row) for row in drawn]

    def one_line(self, s: Snapshot, width: int) -> Line:
        return Line(f" KV cache of {count(len(s.engines))} engines", self.rich_styles.quiet).cut(width)
