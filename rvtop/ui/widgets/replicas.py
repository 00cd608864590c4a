"""Replicas over time, a cell each: healthy, starting, wanted and draining. Drawn where models are scaled."""

from __future__ import annotations

import math

from rvtop.contract.replicas import counts_line, is_scaled
from rvtop.contract.snapshot import Snapshot
from rvtop.ui.bands import Values
from rvtop.ui.draw import Cells, Line
from rvtop.ui.rate_span import RateSpan
from rvtop.ui.span import Span
from rvtop.ui.widgets.time_chart import Picture, TimeChart, ends, highest


class ReplicasPanel(TimeChart):
    TOPIC = "replicas"
    PLACE = "left"
    LEGEND = ("healthy", "starting", "wanted", "draining")

    def wants(self, s: Snapshot) -> bool:
        return is_scaled(s.series.replicas_wanted, s.series.replicas_healthy)

    def heights(self, s: Snapshot, width: int) -> tuple[int, int]:
        return 3, 2 + min(8, math.ceil(self._most(s)))

    def _most(self, s: Snapshot) -> float:
        series = s.series
        held = [sum(each or 0.0 for each in counts) for counts in zip(*self._held(s), strict=True)]
        return max(2.0, highest(held, series.replicas_wanted))

    def _held(self, s: Snapshot) -> tuple[Values, ...]:
        series = s.series
        return series.replicas_healthy, series.replicas_starting, series.replicas_draining

    def says(self, s: Snapshot) -> tuple[object, ...]:
        return s.replicas

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        styles = self.rich_styles
        left = Line("replicas", styles.server_bold)
        if width >= 50:
            left.join(self.window_label(s))
        if width >= 76:
            for name, sign in zip(self.LEGEND, "●◐○◌", strict=True):
                left.put(" ").join(self.entry(name, Line(f"{sign} {name}", styles.quiet)))
        return left, Line(counts_line(s.replicas), styles.server)

    def picture(self, s: Snapshot, span: Span | RateSpan, rows: int) -> Picture:
        """A row is one replica, or several where there are more of them than rows."""
        styles, series, most = self.rich_styles, s.series, self._most(s)
        each = max(1, math.ceil(most / rows))
        cells = Cells(span.columns, rows)
        means = [
            span.means(series.t_s, values)
            for values in (
                series.replicas_healthy,
                series.replicas_starting,
                series.replicas_wanted,
                series.replicas_draining,
            )
        ]
        looks = (("●", styles.server), ("◐", styles.attention), ("○", styles.quiet), ("◌", styles.quiet))
        for x in range(span.columns):
            healthy, starting, wanted, draining = (round(values[x] or 0.0) for values in means)
            missing = max(0, wanted - healthy - starting)
            level = 0
            for entry, count, (sign, style) in zip(
                self.LEGEND, (healthy, starting, missing, draining), looks, strict=True
            ):
                for _ in range(count):
                    y = rows - 1 - level // each
                    if y >= 0 and not self.hides(entry):
                        cells.set(x, y, sign, style)
                    level += 1
        return Picture(cells, ends(rows, str(each * rows), str(each)))

    def one_line(self, s: Snapshot, width: int) -> Line:
        styles = self.rich_styles
        line = Line(" replicas ", styles.quiet).put(counts_line(s.replicas), styles.server)
        top = self._most(s)
        return self.with_spark(line, s, s.series.replicas_healthy, top, width, styles.server)
