"""Requests a second over time, served and commanded, where there is room for it."""

from __future__ import annotations

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.axis import StickyMax
from rvtop.ui.draw import Cells, Line, area, eighths, fitting, over
from rvtop.ui.format import brief, rate
from rvtop.ui.layout import TALL
from rvtop.ui.rate_span import RateSpan
from rvtop.ui.span import Span
from rvtop.ui.widgets.gpu_use import tells_use
from rvtop.ui.widgets.time_chart import Picture, TimeChart, ends, highest


class ServedPanel(TimeChart):
    TOPIC = "load"
    NAME = "served"
    PLACE = "left"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._scale = StickyMax(least=1.0)

    def wants(self, s: Snapshot) -> bool:
        return s.load.sent > 0 and self.app.size.height >= TALL

    def depends(self, s: Snapshot) -> tuple[object, ...]:
        return (self._scale.value,)

    def says(self, s: Snapshot) -> tuple[object, ...]:
        return (rate(s.load.completed_rps),)

    def observe(self, s: Snapshot) -> None:
        most = self.view.window(s)
        self._scale.follow(highest(s.series.completed_rps[-most:], s.series.target_rps[-most:]))

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        styles = self.rich_styles
        left = Line("requests/s", styles.client_bold).join(self.window_label(s))
        right = Line("─", styles.command).put(" commanded  ", styles.quiet).put("█", styles.client)
        right.put(" served", styles.quiet).put(f"{rate(s.load.completed_rps):>7}", styles.client)
        return left, right

    def picture(self, s: Snapshot, span: Span | RateSpan, rows: int) -> Picture:
        styles, series, top = self.rich_styles, s.series, self._scale.value
        heights = eighths(span.means(series.t_s, series.completed_rps), top, rows)
        cells = Cells(span.columns, rows)
        for y, line in enumerate(area(heights, rows, styles.client)):
            cells.write(0, y, line.text, styles.client)
        levels = eighths(span.means(series.t_s, series.target_rps), top, rows)
        over(cells, heights, levels, styles.command, styles.command_on_client)
        return Picture(cells, ends(rows, brief(top), "0"))

    def one_line(self, s: Snapshot, width: int) -> Line:
        styles = self.rich_styles
        line = fitting([(1, Line(" requests/s ", styles.quiet)), (0, self.heading(s, 0)[1])], width)
        return self.with_spark(line, s, s.series.completed_rps, self._scale.value, width, styles.client)


class ServedBesidePanel(ServedPanel):
    """The same at the right, where the server tells too little to fill it."""

    NAME = "served_beside"
    PLACE = "right"

    def wants(self, s: Snapshot) -> bool:
        return s.load.sent > 0 and not super().wants(s) and not tells_use(s)
