"""The whole of a stored run as a handle: its rate, TTFT p99 and KV usage over time, and where it stands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.style import Style
from textual import events

from rvtop.contract.replay import Replay
from rvtop.contract.snapshot import Event, Snapshot
from rvtop.text import phase_words
from rvtop.ui.draw import UP, Cells, Line, eighths, fitting
from rvtop.ui.format import clip, clock
from rvtop.ui.widgets.panel import MARGINS, Panel

#: Cells at the left for the name of a row.
NAMES = 6
#: Seconds without a point that are a gap in the run, and blank.
GAP_S = 2.5
#: What an event is drawn as, by its kind or level.
SIGNS = {"mark": "◆", "pause": "‖", "error": "✗", "warn": "▾"}


class RecordingPanel(Panel):
    """Click it to go there."""

    TOPIC = "recording"
    PLACE = "bottom"
    GOOD = 5

    def __init__(self, replay: Replay) -> None:
        super().__init__()
        self._replay = replay
        times = replay.series.t_s
        self._first_s = times[0] if times else 0.0
        self._kept_heights: dict[tuple[str, int], list[int]] = {}  # the run's own never change

    def heights(self, s: Snapshot, width: int) -> tuple[int, int]:
        return 2, 5

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        styles, replay = self.rich_styles, self._replay
        right = self._where()
        left = Line("recording", styles.command)
        left.put(" " + clip(replay.folder, max(0, width - left.width - right.width - 8)), styles.quiet)
        return left, right

    def _where(self) -> Line:
        styles, replay = self.rich_styles, self._replay
        sign = "▶" if replay.playing else "‖"
        line = Line(f"{sign} {replay.speed:g}×  ", styles.quiet)
        line.put(clock(replay.position_s), styles.command)
        return line.put(f" / {clock(replay.length_s)}", styles.quiet)

    def column(self, t_s: float, columns: int) -> int:
        """The cell of an instant of the run, of ``columns``."""
        whole = max(1e-9, self._replay.length_s - self._first_s)
        return min(columns - 1, max(0, int((t_s - self._first_s) / whole * columns)))

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        columns = max(1, width - NAMES)
        styles, cursor = self.rich_styles, self.column(self._replay.position_s, columns)
        made = [
            self._row("rate", self._replay.series.target_rps, styles.command, columns, cursor),
            self._row("p99", self._replay.series.ttft_p99_ms, styles.client, columns, cursor),
            self._row("KV", self._replay.series.kv_usage, styles.server, columns, cursor, top=1.0),
        ]
        return [*made[: max(0, height - 1)], self._events_row(columns, cursor)][:height]

    def _row(
        self,
        name: str,
        values: Sequence[float | None],
        style: Style,
        columns: int,
        cursor: int,
        top: float | None = None,
    ) -> Line:
        if (name, columns) not in self._kept_heights:
            self._kept_heights[name, columns] = self._levels(values, columns, top)
        cells = Cells(columns, 1)
        for x, level in enumerate(self._kept_heights[name, columns]):
            cells.set(x, 0, UP[level], style)
        cells.write(cursor, 0, "┃", self.rich_styles.command)
        return Line(f"{name:<{NAMES}}", self.rich_styles.quiet).join(cells.lines()[0])

    def _levels(self, values: Sequence[float | None], columns: int, top: float | None) -> list[int]:
        most: list[float | None] = [None] * columns
        times = self._replay.series.t_s
        for i, (t, value) in enumerate(zip(times, values, strict=True)):
            begin = end = self.column(t, columns)
            if i + 1 < len(times) and times[i + 1] - t < GAP_S:
                end = max(begin, self.column(times[i + 1], columns) - 1)  # a second is several columns wide
            if value is not None:
                for x in range(begin, end + 1):
                    most[x] = max(value, most[x] or 0.0)
        highest = top or max((v for v in most if v is not None), default=0.0)
        return eighths(most, highest or 1.0, 1)

    def _events_row(self, columns: int, cursor: int) -> Line:
        styles = self.rich_styles
        cells = Cells(columns, 1)
        for t, name in self._replay.phases:
            cells.write(self.column(t, columns), 0, "│" + clip(phase_words(name), 12), styles.quiet)
        for event in signed(self._replay.events):
            assert event.t_s is not None
            sign, style = SIGNS.get(event.kind) or SIGNS[event.level], styles.quiet
            if event.kind == "mark":
                style = styles.command
            elif event.level != "info":
                style = styles.trouble if event.level == "error" else styles.attention
            cells.write(self.column(event.t_s, columns), 0, sign, style)
        cells.write(cursor, 0, "┃", styles.command)
        return Line(" " * NAMES).join(cells.lines()[0])

    def one_line(self, s: Snapshot, width: int) -> Line:
        parts = [(0, Line(" ").join(self._where())), (1, Line("  " + clip(self._replay.folder, 60)))]
        return fitting(parts, width)

    async def on_click(self, event: events.Click) -> None:
        columns = max(1, self.size.width - MARGINS - NAMES)
        x = event.x - MARGINS // 2 - NAMES
        if 0 <= x < columns:
            whole = self._replay.length_s - self._first_s
            self._replay.seek(self._first_s + (x + 0.5) / columns * whole)


def signed(found: Iterable[Event]) -> list[Event]:
    """The events that the handle has a sign for, the weighty ones last: they are drawn over the others."""
    weight = {"pause": 0, "warn": 1, "error": 2, "mark": 3}
    shown = [e for e in found if e.t_s is not None and (e.kind in SIGNS or e.level in SIGNS)]
    return sorted(shown, key=lambda e: max(weight.get(e.kind, 0), weight.get(e.level, 0)))
