"""Output tokens a second over time, as the clients count them and, where they differ, as the server does."""

from __future__ import annotations

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.axis import StickyMax
from rvtop.ui.bands import differing
from rvtop.ui.draw import Cells, Line, area, eighths, fitting, over
from rvtop.ui.format import brief, sig3
from rvtop.ui.rate_span import RateSpan
from rvtop.ui.span import Span
from rvtop.ui.widgets.time_chart import Picture, TimeChart, ends, highest


class TokensPanel(TimeChart):
    TOPIC = "tokens"
    PLACE = "left"
    LEGEND = ("server",)

    def quiet(self, s: Snapshot) -> bool:
        return not (s.tokens.per_s or s.tokens.server_per_s)

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._scale = StickyMax(least=10.0)

    def depends(self, s: Snapshot) -> tuple[object, ...]:
        return (self._scale.value,)

    def says(self, s: Snapshot) -> tuple[object, ...]:
        told = s.tokens
        any_ = bool(told.total or s.load.sent)
        return told.per_s, told.max_per_s, told.server_per_s, told.estimated, any_

    def observe(self, s: Snapshot) -> None:
        most = self.view.window(s)
        before = [self.view.ghost.level("tokens_per_s")] if self.view.ghost is not None else []
        ours, theirs = s.series.tokens_per_s[-most:], s.series.server_tokens_per_s[-most:]
        self._scale.follow(highest(ours, theirs, before))

    def _now(self, s: Snapshot, width: int) -> Line:
        styles, tokens = self.rich_styles, s.tokens
        parts = []
        if tokens.per_s is not None or tokens.total or s.load.sent:
            about = "~" if tokens.estimated and tokens.per_s is not None else ""
            now = Line(f"{about + sig3(tokens.per_s):>7}", styles.client_bold).put(" now", styles.quiet)
            most = Line("  max ", styles.quiet).put(f"{sig3(tokens.max_per_s):>7}", styles.client)
            parts += [(0, now), (2, most)]
        if tokens.server_per_s is not None:
            server = Line("SERVER", styles.server_bold)
            server.put(f"{sig3(tokens.server_per_s):>8}", styles.server)
            parts.append((1, Line("  " if parts else "").join(self.entry("server", server))))
        return fitting(parts, width)

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        left = Line("tokens/s", self.rich_styles.client_bold)
        if width >= 50:
            left.join(self.window_label(s))
        return left, self._now(s, width - left.width - 3)

    def picture(self, s: Snapshot, span: Span | RateSpan, rows: int) -> Picture:
        styles, series, top = self.rich_styles, s.series, self._scale.value
        heights = eighths(span.means(series.t_s, series.tokens_per_s), top, rows)
        alone = not any(heights)  # no load of ours: the server's own figure is the area
        if alone:
            heights = eighths(span.means(series.t_s, series.server_tokens_per_s), top, rows)
        cells = Cells(span.columns, rows)
        style = styles.server if alone else styles.client
        for y, line in enumerate(area(heights, rows, style)):
            cells.write(0, y, line.text, style)
        if not alone and not self.hides("server"):
            theirs = span.means(series.t_s, differing(series.tokens_per_s, series.server_tokens_per_s))
            over(cells, heights, eighths(theirs, top, rows), styles.server, styles.server_on_client)
        self.put_ghost(cells, s, span, "tokens_per_s", lambda values: eighths(values, top, rows))
        return Picture(cells, ends(rows, brief(top), "0"))

    def one_line(self, s: Snapshot, width: int) -> Line:
        styles = self.rich_styles
        line = Line(" tokens/s ", styles.quiet)
        line.join(self._now(s, width - line.width))
        return self.with_spark(line, s, s.series.tokens_per_s, self._scale.value, width, styles.client)
