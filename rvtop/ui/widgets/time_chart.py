"""A chart over time. All of them share window, columns, marks and cursor, so that a column is one instant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from rich.style import Style
from textual import events

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.bands import Values
from rvtop.ui.dashes import put_dash
from rvtop.ui.draw import Cells, Line, area, eighths
from rvtop.ui.format import clip
from rvtop.ui.rate_span import RateSpan
from rvtop.ui.span import PREEMPTED, Span, signs
from rvtop.ui.theme import Styles
from rvtop.ui.widgets.panel import MARGINS, Panel

GUTTER = 5  # the vertical axis and its labels
SPARK, SPARK_SHARE = 52, 0.3  # cells of the small chart in a panel's one line, at most, and of the line


@dataclass(slots=True)
class Picture:
    """A chart's cells, and the labels of its rows."""

    cells: Cells
    labels: Mapping[int, str] = field(default_factory=dict)
    label_styles: Mapping[int, Style] = field(default_factory=dict)  # of those that are not quiet


class TimeChart(Panel):
    """``picture`` draws the columns; what happened when, and the cursor, are put over it here."""

    GOOD, CHART = 5, True
    NAMES_MARKS = False  # whether marks have their text beside them

    def picture(self, s: Snapshot, span: Span | RateSpan, rows: int) -> Picture:
        """The chart without what all charts have. ``span`` says what stands in which column."""
        raise NotImplementedError

    def by_rate(self) -> bool:
        """Whether it is drawn against the rate instead of time."""
        return self.view.by_rate

    def depends(self, s: Snapshot) -> tuple[object, ...]:
        """What the picture depends on besides series, events and size."""
        return ()

    def says(self, s: Snapshot) -> tuple[object, ...]:
        """What its heading or its one line says besides series, events and ``depends``."""
        return ()

    def draws(self, s: Snapshot) -> tuple[object, ...] | None:
        return (s.series, s.events, self.view.window(s), *self.depends(s), *self.says(s))

    def heights(self, s: Snapshot, width: int) -> tuple[int, int]:
        return 4, 9

    def redraw(self) -> None:
        """Draws again what the view has changed: scales follow the window."""
        if self.snapshot is not None:
            self.show(self.snapshot)

    def second_at(self, x: int) -> float | None:
        """The second that cell ``x`` of the panel shows; None beside the chart, and against the rate."""
        s, columns = self.snapshot, self.size.width - MARGINS - GUTTER
        column = x - MARGINS // 2 - GUTTER
        if s is None or not s.series.t_s or self.by_rate() or not 0 <= column < columns:
            return None
        return Span.of(s.series.t_s, columns, self.view.window(s)).begin_s(column)

    async def on_click(self, event: events.Click) -> None:
        """Freezes at that second; a click on the rule only chooses the panel."""
        t_s = self.second_at(event.x)
        if event.y >= 1 and t_s is not None:
            await self.run_action(f"screen.go_to({t_s})")

    async def on_mouse_scroll_up(self) -> None:
        await self.run_action("screen.window(-1)")

    async def on_mouse_scroll_down(self) -> None:
        await self.run_action("screen.window(1)")

    def window_label(self, s: Snapshot) -> Line:
        """`` · 2 min``, or what stands there instead of time."""
        if self.by_rate():
            return Line(" · by rate", self.rich_styles.quiet)
        return Line(f" · {self.view.window(s) // 60} min", self.rich_styles.quiet)

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        window = self.view.window(s)
        view = self.view
        shown = (s.series, s.events[-1:], width, height, window, view.cursor_s, view.ghost, self.by_rate())
        hidden = tuple(self.hides(entry) for entry in self.LEGEND)
        key = (*shown, hidden, *self.depends(s))
        return self.once(key, lambda: self._drawn(s, width, height, window))

    def _drawn(self, s: Snapshot, width: int, height: int, window: int) -> list[Line]:
        columns = width - GUTTER
        if columns < 1 or height < 1:
            return []
        rates = RateSpan.of(s.series, columns) if self.by_rate() and height > 1 else None
        if rates is not None:
            picture = self.picture(s, rates, height - 1)
            return [*framed(picture, self.rich_styles), self._rates(rates)]
        span = Span.of(s.series.t_s, columns, window)
        picture = self.picture(s, span, height)
        self._put_signs(picture.cells, s, span)
        if self.view.cursor_s is not None:
            put_cursor(picture.cells, span.column(self.view.cursor_s), self.rich_styles)
        return framed(picture, self.rich_styles)

    def _rates(self, rates: RateSpan) -> Line:
        return Line(" " * GUTTER).put(rates.labels(), self.rich_styles.quiet)

    def _put_signs(self, cells: Cells, s: Snapshot, span: Span) -> None:
        styles = self.rich_styles
        found = signs(s.events, s.series, span)
        for x, (sign, _) in found.items():
            if sign == PREEMPTED:
                cells.set(x, 0, sign, styles.attention)
                continue
            for y in range(1, cells.height):
                if cells.chars[y][x] in " ┈╌" and cells.styles[y][x] is not styles.ghost_on_client:
                    cells.set(x, y, "╎", styles.quiet)
            cells.set(x, 0, sign, styles.command if sign == "◆" else styles.quiet)
        if self.NAMES_MARKS:
            for x, (_, text) in found.items():
                end = min((other for other in found if other > x), default=cells.width)
                put_text(cells, x + 1, end, text, styles.quiet)

    def with_spark(
        self, line: Line, s: Snapshot, values: Values, top: float, width: int, style: Style
    ) -> Line:
        """A panel's one line with the window as a row of columns at its end, if there is room for it; charts
        below each other have the same columns."""
        columns = min(SPARK, int(width * SPARK_SHARE))
        begin = width - 1 - columns
        if columns < 8 or line.width > begin - 2:
            return line
        span = Span.of(s.series.t_s, columns, self.view.window(s))
        return line.to(begin).join(area(eighths(span.means(s.series.t_s, values), top, 1), 1, style)[0])

    def put_ghost(
        self,
        cells: Cells,
        s: Snapshot,
        span: Span | RateSpan,
        figure: str,
        heights: Callable[[Values], list[int]],
    ) -> None:
        """The ghost's ``figure`` as dashes; ``heights`` puts it on the chart's own scale."""
        if self.view.ghost is not None and isinstance(span, Span):
            levels = heights(self.view.ghost.values(s, span, figure))
            for x, level in enumerate(levels):
                if level:
                    put_dash(cells, x, cells.height - 1 - (level - 1) // 8, self.rich_styles)


def put_text(cells: Cells, begin: int, end: int, text: str, style: Style) -> None:
    """Writes ``text`` into the first row's blank cells from ``begin`` on, cut to what is blank before
    ``end``; nothing where that is next to nothing."""
    room = 0
    while begin + room < end - 1 and cells.chars[0][begin + room] in " ┈":
        room += 1
    if room >= min(4, len(text)):
        cells.write(begin, 0, clip(text, room), style)


def put_cursor(cells: Cells, x: int | None, styles: Styles) -> None:
    """The cursor through all rows of its column."""
    if x is not None:
        for y in range(cells.height):
            cells.set(x, y, "┃", styles.command)


def framed(picture: Picture, styles: Styles) -> list[Line]:
    """The rows behind the vertical axis with their labels, of at most ``GUTTER`` - 1 cells."""
    made = []
    for y, line in enumerate(picture.cells.lines()):
        label = picture.labels.get(y, "")
        style = picture.label_styles.get(y, styles.quiet)
        axis = Line(f"{label:>{GUTTER - 1}}"[: GUTTER - 1], style)
        made.append(axis.put("┤" if label else "│", styles.faint).join(line))
    return made


def ends(rows: int, high: str, low: str) -> dict[int, str]:
    """The labels of a chart's first and last row; in one row alone the upper one."""
    return {rows - 1: low, 0: high}


def highest(*values: Values) -> float:
    """The largest of what is known; 0 of nothing."""
    return max((v for each in values for v in each if v is not None), default=0.0)
