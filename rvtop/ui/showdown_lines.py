"""The lines of a showdown: a row a topology with its TTFT histogram, figures and their change. All pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rvtop.contract.showdown import COMPARED, HEADS, Score, Showdown
from rvtop.contract.snapshot import OVER, Snapshot, StartStep
from rvtop.results.compare import CENSORED, NOT_SIGNIFICANT
from rvtop.stats.distribution import EMPTY, Distribution
from rvtop.text import phase_words
from rvtop.ui.axis import LogAxis
from rvtop.ui.columns import client_columns, shares
from rvtop.ui.draw import UP, Cells, Line, bar, eighths
from rvtop.ui.format import MISSING, clip, clock, fixed, sig3
from rvtop.ui.theme import Styles

#: Lines that a row takes at most, and the widest histogram, cells.
MOST_LINES, MOST_CHART = 8, 100
_GAP_FROM = 4  # from this many lines on the last one keeps the rows apart
LEAST_CHART = 20
_MOST_NAME = 18
#: From so many cells of width on the names' column holds ``start 00:38`` whole.
_SAYS_FROM, _START = 100, 14
#: From this ratio on a change is told as a multiple.
_TIMES = 10.0
_BAR = 14
_BARS_FROM = 150  # cells of width
GLYPHS = {"wait": "·", "run": "▶", "done": "✓", "failed": "✗", "skipped": "-"}


@dataclass(frozen=True, slots=True)
class Column:
    """A figure's column. Those of the highest rank go first where there is no room."""

    key: str
    head: str
    width: int
    rank: int
    unit: str = ""


COLUMNS = (
    Column("ttft_ms", HEADS["ttft_ms"], 10, 0),
    Column("latency_avg_ms", HEADS["latency_avg_ms"], 16, 3),
    Column("latency_total_s", HEADS["latency_total_s"], 17, 4),
    Column("tps", HEADS["tps"], 10, 1),
    Column("completed_pct", "completed", 11, 2, " %"),
)


@dataclass(frozen=True, slots=True)
class Places:
    """How a row is laid out: cells of the name, of the histogram (0: none) and of each bar, and the
    columns."""

    name: int
    chart: int
    bar: int
    columns: tuple[Column, ...]


def places_for(scores: Sequence[Score], width: int) -> Places:
    """The layout for rows of ``width`` cells: columns give way to the histogram, down to two; where it
    does not fit even then, it goes, and as many columns stay as have room."""
    said = _MOST_NAME if any(score.repeats > 1 for score in scores) else _START
    least = said if width >= _SAYS_FROM else 0
    name = min(_MOST_NAME, max(least, max((len(score.name) for score in scores), default=0) + 3))
    bars = _BAR if width >= _BARS_FROM else 0
    columns = list(COLUMNS)
    room = width - name - 2 * bars

    def left() -> int:
        return room - sum(column.width for column in columns)

    while left() < LEAST_CHART and len(columns) > 2:
        columns.remove(max(columns, key=lambda column: column.rank))
    if left() >= LEAST_CHART:
        return Places(name, min(MOST_CHART, left()), bars, tuple(columns))
    columns = list(COLUMNS)
    while left() < 0 and len(columns) > 1:
        columns.remove(max(columns, key=lambda column: column.rank))
    return Places(name, 0, bars, tuple(columns))


def ttft_now(s: Snapshot, score: Score) -> Distribution:
    """What is drawn of a row: of the one that runs its phase so far, where it has any."""
    if score.state == "run" and s.latency.ttft_phase.count:
        return s.latency.ttft_phase
    return score.ttft


def span(s: Snapshot, scores: Sequence[Score]) -> tuple[float, float] | None:
    """What the common axis must hold, ms; None where nothing was measured yet."""
    told = [found for score in scores if (found := ttft_now(s, score)).count]
    if not told:
        return None
    return min(h.percentile(0.5) for h in told) / 1e6, max(h.percentile(99.5) for h in told) / 1e6


def showdown_lines(s: Snapshot, styles: Styles, axis: LogAxis, width: int, height: int) -> list[Line]:
    """All rows in at most ``height`` lines of ``width`` cells, below the axis and the heads."""
    show = s.showdown
    if show is None or height < 1:
        return []
    places = places_for(show.scores, width)
    lines = [_heads(s, styles, axis, places)] if height > 1 else []
    room = height - len(lines)
    each = max(1, min(MOST_LINES, room // max(1, len(show.scores))))
    first, count = _window(show.scores, room // each)
    reference = next((score for score in show.scores if score.name == show.reference), None)
    nearest = next((score.name for score in show.scores if score.state == "wait"), "")
    for score in show.scores[first : first + count]:
        row = _Row(s, show, score, reference, styles, axis, places, score.name == nearest)
        lines += row.lines(each)
    return [line.cut(width) for line in lines][:height]


def _window(scores: Sequence[Score], room: int) -> tuple[int, int]:
    """The first row that is shown and how many: all, or those up to the one that runs."""
    count = max(1, min(room, len(scores)))
    at = next((index for index, score in enumerate(scores) if score.state == "run"), 0)
    return min(max(0, at - count + 1), len(scores) - count), count


def _heads(s: Snapshot, styles: Styles, axis: LogAxis, places: Places) -> Line:
    line = Line(fixed("TTFT" if places.chart else "", places.name), styles.quiet)
    if places.chart:
        cells = Cells(places.chart, 1)
        mark = "┊SLO" if s.slo_ttft_ms is not None else ""
        slo = axis.column(s.slo_ttft_ms or 0.0, places.chart)
        slo, mark = (slo, mark) if slo + len(mark) <= places.chart else (slo - 3, mark and "SLO┊")
        for at, label in axis.ticks(places.chart):
            if not mark or at + len(label) < slo or at > slo + len(mark):
                cells.write(at, 0, label, styles.quiet)
        cells.write(slo, 0, mark, styles.attention)
        line.join(cells.lines()[0])
    for column in places.columns:
        line.put(f"{column.head:>{column.width}}", styles.quiet)
        if column.key in ("ttft_ms", "tps") and places.bar:
            line.put(" " * places.bar)
    return line


@dataclass(frozen=True)
class _Row:
    s: Snapshot
    show: Showdown
    score: Score
    reference: Score | None
    styles: Styles
    axis: LogAxis
    places: Places
    nearest: bool  # it is run next

    def lines(self, count: int) -> list[Line]:
        charts = self._chart(count if count < _GAP_FROM else count - 1)
        charts += [Line()] * (count - len(charts))
        return [self._line(number, count, charts[number]) for number in range(count)]

    def _line(self, number: int, count: int, chart: Line) -> Line:
        score, styles, places = self.score, self.styles, self.places
        line = Line()
        if number == 0:
            style = {"run": styles.command, "failed": styles.trouble, "wait": styles.stale}.get(score.state)
            line.put(f"{GLYPHS.get(score.state, '·')} ", style or styles.server)
            line.put(
                clip(score.name, places.name - 3), styles.strong if score.state != "wait" else styles.stale
            )
        elif number == 1:
            text = self._said()
            style = styles.trouble if score.state == "failed" else styles.quiet
            if self._speaks:
                return line.put(clip(f"  {text}", sum(c.width for c in places.columns) + places.chart), style)
            line.put(clip(f"  {text}", places.name - 1), style)
        elif number == 2 and score.name == self.show.reference and score.start_s is not None:
            line.put(clip(f"  start {clock(score.start_s)}", places.name - 1), styles.quiet)
        line.to(places.name).join(chart)
        if number == 0:
            return line.join(self._figures(count == 1))
        if number == 1:
            return line.join(self._second())
        return line.join(self._ranges()) if number == 2 else line

    @property
    def _speaks(self) -> bool:
        """Whether the second line is text alone."""
        if self.score.state == "failed":
            return True
        return not self.score.repeats and not ttft_now(self.s, self.score).count

    def _said(self) -> str:
        """What the second line says of the row's state."""
        score = self.score
        if score.state == "failed":
            return score.reason
        if score.state == "run":
            return self._running()
        if score.state == "wait":
            when = "next" if self.nearest else "waits"
            expected = score.expected_start_s
            return f"{when}, start {MISSING if expected is None else f'~{clock(expected)}'}"
        if score.state == "skipped":
            return "skipped"
        if score.name == self.show.reference:
            return "reference"
        start = MISSING if score.start_s is None else clock(score.start_s)
        return f"start {start}" + (f" ×{score.repeats}" if score.repeats > 1 else "")

    def _running(self) -> str:
        s = self.s
        if s.state == "starting":
            step = next((step for step in reversed(s.steps) if step.state == "run"), None)
            return f"{step.name} {clock(step.elapsed_s)}" if step is not None else "starting"
        if s.phase is None or s.state in OVER:
            return s.state
        return f"{phase_words(s.phase.name)} {s.phase.index + 1}/{s.phase.count}"

    # -- the histogram -----------------------------------------------------------------------

    def _chart(self, rows: int) -> list[Line]:
        width = self.places.chart
        measured = ttft_now(self.s, self.score)
        if not width:
            return [Line() for _ in range(rows)]
        cells, styles = Cells(width, rows), self.styles
        if self.s.slo_ttft_ms is not None:
            x = self.axis.column(self.s.slo_ttft_ms, width)
            for y in range(rows):
                cells.set(x, y, "┊", styles.faint)
        if not measured.count:
            return cells.lines()
        own = shares(client_columns(measured, self.axis, width))
        other = self.reference
        found = ttft_now(self.s, other) if other is not None and other is not self.score else EMPTY
        ghost = shares(client_columns(found, self.axis, width))
        top = max((*own, *ghost), default=0.0)
        heights, behind = eighths(own, top, rows), eighths(ghost, top, rows)
        for x, (height, before) in enumerate(zip(heights, behind, strict=True)):
            if before:
                y = rows - 1 - (before - 1) // 8
                cells.set(x, y, "╌", styles.ghost)
            for y in range(rows):
                filled = height - (rows - 1 - y) * 8
                if filled > 0:
                    cells.set(x, y, UP[min(8, filled)], styles.client)
        return cells.lines()

    # -- the figures -------------------------------------------------------------------------

    def _figures(self, alone: bool) -> Line:
        """The figures; ``alone`` in a row of one line, where nothing below them says CENSORED."""
        score, styles, line = self.score, self.styles, Line()
        live = score.state == "run" and not score.repeats
        for column in self.places.columns:
            if alone and score.censored and column.key in COMPARED:
                line.put(f"{CENSORED:>{column.width}}", styles.attention)
            elif live:
                line.put(f"{self._so_far(column):>{column.width}}", styles.client)
            else:
                text = figure_text(score.figures.get(column.key), column)
                line.put(f"{text:>{column.width}}", styles.client if score.repeats else styles.stale)
            self._bar(line, column, ghost=False)
        return line

    def _so_far(self, column: Column) -> str:
        """What the session that runs says by now; what only its end can tell is missing."""
        phase, tokens = self.s.latency.ttft_phase, self.s.tokens
        if column.key == "ttft_ms" and phase.count:
            return sig3(phase.mean_ns / 1e6)
        if column.key == "tps" and tokens.per_s is not None and self.s.load.sent:
            return f"{'~' if tokens.estimated else ''}{sig3(tokens.per_s)}"
        return "so far" if column.key == "completed_pct" else MISSING

    def _second(self) -> Line:
        """Changes against the reference, in brackets what is not significant, or CENSORED."""
        score, styles, line = self.score, self.styles, Line()
        for column in self.places.columns:
            text, style = "", styles.quiet
            if column.key in COMPARED:
                if score.censored:
                    text, style = CENSORED, styles.attention
                elif column.key in score.change_pct:
                    text = change_text(score.change_pct[column.key])
                    if score.verdicts.get(column.key) == NOT_SIGNIFICANT:
                        text = f"({text})"
            line.put(f"{text:>{column.width}}", style)
            self._bar(line, column, ghost=True)
        return line

    def _ranges(self) -> Line:
        line = Line()
        for column in self.places.columns:
            of = self.score.ranges.get(column.key) if self.score.repeats > 1 else None
            text = "" if of is None else f"{sig3(of[0])}..{sig3(of[1])}"
            text = text if len(text) < column.width else ""
            line.put(f"{text:>{column.width}}", self.styles.quiet)
            if column.key in ("ttft_ms", "tps") and self.places.bar:
                line.put(" " * self.places.bar)
        return line

    def _bar(self, line: Line, column: Column, *, ghost: bool) -> None:
        """The figure as a part of the greatest one, and below it the reference's."""
        if not self.places.bar or column.key not in ("ttft_ms", "tps"):
            return
        values = [score.figures.get(column.key) for score in self.show.scores]
        most = max((value for value in values if value is not None), default=0.0)
        of = self.reference if ghost else self.score
        value = of.figures.get(column.key) if of is not None else None
        if value is None or most <= 0 or not self.score.repeats or (ghost and self.reference is self.score):
            line.put(" " * self.places.bar)
            return
        full = len(bar(value / most, self.places.bar - 2)[0])
        line.put(" ").put(
            "╌" * full if ghost else "■" * full, self.styles.ghost if ghost else self.styles.client
        )
        line.put(" " * (self.places.bar - 1 - full))


def figure_text(value: float | None, column: Column) -> str:
    """A figure as its column writes it."""
    if value is None:
        return MISSING
    return f"{value:.1f}{column.unit}" if column.key == "completed_pct" else sig3(value)


def change_text(change_pct: float | None) -> str:
    """A change against the reference: ``+6.2 %``, ``−99.7 %``, ``× 54.0``."""
    if change_pct is None:
        return MISSING
    ratio = 1 + change_pct / 100
    if ratio >= _TIMES:
        return f"× {sig3(ratio)}"
    return (f"{change_pct:+.1f} %" if ratio < 2 else f"{change_pct:+.0f} %").replace("-", "−")


def step_text(step: StartStep) -> str:
    """A step of a start in a line of them: ``✓ weights 00:07``, ``▸ warm-up 00:02 of ~00:06``."""
    glyph = {"done": "✓", "run": "▸", "fail": "✗"}.get(step.state, "·")
    expected = "" if step.expected_s is None else f"~{clock(step.expected_s)}"
    took = clock(step.elapsed_s) if step.state != "wait" and step.elapsed_s is not None else ""
    parts = [glyph, step.name, took if step.state != "wait" else expected]
    if step.state == "run" and expected:
        parts.append(f"of {expected}")
    return " ".join(part for part in parts if part)
