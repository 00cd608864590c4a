"""Tasks of agents: how many are done, where their time goes, and what each step is like. Drawn where the
workload has tasks."""

from __future__ import annotations

from rich.style import Style

from rvtop.contract.snapshot import Snapshot
from rvtop.contract.tasks import Tasks, TaskStep
from rvtop.ui.draw import Line, fitting
from rvtop.ui.format import MISSING, count, percent, rate, sig3
from rvtop.ui.widgets.panel import Panel

HEADS = "step  requests  TTFT ms  prompt tokens  prefix hits"
#: Cells of a row before the bar of its prefix hits, and of the longest bar.
FIXED, MOST_BAR = len(HEADS) + 1, 24
_ABOVE = 4  # rows above the steps


def duration(ms: float | None) -> str:
    """``812 ms``, ``12.4 s``."""
    if ms is None:
        return MISSING
    return f"{sig3(ms)} ms" if ms < 9_995 else f"{sig3(ms / 1e3)} s"


class TasksPanel(Panel):
    TOPIC = "tasks"
    PLACE = "left"
    GOOD = 6

    def wants(self, s: Snapshot) -> bool:
        return s.tasks is not None

    def heights(self, s: Snapshot, width: int) -> tuple[int, int]:
        steps = len(s.tasks.steps) if s.tasks is not None else 0
        return 1 + _ABOVE, 1 + _ABOVE + min(12, steps)

    def draws(self, s: Snapshot) -> tuple[object, ...] | None:
        return (s.tasks,)

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        styles, tasks = self.rich_styles, s.tasks
        if tasks is None:
            return Line(), Line()
        return Line("tasks", styles.client_bold).join(self._counts(tasks)), Line()

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        tasks = s.tasks
        if tasks is None:
            return []
        lines = [self._times(tasks, width), self._made_of(tasks, width), self._bar(tasks, width)]
        lines.append(Line(HEADS[: max(0, width)], self.rich_styles.quiet))
        room = height - len(lines)
        shown = tasks.steps if len(tasks.steps) <= room else tasks.steps[: max(0, room - 1)]
        lines += [self._step(step, width) for step in shown]
        if len(shown) < len(tasks.steps):
            lines.append(Line(f"{len(tasks.steps) - len(shown)} more steps", self.rich_styles.quiet))
        return lines[:height]

    def one_line(self, s: Snapshot, width: int) -> Line:
        tasks = s.tasks
        if tasks is None:
            return Line()
        first = Line(" tasks    ", self.rich_styles.quiet).join(self._rate(tasks))
        return fitting([(0, first), (1, self._counts(tasks)), (2, self._wall(tasks))], width)

    def _counts(self, tasks: Tasks) -> Line:
        styles = self.rich_styles
        line = Line(f"  {count(tasks.done)} done", styles.base)
        if tasks.failed:
            line.put(f"  {count(tasks.failed)} failed", styles.trouble)
        if tasks.cut:
            line.put(f"  {count(tasks.cut)} cut", styles.attention)
        return line.put(f"  {count(tasks.open)} open", styles.quiet)

    def _rate(self, tasks: Tasks) -> Line:
        styles = self.rich_styles
        line = Line(f"{rate(tasks.per_minute)}/min", styles.client)
        if tasks.good_per_minute is not None:
            line.put(" good ", styles.quiet).put(rate(tasks.good_per_minute), styles.client)
        return line

    def _wall(self, tasks: Tasks) -> Line:
        styles = self.rich_styles
        line = Line("  a task ", styles.quiet).put(duration(tasks.wall_ms), styles.client)
        return line.put(" p99 ", styles.quiet).put(duration(tasks.wall_p99_ms), styles.client)

    def _parts(self, tasks: Tasks) -> tuple[tuple[str, str, float | None, Style], ...]:
        """(sign, name, ms, style) of what a task's time is made of."""
        styles = self.rich_styles
        return (
            ("█", "model", tasks.model_ms, styles.client),
            ("▒", "tools", tasks.tool_ms, styles.quiet),
            ("░", "own wait", tasks.own_ms, styles.attention),
        )

    def _times(self, tasks: Tasks, width: int) -> Line:
        parts = [(0, self._rate(tasks)), (1, self._wall(tasks))]
        if tasks.queue_ms is not None:
            queue = Line("  server's queue ", self.rich_styles.quiet)
            parts.append((2, queue.put(duration(tasks.queue_ms), self.rich_styles.server)))
        return fitting(parts, width)

    def _made_of(self, tasks: Tasks, width: int) -> Line:
        styles, parts = self.rich_styles, []
        for place, (sign, name, ms, style) in enumerate(self._parts(tasks)):
            line = Line(" + " if place else "= ", styles.faint).put(f"{sign} ", style)
            parts.append((place, line.put(f"{name} ", styles.quiet).put(duration(ms), style)))
        return fitting(parts, width)

    def _bar(self, tasks: Tasks, width: int) -> Line:
        """The parts of a task's time, as long as they are."""
        line, wall, seen, drawn = Line(), tasks.wall_ms, 0.0, 0
        if not wall:
            return line
        for sign, _, ms, style in self._parts(tasks):
            seen += ms or 0.0
            cells = round(width * min(1.0, seen / wall)) - drawn
            line.put(sign * cells, style)
            drawn += cells
        return line

    def _step(self, step: TaskStep, width: int) -> Line:
        styles = self.rich_styles
        line = Line(f"{step.step:>4}{count(step.count):>10}", styles.base)
        line.put(f"{sig3(step.ttft_ms):>9}", styles.client)
        line.put(f"{sig3(step.prompt_tokens):>15}{percent(step.hit_share):>13}", styles.server)
        room = min(MOST_BAR, width - FIXED)
        if step.hit_share is not None and room > 0:
            filled = round(step.hit_share * room)
            line.put(" ", styles.base).put("█" * filled, styles.server).put(
                "░" * (room - filled), styles.faint
            )
        return line
