"""KV-cache use and the queue over time: they explain a change of the latencies."""

from __future__ import annotations

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.axis import StickyMax, history
from rvtop.ui.draw import Line, area, eighths
from rvtop.ui.format import brief, count, percent
from rvtop.ui.widgets.panel import Panel
from rvtop.ui.widgets.tokens import GUTTER, gutter

#: A cache that is less full than this, 0..1, says nothing.
LEAST_KV = 0.05


def newest(values: tuple[float | None, ...]) -> float | None:
    """The last point, which may be a gap."""
    return values[-1] if values else None


class KvQueuePanel(Panel):
    TOPIC = "kvqueue"
    PLACE = "right"
    GOOD, CHART = 5, True

    def wants(self, s: Snapshot) -> bool:
        return bool(s.engines)

    def heights(self, s: Snapshot, width: int) -> tuple[int, int]:
        return 4, 9

    def quiet(self, s: Snapshot) -> bool:
        return (newest(s.series.kv_usage) or 0.0) < LEAST_KV and not newest(s.series.waiting)

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._waiting = StickyMax(least=4.0)

    def observe(self, s: Snapshot) -> None:
        self._waiting.follow(
            max((v for v in s.series.waiting[-2 * self.window_s :] if v is not None), default=0.0)
        )

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        styles = self.rich_styles
        left = Line("KV cache, queue", styles.server_bold)
        if s.series.t_s and width >= 50:
            left.put(f" · {self.window_s // 60} min", styles.quiet)
        waiting = newest(s.series.waiting)
        right = Line("KV", styles.quiet).put(f"{percent(newest(s.series.kv_usage)):>6}", styles.server)
        right.put("  wait", styles.quiet).put(
            f"{count(waiting):>5}", styles.attention if waiting else styles.server
        )
        return left, right

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        newest = (s.series.t_s[-1:], s.series.kv_usage[-1:], s.series.waiting[-1:])
        key = (newest, width, height, self._waiting.value, self.window_s)
        return self.once(key, lambda: self._both(s, width, height))

    def _both(self, s: Snapshot, width: int, height: int) -> list[Line]:
        columns = width - GUTTER
        kv = history(s.series.t_s, s.series.kv_usage, columns, self.window_s)
        if height < 4:
            return self._chart(kv, 1.0, height, "100 %")
        # The queue gets the smaller part: whether there is one matters more than how long it is.
        low = max(2, height * 2 // 5) if height >= 6 else 1
        waiting = history(s.series.t_s, s.series.waiting, columns, self.window_s)
        lines = self._chart(kv, 1.0, height - low - (height >= 8), "KV 100%")
        if height >= 8:
            lines.append(Line())
        return lines + self._chart(waiting, self._waiting.value, low, f"wait {brief(self._waiting.value)}")

    def _chart(self, values: list[float | None], top: float, rows: int, label: str) -> list[Line]:
        lines = area(eighths(values, top, rows), rows, self.rich_styles.server)
        return gutter(lines, self.rich_styles, label, "0" if rows > 1 else label)

    def one_line(self, s: Snapshot, width: int) -> Line:
        return Line(" ").join(self.heading(s, width)[1])
