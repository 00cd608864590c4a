"""Requests in flight over time, and where they are: in the engines' batches, waiting there, or outside."""

from __future__ import annotations

from rich.style import Style

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.axis import StickyMax
from rvtop.ui.bands import Values, stack
from rvtop.ui.draw import Line, fitting
from rvtop.ui.format import brief, count
from rvtop.ui.rate_span import RateSpan
from rvtop.ui.span import Span
from rvtop.ui.widgets.time_chart import Picture, TimeChart, ends, highest

#: From so many cells on the heading names what its glyphs mean.
NAMES_FROM = 50


def outside(in_flight: float | None, batch: float | None, waiting: float | None) -> float | None:
    """What is in flight but in no engine: on its way, or held by what stands in front of them. The two sides
    are not asked at the same instant, so it is never below 0."""
    if in_flight is None or batch is None:
        return None
    return max(0.0, in_flight - batch - (waiting or 0.0))


class InFlightPanel(TimeChart):
    TOPIC = "inflight"
    PLACE = "right"
    LEGEND = ("batch", "wait", "outside")

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._scale = StickyMax(least=4.0)

    def quiet(self, s: Snapshot) -> bool:
        return not (s.load.in_flight or s.figures.get("running") or s.figures.get("waiting"))

    def depends(self, s: Snapshot) -> tuple[object, ...]:
        return (self._scale.value,)

    def says(self, s: Snapshot) -> tuple[object, ...]:
        return s.load.in_flight, bool(s.load.sent), s.figures.get("running"), s.figures.get("waiting")

    def observe(self, s: Snapshot) -> None:
        most = self.view.window(s)
        series = s.series
        engines = [
            (a or 0.0) + (b or 0.0)
            for a, b in zip(series.running[-most:], series.waiting[-most:], strict=False)
        ]
        self._scale.follow(highest(series.in_flight[-most:], engines))

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        styles = self.rich_styles
        left = Line("in flight", styles.client_bold)
        batch, waiting = s.figures.get("running"), s.figures.get("waiting")
        sent = float(s.load.in_flight) if s.load.sent or batch is None else None
        if batch is None and waiting is None:
            return left, Line(f"{count(sent)}", styles.client)
        names = width >= NAMES_FROM or not width
        style = styles.attention if waiting else styles.server
        parts = (("batch", "█", batch, styles.server), ("wait", "▓", waiting, style))
        right = Line()
        for name, glyph, value, shown in (
            *parts,
            ("outside", "░", outside(sent, batch, waiting), styles.client),
        ):
            part = Line(f"{name} " if names else "", styles.quiet)
            told = count(value)
            part.put(glyph, shown).put(f"{told:>4}" if len(told) < 4 else f" {told}", shown)
            right.put("  " if right.width else "").join(self.entry(name, part))
        return left, right

    def picture(self, s: Snapshot, span: Span | RateSpan, rows: int) -> Picture:
        styles, series = self.rich_styles, s.series
        ours = span.means(series.t_s, series.in_flight)
        batch = span.means(series.t_s, series.running)
        waiting = span.means(series.t_s, series.waiting)
        layers: list[tuple[Values, str, Style]] = [(ours, "█", styles.client)]
        if any(value is not None for value in batch):
            rest = [outside(a, b, c) for a, b, c in zip(ours, batch, waiting, strict=True)]
            told = [(batch, "█", styles.server), (waiting, "▓", styles.attention), (rest, "░", styles.client)]
            layers = [
                layer for name, layer in zip(self.LEGEND, told, strict=True) if not self.hides(name)
            ] or [([None] * span.columns, " ", styles.client)]
        top = self._scale.value
        return Picture(stack(layers, top, rows), ends(rows, brief(top), "0"))

    def one_line(self, s: Snapshot, width: int) -> Line:
        styles = self.rich_styles
        right = self.heading(s, 0)[1]
        line = fitting([(1, Line(" in flight ", styles.quiet)), (0, right)], width)
        return self.with_spark(line, s, s.series.in_flight, self._scale.value, width, styles.client)
