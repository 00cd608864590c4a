"""The latency table: TTFT, ITL and E2E as the client measures them and as the server reports them."""

from __future__ import annotations

from rich.style import Style

from rvtop.contract.snapshot import Dist, ServerHist, Snapshot
from rvtop.ui.draw import Line, fitting
from rvtop.ui.format import first_that_fits, sig3
from rvtop.ui.widgets.panel import Panel

COLUMNS = ("now", "p50", "p90", "p99", "phase p99")
LEAST_NAME = 3  # cells: a column's name is left out where it would be cut shorter


class LatencyPanel(Panel):
    TOPIC = "latency"

    def heights(self, s: Snapshot, width: int) -> tuple[int, int]:
        return 2, 4

    def _client_rows(self, s: Snapshot) -> list[tuple[str, Dist]]:
        gap = "ICL" if s.latency.itl_is_chunks else "ITL"
        return [("TTFT", s.latency.ttft), (gap, s.latency.itl), ("E2E", s.latency.e2e)]

    def _server_rows(self, s: Snapshot) -> list[tuple[str, ServerHist]]:
        rows = (
            ("TTFT", s.latency.server_ttft),
            ("ITL", s.latency.server_itl),
            ("E2E", s.latency.server_e2e),
        )
        return [(name, hist) for name, hist in rows if hist is not None]

    def _stops(self, width: int) -> tuple[int, ...]:
        """The column in which each figure ends."""
        first = 14 if width >= 52 else 6
        step = max(8, (width - first - 1) // 5)
        stops = [first + step * (i + 1) for i in range(5)]
        return tuple(stop for stop in stops if stop <= width)

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        """The columns' names stand in the rule, above their figures (which begin two cells to the left)."""
        styles, edge = self.rich_styles, self.edge
        left = Line("latency, ms", styles.client_bold)
        for name, stop in zip(COLUMNS, self._stops(width), strict=False):
            room = stop - left.width - 5
            if room < LEAST_NAME:
                continue  # its figures stand below all the same
            name = first_that_fits((name, name.replace("phase ", "ph."), name.split()[0]), room)
            gap = room + 1 - len(name)
            left.put(" " + self.flat * gap + " ", edge).put(name, styles.quiet)
        return left, Line()

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        styles, stops = self.rich_styles, self._stops(width)
        lines = []
        for name, d in self._client_rows(s):
            figures = (d.now, d.p50, d.p90, d.p99, d.phase_p99)
            lines.append(self._row(Line(name, styles.base), [sig3(v) for v in figures], stops, styles.client))
        for name, h in self._server_rows(s):
            wide = width >= 52
            label = Line(name, styles.base).to(5).put("SERVER" if wide else "S", styles.server_bold)
            # ``now`` is blank: the server's buckets cover 10 s, not the last second.
            figures_text = [
                "",
                *(f"~{sig3(v)}" if v is not None else "--" for v in (h.p50, h.p90, h.p99)),
                "",
            ]
            lines.append(self._row(label, figures_text, stops, styles.server))
        return lines[:height]

    def _row(self, line: Line, figures: list[str], stops: tuple[int, ...], style: Style) -> Line:
        for text, stop in zip(figures, stops, strict=False):
            line.to(stop - len(text)).put(text, style if text != "--" else self.rich_styles.stale)
        return line

    def one_line(self, s: Snapshot, width: int) -> Line:
        styles, parts = self.rich_styles, [(3, Line(" p50/p99 ms  ", self.rich_styles.quiet))]
        ranks = (2, 0, 1)  # TTFT has a panel of its own
        for (name, d), rank in zip(self._client_rows(s), ranks, strict=True):
            line = Line(name, styles.quiet).put(f"{sig3(d.p50):>6}", styles.client)
            line.put("/", styles.faint).put(f"{sig3(d.p99):<6}", styles.client).put(" ")
            parts.append((rank, line))
        return fitting(parts, width)
