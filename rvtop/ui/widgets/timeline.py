"""The plan over time: what is planned, what was served, what comes next."""

from __future__ import annotations

from dataclasses import replace

from textual import events

from rvtop.contract.snapshot import Plan, PlannedPhase, Snapshot
from rvtop.text import phase_words
from rvtop.ui.draw import UP, Cells, Line
from rvtop.ui.format import clip, clock, rate
from rvtop.ui.span import SIGNS
from rvtop.ui.widgets.panel import MARGINS, Panel

_PLANNED = "░"
_CURSOR = "┃"
_MARK = SIGNS["mark"]


class TimelinePanel(Panel):
    TOPIC = "plan"
    PLACE = "bottom"

    def wants(self, s: Snapshot) -> bool:
        if s.plan is None or s.plan_s is None:
            return False
        endless = s.phase is not None and s.phase.duration_s is None
        return not endless or s.plan_s <= s.plan.total_s

    def heights(self, s: Snapshot, width: int) -> tuple[int, int]:
        return 3, 5 if self.app.size.height >= 60 else 4

    def _at_cursor(self, s: Snapshot) -> Snapshot:
        """``s`` with the plan at the second that a screen that stands shows."""
        if self.view.cursor_s is None or s.plan is None:
            return s
        return replace(s, plan_s=self.view.cursor_s - s.plan.t0_s)

    async def on_click(self, event: events.Click) -> None:
        """Freezes at that second, where it has been; a click on the rule only chooses the panel."""
        s, inner = self.snapshot, self.size.width - 2 * MARGINS
        column = event.x - MARGINS
        if s is None or s.plan is None or s.plan_s is None or not 0 <= column < inner:
            return
        at_s = (column + 0.5) / inner * s.plan.total_s
        if event.y >= 1 and at_s <= s.plan_s:
            await self.run_action(f"screen.go_to({s.plan.t0_s + at_s})")

    def draws(self, s: Snapshot) -> tuple[object, ...] | None:
        if s.plan_s is None or self.size.height < 2:  # in one line its bar grows by fractions of a second
            return None
        return s.name, s.plan, int(s.plan_s), next_text(s, 1000), s.series, s.events

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        s, styles = self._at_cursor(s), self.rich_styles
        left = Line(clip(s.name, max(8, width // 4)), styles.strong).put(", rps · served ", styles.quiet)
        left.put("█", styles.client).put(" planned ", styles.quiet).put(_PLANNED, styles.quiet)
        return left, Line(next_text(s, max(0, width - left.width - 2)), styles.base)

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        s = self._at_cursor(s)
        plan, at_s = s.plan, s.plan_s
        if plan is None or at_s is None or height < 1:
            return []
        inner = width - MARGINS
        if height < 2 or inner < 1:
            return [self._names(s, plan, at_s, width)]
        marks = marked_columns(s, plan, inner)
        seen = (len(s.series.t_s), s.series.t_s[-1:], marks)
        key = (plan, int(at_s), seen, width, height, self.rich_styles)
        return self.once(
            key, lambda: [*self._bars(s, marks, inner, height - 1), self._names(s, plan, at_s, width)]
        )

    def _bars(self, s: Snapshot, marks: frozenset[int], width: int, rows: int) -> list[Line]:
        plan, at_s = s.plan, s.plan_s
        assert plan is not None and at_s is not None
        styles = self.rich_styles
        planned, seen = planned_columns(plan, width), served_columns(s, plan, width)
        most = max([value for value in (*planned, *seen) if value is not None], default=0.0) or 1.0
        cells = Cells(width, rows)
        for column in range(width):
            for row in range(rows):
                level = _level(seen[column], most, rows, row)
                if level:
                    cells.set(column, rows - 1 - row, UP[level], styles.client)
                elif _level(planned[column], most, rows, row):
                    cells.set(column, rows - 1 - row, _PLANNED, styles.quiet)
        for column in marks:
            cells.set(column, 0, _MARK, styles.command)
        cursor = column_of(at_s, plan, width)
        for row in range(rows):
            if row or cursor not in marks:
                cells.set(cursor, row, _CURSOR, styles.strong)
        return [Line(" ").join(line) for line in cells.lines()]

    def _names(self, s: Snapshot, plan: Plan, at_s: float, width: int) -> Line:
        """The phases' names where they begin, and where the plan is now."""
        inner, styles = width - MARGINS, self.rich_styles
        line, cursor = Line(" "), column_of(at_s, plan, inner)
        shown = [(column_of(phase.begins_s, plan, inner), phase) for phase in plan.phases]
        for (begin, phase), end in zip(shown, [*(at for at, _ in shown[1:]), inner], strict=True):
            line.to(begin + 1)
            room = end - begin
            if room < 1 or line.width > begin + 1:
                continue
            now = phase.begins_s <= at_s < phase.begins_s + phase.lasts_s
            text = clip(("│" if begin else "") + phase_words(phase.name), room) if room > 2 else "│"
            line.put(text, styles.strong if now else styles.quiet)
        if line.width - 1 <= cursor < inner:
            line.to(cursor + 1).put("▲", styles.strong)
        return line.cut(width)

    def one_line(self, s: Snapshot, width: int) -> Line:
        """Names, how far the phase of now is, and what comes next at the end."""
        s = self._at_cursor(s)
        plan, at_s = s.plan, s.plan_s
        if plan is None or at_s is None:
            return Line()
        styles = self.rich_styles
        told = next_text(s, width // 3)
        inner = max(1, width - MARGINS - (len(told) + 2 if told else 0))
        line = Line(" ")
        shown = [(column_of(phase.begins_s, plan, inner), phase) for phase in plan.phases]
        for (begin, phase), end in zip(shown, [*(at for at, _ in shown[1:]), inner], strict=True):
            room = end - begin
            if room < 1:
                continue
            text = ("│" if begin else "") + clip(phase_words(phase.name), max(1, room - 2)) + " "
            text = text[:room]
            done = max(0, min(room, column_of(at_s, plan, inner) - begin)) - len(text)
            style = styles.strong if phase.begins_s <= at_s < phase.begins_s + phase.lasts_s else styles.quiet
            line.to(begin + 1).put(text, style)
            rest = room - len(text)
            full = max(0, min(rest, done))
            line.put("█" * full, styles.client).put("·" * (rest - full), styles.quiet)
        if told:
            line.to(inner + 3).put(told, styles.base)
        return line.cut(width)


def next_text(s: Snapshot, width: int) -> str:
    """What comes next, and in how long; as much of it as fits."""
    plan, at_s = s.plan, s.plan_s
    if plan is None or at_s is None:
        return ""
    following = next((phase for phase in plan.phases if phase.begins_s > at_s), None)
    if following is None:
        left_s = plan.total_s - at_s
        texts = [f"ends in {clock(left_s)}"] if left_s > 0 else []
    else:
        in_ = f"in {clock(following.begins_s - at_s)}"
        name = clip(phase_words(following.name), 18)
        texts = [f"next: {name}{_rates(following)} {in_}", f"next: {name} {in_}", f"{name} {in_}"]
    return next((text for text in texts if len(text) <= width), "")


def _rates(phase: PlannedPhase) -> str:
    if phase.from_rps is None or phase.most_rps is None:
        return ""
    if phase.from_rps == phase.most_rps:
        return f" {rate(phase.from_rps)} rps"
    return f" {rate(phase.from_rps)} → {rate(phase.most_rps)} rps"


def column_of(t_s: float, plan: Plan, width: int) -> int:
    """The column of a time of the plan; behind its end the last one."""
    return max(0, min(width - 1, int(t_s / plan.total_s * width)))


def planned_columns(plan: Plan, width: int) -> list[float | None]:
    """The highest planned rate of each column."""
    out: list[float | None] = []
    count = len(plan.rates)
    for column in range(width):
        first = column * count // width
        part = plan.rates[first : max(first + 1, (column + 1) * count // width)]
        out.append(max((value for value in part if value is not None), default=None))
    return out


def served_columns(s: Snapshot, plan: Plan, width: int) -> list[float | None]:
    """The mean rate that was served in each column; None where nothing is known, or it is yet to come."""
    sums: list[list[float]] = [[] for _ in range(width)]
    for t_s, value in zip(s.series.t_s, s.series.completed_rps, strict=True):
        at = t_s - plan.t0_s
        if value is not None and 0 <= at <= plan.total_s:
            sums[column_of(at, plan, width)].append(value)
    means = [sum(part) / len(part) if part else None for part in sums]
    for column in range(1, width):  # a column that is shorter than a second has the value before it
        ends_s = (column + 1) / width * plan.total_s
        if means[column] is None and s.plan_s is not None and ends_s <= s.plan_s:
            means[column] = means[column - 1]
    return means


def marked_columns(s: Snapshot, plan: Plan, width: int) -> frozenset[int]:
    """The columns in which somebody set a mark."""
    times = [event.t_s - plan.t0_s for event in s.events if event.kind == "mark" and event.t_s is not None]
    return frozenset(column_of(at_s, plan, width) for at_s in times if 0 <= at_s <= plan.total_s)


def _level(value: float | None, most: float, rows: int, row: int) -> int:
    """Eighths of the cell of ``row`` (0 is the lowest) that a column of ``value`` fills."""
    if not value:
        return 0
    height = max(1, round(value / most * rows * 8))
    return max(0, min(8, height - row * 8))
