"""The latency table: TTFT, ITL and E2E as the client measures them, and beside that as the server does."""

from __future__ import annotations

from dataclasses import dataclass

from rich.style import Style

from rvtop.contract.snapshot import Dist, ServerHist, Snapshot
from rvtop.ui.draw import Line, fitting
from rvtop.ui.format import MISSING, first_that_fits, sig3
from rvtop.ui.widgets.panel import Panel

COLUMNS = ("p50", "p90", "p99", "phase p99")
SERVER_COLUMNS = ("~p50", "~p99")
#: Cells of the rows' names, of the word SERVER with its gap, and of each column: least and most.
NAMES, WORD, LEAST, MOST = 6, 7, 7, 14
LEAST_NAME = 3  # cells: a column's name is left out where it would be cut shorter


@dataclass(frozen=True, slots=True)
class _Stops:
    """The cell in which each column ends."""

    client: tuple[int, ...]
    server: tuple[int, ...]

    @classmethod
    def of(cls, width: int, told: bool) -> _Stops:
        """For ``width`` cells; ``told``: the server tells figures."""
        least = NAMES + WORD + LEAST * (len(COLUMNS) + len(SERVER_COLUMNS))
        if told and width >= least - 1:
            each = min(MOST, max(LEAST, (width - NAMES - WORD) // (len(COLUMNS) + len(SERVER_COLUMNS))))
        else:
            told, each = False, min(MOST, max(LEAST, (width - NAMES) // len(COLUMNS)))
        client = [NAMES + each * (i + 1) for i in range(len(COLUMNS))]
        server = [client[-1] + WORD + each * (i + 1) for i in range(len(SERVER_COLUMNS) if told else 0)]
        return cls(tuple(stop for stop in client if stop <= width), tuple(server))


class LatencyPanel(Panel):
    TOPIC = "latency"

    def heights(self, s: Snapshot, width: int) -> tuple[int, int]:
        return 2, 4

    def _client_rows(self, s: Snapshot) -> list[tuple[str, Dist, ServerHist | None]]:
        latency = s.latency
        gap = "ICL" if latency.itl_is_chunks else "ITL"
        return [
            ("TTFT", latency.ttft, latency.server_ttft),
            (gap, latency.itl, latency.server_itl),
            ("E2E", latency.e2e, latency.server_e2e),
        ]

    def _stops(self, s: Snapshot, width: int) -> _Stops:
        return _Stops.of(width, any(server is not None for _, _, server in self._client_rows(s)))

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        """The columns' names stand in the rule, above their figures (which begin two cells to the left)."""
        styles, edge, stops = self.rich_styles, self.edge, self._stops(s, width)
        left = Line("ms", styles.client_bold)

        def put(names: tuple[str, ...], stop: int, word: str = "") -> None:
            room = stop - left.width - 4 - len(word)
            if room < LEAST_NAME:
                return  # its figures stand below all the same
            name = first_that_fits(names, room)
            left.put(" " + self.flat * (room - len(name)) + " ", edge)
            left.put(word, styles.server_bold).put(name, styles.quiet)

        for name, stop in zip(COLUMNS, stops.client, strict=False):
            put((name, name.replace("phase ", "ph."), name.split()[0]), stop)
        for name, stop in zip(SERVER_COLUMNS, stops.server, strict=False):
            put((name,), stop, "SERVER " if name == SERVER_COLUMNS[0] else "")
        return left, Line()

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        styles, stops = self.rich_styles, self._stops(s, width)
        lines = []
        for name, d, server in self._client_rows(s):
            line = Line(name, styles.base)
            figures = [sig3(v) for v in (d.p50, d.p90, d.p99, d.phase_p99)]
            self._put(line, figures, stops.client, styles.client)
            # Chunks of several tokens: what the server measures is the gap between tokens all the same.
            kind = "ITL " if name == "ICL" else ""
            estimates = [] if server is None else [server.p50, server.p99]
            told = [f"~{sig3(v)}" if v is not None else MISSING for v in estimates] or [MISSING, MISSING]
            self._put(line, [kind + told[0] if server else told[0], told[1]], stops.server, styles.server)
            lines.append(line)
        return lines[:height]

    def _put(self, line: Line, figures: list[str], stops: tuple[int, ...], style: Style) -> None:
        for text, stop in zip(figures, stops, strict=False):
            if line.width and stop - len(text) <= line.width:  # it would touch the figure before
                text = text.replace(" ", "")
            line.to(stop - len(text)).put(text, style if text != MISSING else self.rich_styles.stale)

    def one_line(self, s: Snapshot, width: int) -> Line:
        styles, parts = self.rich_styles, [(1, Line(" p50/p99 ms  ", self.rich_styles.quiet))]
        ranks = (0, 3, 2)
        for (name, d, _), rank in zip(self._client_rows(s), ranks, strict=True):
            line = Line(name, styles.quiet).put(f" {sig3(d.p50):>5}", styles.client)
            line.put("/", styles.faint).put(f"{sig3(d.p99):<6}", styles.client).put(" ")
            parts.append((rank, line))
        return fitting(parts, width)
