"""KV-cache use and the queue over time: they explain a change of the latencies."""

from __future__ import annotations

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.axis import StickyMax
from rvtop.ui.bands import Values
from rvtop.ui.draw import Cells, Line, area, eighths, fitting
from rvtop.ui.format import brief, count, percent
from rvtop.ui.rate_span import RateSpan
from rvtop.ui.span import Span, now_of
from rvtop.ui.widgets.time_chart import Picture, TimeChart, highest

#: A cache that is less full than this, 0..1, says nothing.
LEAST_KV = 0.05


class KvQueuePanel(TimeChart):
    TOPIC = "kvqueue"
    PLACE = "right"

    def wants(self, s: Snapshot) -> bool:
        return bool(s.engines)

    def quiet(self, s: Snapshot) -> bool:
        return (now_of(s, "kv_usage") or 0.0) < LEAST_KV and not now_of(s, "waiting")

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._waiting = StickyMax(least=4.0)

    def observe(self, s: Snapshot) -> None:
        self._waiting.follow(highest(s.series.waiting[-self.view.window(s) :]))

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        styles = self.rich_styles
        left = Line("KV cache, queue", styles.server_bold)
        if width >= 50:
            left.join(self.window_label(s))
        waiting = _waiting(s)
        right = Line("KV", styles.quiet).put(f"{percent(now_of(s, 'kv_usage')):>6}", styles.server)
        right.put("  wait ", styles.quiet).put(
            f"{count(waiting):>4}", styles.attention if waiting else styles.server
        )
        return left, right

    def depends(self, s: Snapshot) -> tuple[object, ...]:
        return (self._waiting.value,)

    def says(self, s: Snapshot) -> tuple[object, ...]:
        return now_of(s, "kv_usage"), _waiting(s)

    def picture(self, s: Snapshot, span: Span | RateSpan, rows: int) -> Picture:
        # The queue gets the smaller part: whether there is one matters more than how long it is.
        low = 0 if rows < 4 else 1 if rows < 6 else max(2, rows * 2 // 5)
        high = rows - low - (rows >= 8)
        cells = Cells(span.columns, rows)
        self._put(cells, 0, high, span.means(s.series.t_s, s.series.kv_usage), 1.0)
        labels = {high - 1: "KV", 0: "100%"}
        if low:
            top = self._waiting.value
            self._put(cells, rows - low, low, span.means(s.series.t_s, s.series.waiting), top)
            labels |= {rows - low: brief(top), rows - 1: "wait"}
        return Picture(cells, labels)

    def _put(self, cells: Cells, y: int, rows: int, values: Values, top: float) -> None:
        style = self.rich_styles.server
        for row, line in enumerate(area(eighths(values, top, rows), rows, style)):
            cells.write(0, y + row, line.text, style)

    def one_line(self, s: Snapshot, width: int) -> Line:
        line = fitting([(1, Line(" ")), (0, self.heading(s, width)[1])], width)
        return self.with_spark(line, s, s.series.kv_usage, 1.0, width, self.rich_styles.server)


def _waiting(s: Snapshot) -> float | None:
    """What waits in all engines, as their rows have it: the chart's last second may be older. None where the
    server tells nothing now."""
    charted = now_of(s, "waiting")
    told = [e.waiting for e in s.engines if e.stale_s is None and e.waiting is not None]
    return sum(told) if told and charted is not None else charted
