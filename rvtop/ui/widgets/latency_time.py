"""TTFT over time: its median and its tail, with the limit that was asked for."""

from __future__ import annotations

from rich.style import Style

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.axis import nice
from rvtop.ui.bands import Values, bands, log_eighths
from rvtop.ui.draw import Line, fitting
from rvtop.ui.format import sig3
from rvtop.ui.leading import leading
from rvtop.ui.rate_span import RateSpan
from rvtop.ui.span import Span
from rvtop.ui.widgets.time_chart import Picture, TimeChart, ends, highest

#: The SLO widens the axis up to so many times the slowest, or down to that part of the fastest.
SLO_NEAR = 5.0


def log_ends(p50: Values, p99: Values, slo: float | None) -> tuple[float, float]:
    """The ends of the log axis, ms: 1, 2 or 5 times a power of ten, at least a factor of five apart."""
    known = [v for values in (p50, p99) for v in values if v]
    low, high = min(known, default=10.0), max(known, default=100.0)
    if slo is not None and low / SLO_NEAR <= slo <= high * SLO_NEAR:
        low, high = min(low, slo), max(high, slo)
    low = nice(max(low, 1e-3) / 1.5, up=False)  # so that the fastest has some height
    return low, nice(max(high, 5 * low), up=True)


class LatencyTimePanel(TimeChart):
    TOPIC = "latency_time"
    PLACE = "left"
    NAMES_MARKS = True
    LEGEND = ("p50", "p99")

    def wants(self, s: Snapshot) -> bool:
        return s.load.sent > 0

    def quiet(self, s: Snapshot) -> bool:
        return not leading(s).figures.count

    def depends(self, s: Snapshot) -> tuple[object, ...]:
        return (leading(s).slo_ms,)

    def says(self, s: Snapshot) -> tuple[object, ...]:
        figures = leading(s).figures
        return sig3(figures.p50), sig3(figures.p99)

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        styles, shown = self.rich_styles, leading(s)
        d, left = shown.figures, Line(shown.name, styles.client_bold)
        if width >= 50:
            left.join(self.window_label(s))
        p50 = Line("p50 ", styles.quiet).put("█", styles.client).put(f" {sig3(d.p50):>5}", styles.client)
        p99 = Line("p99 ", styles.quiet).put("▒", styles.client).put(f" {sig3(d.p99):>5}", styles.client)
        right = self.entry("p50", p50).put("  ", styles.quiet).join(self.entry("p99", p99))
        return left, right.put(" ms", styles.quiet)

    def picture(self, s: Snapshot, span: Span | RateSpan, rows: int) -> Picture:
        styles, series, shown = self.rich_styles, s.series, leading(s)
        p50 = span.means(series.t_s, getattr(series, shown.p50))
        p99 = span.means(series.t_s, getattr(series, shown.p99))
        ghost = self.view.ghost
        before = [] if ghost is None else [ghost.level(shown.p50), ghost.level(shown.p99)]
        low, high = log_ends([*p50, *before], p99, shown.slo_ms)
        nothing: list[int] = [0] * span.columns
        front = nothing if self.hides("p50") else log_eighths(p50, low, high, rows)
        behind = nothing if self.hides("p99") else log_eighths(p99, low, high, rows)
        cells = bands(front, behind, rows, style=styles.client, on_tail=styles.client_on_shade)
        labels, label_styles = ends(rows, short_ms(high), short_ms(low)), dict[int, Style]()
        for figure in (shown.p50, shown.p99):
            if not self.hides(figure.split("_")[1]):
                self.put_ghost(cells, s, span, figure, lambda values: log_eighths(values, low, high, rows))
        if shown.slo_ms is not None and low < shown.slo_ms <= high:
            y = rows - max(1, -(-log_eighths([shown.slo_ms], low, high, rows)[0] // 8))
            for x in range(span.columns):
                if cells.chars[y][x] == " " or cells.styles[y][x] is styles.ghost:
                    cells.set(x, y, "┈", styles.attention)
            labels[y] = "SLO"
            label_styles[y] = self.clicks(styles.quiet, "SLO: set")
        return Picture(cells, labels, label_styles)

    def one_line(self, s: Snapshot, width: int) -> Line:
        styles, shown = self.rich_styles, leading(s)
        right = self.heading(s, 0)[1]
        line = fitting([(1, Line(f" {shown.name} ", styles.quiet)), (0, right)], width)
        values = getattr(s.series, shown.p50)
        return self.with_spark(line, s, values, highest(values), width, styles.client)


def short_ms(ms: float) -> str:
    """A round latency in at most four cells: ``50``, ``500``, ``2 s``, ``100s``, ``2ks``, ``0.5``."""
    if ms < 1000:
        return f"{ms:g}"
    text = f"{ms / 1000:g} s"
    if len(text) <= 4:
        return text
    return f"{ms / 1000:g}s" if ms < 1e6 else f"{ms / 1e6:g}ks"
