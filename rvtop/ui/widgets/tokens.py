"""Output tokens a second over time, as the clients count them and as the server does."""

from __future__ import annotations

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.axis import StickyMax, history
from rvtop.ui.draw import Cells, Line, area, eighths, fitting, over
from rvtop.ui.format import sig3
from rvtop.ui.theme import Styles
from rvtop.ui.widgets.panel import Panel

GUTTER = 10  # the vertical axis and its labels


class TokensPanel(Panel):
    TOPIC = "tokens"
    GOOD, CHART = 5, True

    def heights(self, s: Snapshot, width: int) -> tuple[int, int]:
        return 4, 9

    def quiet(self, s: Snapshot) -> bool:
        return not (s.tokens.per_s or s.tokens.server_per_s)

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._scale = StickyMax(least=10.0)

    def observe(self, s: Snapshot) -> None:
        most = 2 * self.window_s
        points = (*s.series.tokens_per_s[-most:], *s.series.server_tokens_per_s[-most:])
        self._scale.follow(max((v for v in points if v is not None), default=0.0))

    def _now(self, s: Snapshot, width: int) -> Line:
        styles, tokens = self.rich_styles, s.tokens
        parts = []
        if tokens.per_s is not None or tokens.total or s.load.sent:
            about = "~" if tokens.estimated and tokens.per_s is not None else ""
            now = Line(f"{about + sig3(tokens.per_s):>7}", styles.client_bold).put(" now", styles.quiet)
            most = Line("  max ", styles.quiet).put(f"{sig3(tokens.max_per_s):>7}", styles.client)
            parts += [(0, now), (2, most)]
        if tokens.server_per_s is not None:
            server = Line("  " if parts else "").put("SERVER", styles.server_bold)
            parts.append((1, server.put(f"{sig3(tokens.server_per_s):>8}", styles.server)))
        return fitting(parts, width)

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        styles = self.rich_styles
        left = Line("tokens/s", styles.client_bold)
        if s.series.t_s and width >= 70:
            left.put(f" · {self.window_s // 60} min", styles.quiet)
        return left, self._now(s, width - left.width - 3)

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        series = s.series
        newest = (series.t_s[-1:], series.tokens_per_s[-1:], series.server_tokens_per_s[-1:])
        key = (newest, width, height, self._scale.value, self.window_s)
        return self.once(key, lambda: self._chart(s, width, height))

    def _chart(self, s: Snapshot, width: int, height: int) -> list[Line]:
        styles, columns = self.rich_styles, width - GUTTER
        ours = history(s.series.t_s, s.series.tokens_per_s, columns, self.window_s)
        theirs = history(s.series.t_s, s.series.server_tokens_per_s, columns, self.window_s)
        top = self._scale.value
        heights, levels = eighths(ours, top, height), eighths(theirs, top, height)
        alone = not any(heights)  # no load of ours: the server's own figure is the area
        cells = Cells(columns, height)
        shown, style = (levels, styles.server) if alone else (heights, styles.client)
        for y, line in enumerate(area(shown, height, style)):
            cells.write(0, y, line.text, style)
        if not alone:
            over(cells, heights, levels, styles.server, styles.server_on_client)
        return gutter(cells.lines(), self.rich_styles, sig3(self._scale.value), "0")

    def one_line(self, s: Snapshot, width: int) -> Line:
        styles = self.rich_styles
        line = Line(" tokens/s ", styles.quiet)
        line.join(self._now(s, width - line.width)).put("  ")
        room = min(60, width - line.width - 1)
        if room >= 8:
            ours = history(s.series.t_s, s.series.tokens_per_s, room, span_s=60)
            line.join(area(eighths(ours, self._scale.value, 1), 1, styles.client)[0])
        return line


def gutter(lines: list[Line], styles: Styles, high: str, low: str) -> list[Line]:
    """Chart rows behind a vertical axis with a label at its upper and its lower end."""
    quiet, faint = styles.quiet, styles.faint
    made = []
    for y, line in enumerate(lines):
        label = high if y == 0 else low if y == len(lines) - 1 else ""
        sign = "┤" if label else "│"
        made.append(Line(f"{label:>8} ", quiet).put(sign, faint).join(line))
    return made
