"""Small charts of each engine's KV cache and TTFT, where there is a column to spare."""

from __future__ import annotations

import math
from collections import deque

from rvtop.contract.snapshot import Engine, Snapshot
from rvtop.ui.axis import StickyMax, history
from rvtop.ui.bands import Values
from rvtop.ui.draw import Line, area, eighths
from rvtop.ui.format import count, fixed, percent, sig3
from rvtop.ui.layout import FOUR_COLUMNS
from rvtop.ui.widgets.panel import Panel

#: So many engines have charts; seconds that are kept of each; cells of a name; rows of a chart and of all of
#: them at most.
MOST, KEPT_S, NAME, HIGHEST, ALL = 24, 120, 12, 8, 48
_LEAST_CHART, _GAP = 10, 2
Seconds = deque[tuple[int, float | None, float | None]]


class EngineChartsPanel(Panel):
    """It keeps what it was shown: the session's series are sums over the engines."""

    TOPIC = "engines"
    NAME = "engine_charts"
    PLACE = "right"
    PLACE_WHERE_WIDE = "fourth"
    GOOD = 25

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._seconds: dict[str, Seconds] = {}  # second, KV cache, TTFT
        self._slowest = StickyMax(least=1.0)  # one scale for all, so that engines can be compared

    def wants(self, s: Snapshot) -> bool:
        told = any(e.kv_usage is not None or e.ttft_ms is not None for e in s.engines)
        return self.app.size.width >= FOUR_COLUMNS and (told or bool(self._seconds))

    def heights(self, s: Snapshot, width: int) -> tuple[int, int]:
        engines = min(MOST, len(s.engines))
        return 1 + min(3, engines), 1 + engines * min(HIGHEST, ALL // max(1, engines))

    def observe(self, s: Snapshot) -> None:
        now = math.floor(s.t_s)
        for engine in s.engines:
            kept = self._seconds.setdefault(engine.name, deque(maxlen=KEPT_S))
            if kept and kept[-1][0] > now:  # another session
                kept.clear()
            if kept and kept[-1][0] == now:
                kept.pop()
            fresh = engine.stale_s is None
            kept.append((now, engine.kv_usage, engine.ttft_ms) if fresh else (now, None, None))
        self._slowest.follow(
            max((v for kept in self._seconds.values() for _, _, v in kept if v), default=0.0)
        )

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        styles = self.rich_styles
        left = Line("KV cache", styles.server_bold).put(" to 100 %, ", styles.quiet)
        left.put("TTFT", styles.server_bold).put(f" to {sig3(self._slowest.value)} ms", styles.quiet)
        if width >= 80:
            left.put(f" · by engine, {KEPT_S // 60} min", styles.quiet)
        rest = len(s.engines) - MOST
        return left, Line(f"{count(rest)} more" if rest > 0 else "wait     KV   TTFT", styles.quiet)

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        engines = s.engines[: min(MOST, height)]
        high = max(1, min(HIGHEST, height // max(1, len(engines))))
        return [line for engine in engines for line in self._lines_of(engine, width, high)]

    def _lines_of(self, engine: Engine, width: int, high: int) -> list[Line]:
        """Its charts, with its name and its figures of now in the last row."""
        styles = self.rich_styles
        waits = styles.attention if engine.waiting else styles.server
        tail = Line(f"{count(engine.waiting):>6}", waits).put(f"{percent(engine.kv_usage):>7}", styles.server)
        tail.put(f"{sig3(engine.ttft_ms):>7}", styles.server)
        columns = (width - NAME - 1 - tail.width - _GAP) // 2
        if columns < _LEAST_CHART:
            return [Line(fixed(engine.name, NAME), styles.base).join(tail).cut(width)]
        kept = self._seconds.get(engine.name, ())
        seconds = [float(second) for second, _, _ in kept]
        usage = self._chart(seconds, [kv for _, kv, _ in kept], 1.0, columns, high)
        ttft = self._chart(seconds, [ms for _, _, ms in kept], self._slowest.value, columns, high)
        named = [""] * (high - 1) + [engine.name]
        lines = [
            Line(fixed(name, NAME) + " ", styles.base).join(left).put(" " * _GAP).join(right)
            for name, left, right in zip(named, usage, ttft, strict=True)
        ]
        lines[-1].join(tail)
        return lines

    def _chart(self, seconds: list[float], values: Values, top: float, columns: int, high: int) -> list[Line]:
        """The newest second at the right; what nobody told of is blank."""
        shown = history(seconds, values, columns, span_s=KEPT_S)
        return area(eighths(shown, top, high), high, self.rich_styles.server)

    def one_line(self, s: Snapshot, width: int) -> Line:
        return Line(f" KV cache, TTFT of {count(len(s.engines))} engines", self.rich_styles.quiet).cut(width)
