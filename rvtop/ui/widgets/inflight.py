"""Requests in flight over time, and where they are: in the engines' batches, waiting there, or outside."""

from __future__ import annotations

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.axis import history
from rvtop.ui.draw import Line, area, eighths
from rvtop.ui.format import brief, count
from rvtop.ui.widgets.panel import Panel
from rvtop.ui.widgets.tokens import GUTTER, gutter


class InFlightPanel(Panel):
    TOPIC = "inflight"
    PLACE = "right"
    GOOD, CHART = 5, True

    def heights(self, s: Snapshot, width: int) -> tuple[int, int]:
        return 4, 9

    def quiet(self, s: Snapshot) -> bool:
        return not (s.load.in_flight or s.figures.get("running") or s.figures.get("waiting"))

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        batch, waiting = s.figures.get("running"), s.figures.get("waiting")
        outside = None if batch is None or waiting is None else max(0.0, s.load.in_flight - batch - waiting)
        line = Line(f"batch {count(batch)}  wait {count(waiting)}  outside {count(outside)}")
        return Line("in flight", self.rich_styles.client_bold), line

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        values = history(s.series.t_s, s.series.in_flight, width - GUTTER)
        top = max((v for v in values if v is not None), default=0.0) or 1.0
        lines = area(eighths(values, top, height), height, self.rich_styles.client)
        return gutter(lines, self.rich_styles, brief(top), "0")

    def one_line(self, s: Snapshot, width: int) -> Line:
        return Line(" ").join(self.heading(s, width)[1])
