"""The TTFT histogram: the last 10 s over the phase so far, on a log axis that keeps its ends."""

from __future__ import annotations

from rich.style import Style

from rvtop.contract.snapshot import OVER, ServerHist, Snapshot
from rvtop.stats.distribution import EMPTY, Distribution
from rvtop.ui.axis import LogAxis, StickyMax
from rvtop.ui.bands import bands
from rvtop.ui.columns import client_columns, server_bounds, server_columns, shares
from rvtop.ui.draw import Cells, Line, eighths, fitting
from rvtop.ui.format import age, count, sig3, tick
from rvtop.ui.histogram_cells import DOT, DOTS_BELOW, Layers
from rvtop.ui.leading import leading
from rvtop.ui.shell import may_steer, shell_of
from rvtop.ui.widgets.panel import Panel

#: Seconds after the axis moved in which the title says so.
SAY_MOVED_S = 3.0
#: From so many rows below its rule on (zoomed) the panel says its percentiles in figures.
PERCENTILES_FROM = 24


def extent(h: Distribution) -> tuple[float, float]:
    """What the axis must hold, ms: all of a few requests, all but the outermost 0.5 % of many."""
    if h.count < 200:
        return h.min_ns / 1e6, h.max_ns / 1e6
    return h.percentile(0.5) / 1e6, h.percentile(99.5) / 1e6


class TtftPanel(Panel):
    TOPIC = "ttft"
    GOOD, CHART = 9, True
    LEGEND = ("now", "phase")

    def heights(self, s: Snapshot, width: int) -> tuple[int, int]:
        return 5, 16

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.axis = LogAxis()
        self._peak = StickyMax(least=1.0)
        self._phase: tuple[int, str] | None = None
        self._moved_at = -SAY_MOVED_S

    # -- following the data ------------------------------------------------------------------

    def server(self, s: Snapshot) -> ServerHist | None:
        """The server's own histogram where it is all there is: we have sent nothing yet, others have."""
        shown = leading(s)
        if shown.recent.count or shown.phase.count:
            return None
        told = s.latency.server_ttft
        return told if told is not None and told.count else None

    def observe(self, s: Snapshot) -> None:
        phase = (s.phase.index, s.phase.name) if s.phase else None
        if phase != self._phase:
            self._phase = phase
            self.axis.refit()
        shown = leading(s)
        drawn = (shown.recent, shown.phase, self._ghost())
        spans = [extent(h) for h in drawn if h is not None and h.count]
        server = self.server(s)
        if server is not None:
            spans = [(low, high) for low, high, _ in server_bounds(server)]
        if not spans:
            return
        low, high = min(a for a, _ in spans), max(b for _, b in spans)
        if self.axis.include(low, high, s.t_s):
            self._moved_at = s.t_s

    # -- frame -------------------------------------------------------------------------------

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        styles, right = self.rich_styles, Line()
        server, shown = self.server(s), leading(s)
        if server is not None:
            left = Line("TTFT", styles.server_bold).put(" · ", styles.quiet)
            left.put("SERVER", styles.server_bold).put(" last 10 s ", styles.quiet).put("█", styles.server)
            if width >= 50:
                left.put("  estimate from its buckets", styles.quiet)
            n = server.count
        else:
            now = Line("last 10 s ", styles.quiet)
            now.put(DOT if 0 < shown.recent.count < DOTS_BELOW else "█", styles.client)
            left = Line(shown.name, styles.client_bold).put(" · ", styles.quiet).join(self.entry("now", now))
            phase = Line("phase ", styles.quiet).put("▒", styles.client)
            left.put("  ", styles.quiet).join(self.entry("phase", phase))
            if self.view.ghost is not None:
                hide = "ghost: show, hide"
                left.put("  ", styles.quiet).put(
                    f"{self.view.ghost.name(s)} ", self.clicks(styles.quiet, hide)
                )
                left.put("╌", self.clicks(styles.ghost, hide))
            n = float(shown.recent.count)
        since = s.t_s - self._moved_at
        if s.target_down_s is not None:
            right.put(f"STALE {age(s.target_down_s)}", styles.attention)
        elif 0 <= since < SAY_MOVED_S and s.state not in OVER:
            style = styles.strong if since < SAY_MOVED_S / 2 else styles.quiet
            right.put(f"axis now to {tick(self.axis.high)}", style)
        elif n:
            right.put(f"{count(n)} requests", styles.quiet)
        return left, right

    # -- content -----------------------------------------------------------------------------

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        server, shown = self.server(s), leading(s)
        if server is None and not (shown.recent.count or shown.phase.count):
            return self._empty(s, width, height)
        figures = height >= PERCENTILES_FROM  # else they stand in the table below
        plot = max(1, height - 2 - figures)
        styles, told = self.rich_styles, server or shown.figures
        if server is not None:
            columns = shares(server_columns(server, self.axis, width))
            top = self._top(max(columns, default=0.0), width)
            cells = bands(eighths(columns, top, plot), [0] * width, plot, style=styles.server)
            prefix, bold = "~", styles.server_bold
        else:
            recent = EMPTY if self.hides("now") else shown.recent
            phase = EMPTY if self.hides("phase") else shown.phase
            layers = Layers.of(recent, phase, self._ghost(), self.axis, width, plot)
            cells = layers.cells(self._top(layers.highest, width), plot, styles)
            self._beyond(cells, shown.recent)
            prefix, bold = "", styles.client_bold
        marks = [(f"p{q}", getattr(told, f"p{q}")) for q in (50, 90, 99)]
        self._limit(cells, shown.slo_ms)
        lines = [*cells.lines(), self._rule(width, [ms for _, ms in marks], bold), self._labels(width)]
        if figures:
            lines.append(self._percentiles(width, marks, prefix, bold))
        return lines

    def _ghost(self) -> Distribution | None:
        ghost = self.view.ghost
        return leading(ghost.snapshot).recent if ghost is not None else None

    def _top(self, highest: float, width: int) -> float:
        # As a density, so that the same distribution keeps its height when the panel grows wider.
        wide = max(1, width)
        return self._peak.follow(wide * highest) / wide

    def _beyond(self, cells: Cells, h: Distribution) -> None:
        """How many are slower than the axis reaches."""
        beyond = h.count and round(sum(client_columns(h, LogAxis(self.axis.high, self.axis.high * 1e4), 1)))
        if beyond and cells.height >= 3:
            text = f"{beyond} slower ▸"
            cells.write(cells.width - len(text), 1, text, self.rich_styles.quiet)

    def _limit(self, cells: Cells, slo: float | None) -> None:
        """The SLO, where no column is drawn; at the axis' end where it lies beyond it."""
        if slo is None:
            return
        styles = self.rich_styles
        x, label = self.axis.column(slo, cells.width), f"SLO {sig3(slo)}"
        style = self.clicks(styles.attention, "SLO: set")
        if x < 0 or x >= cells.width:
            text = f"◂ {label}" if x < 0 else f"{label} ▸"
            cells.write(0 if x < 0 else cells.width - len(text), 0, text, style)
            return
        for y in range(cells.height):
            if cells.chars[y][x] == " ":
                cells.set(x, y, "┊", style)
        fits_right = x + 2 + len(label) <= cells.width
        cells.write(x + 2 if fits_right else x - 1 - len(label), 0, label, style)

    def _rule(self, width: int, marks: list[float | None], bold: Style) -> Line:
        cells = Cells(width, 1)
        cells.write(0, 0, "─" * width, self.rich_styles.frame)
        for column, _ in self.axis.ticks(width):
            cells.set(column, 0, "┬", self.rich_styles.faint)
        for ms in marks:
            if ms is not None:
                cells.set(min(max(0, self.axis.column(ms, width)), width - 1), 0, "▲", bold)
        return cells.lines()[0]

    def _labels(self, width: int) -> Line:
        line = Line()
        for column, label in self.axis.ticks(width):
            line.to(column).put(label, self.rich_styles.quiet)
        return line

    def _percentiles(
        self, width: int, marks: list[tuple[str, float | None]], prefix: str, bold: Style
    ) -> Line:
        """The percentiles as text, each as close to its mark as its neighbours allow."""
        marks = list(marks)
        texts = [(name, f"{prefix if ms is not None else ''}{sig3(ms)}") for name, ms in marks]
        while len(texts) > 1 and sum(len(name) + len(text) + 3 for name, text in texts) + 1 > width:
            dropped = len(texts) // 2  # p90, then p99
            del texts[dropped], marks[dropped]
        sizes = [len(name) + 1 + len(text) for name, text in texts]
        places: list[int] = []
        for (_, ms), size in zip(marks, sizes, strict=True):
            wanted = 0 if ms is None else self.axis.column(ms, width) - size // 2
            least = places[-1] + sizes[len(places) - 1] + 2 if places else 0
            places.append(max(least, wanted))
        unit = " ms"
        limit = width - len(unit)
        for i in range(len(places) - 1, -1, -1):
            places[i] = max(0, min(places[i], limit - sizes[i]))
            limit = places[i] - 2
        line = Line()
        for place, (name, text) in zip(places, texts, strict=True):
            line.to(place).put(name + " ", self.rich_styles.quiet).put(text, bold)
        return line.put(unit, self.rich_styles.quiet)

    def _empty(self, s: Snapshot, width: int, height: int) -> list[Line]:
        styles = self.rich_styles
        if s.state == "watching":
            texts = ["Watching: no load of ours yet."]
            if may_steer(shell_of(self)):
                texts.append("↑ sends one request a second, g sets a rate.")
        elif s.state in ("running", "draining"):
            texts = ["No first token yet."]
        else:
            texts = ["No requests."]
        lines = [Line()] * max(0, (height - len(texts)) // 2)
        for i, text in enumerate(texts):
            lines.append(
                Line(" " * max(0, (width - len(text)) // 2)).put(
                    text, styles.base if i == 0 else styles.quiet
                )
            )
        return lines

    def one_line(self, s: Snapshot, width: int) -> Line:
        shown, styles = leading(s), self.rich_styles
        d, parts = shown.figures, [(0, Line(f" {shown.name}", styles.quiet))]
        for name, rank in (("p50", 1), ("p90", 4), ("p99", 3)):
            figure = Line(f"  {name}", styles.quiet).put(f"{sig3(getattr(d, name)):>7}", styles.client)
            parts.append((rank, figure))
        return fitting([*parts, (2, Line(" ms", styles.quiet))], width)
