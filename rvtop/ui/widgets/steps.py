"""The steps of starting a backend, with how long each takes."""

from __future__ import annotations

from rvtop.contract.snapshot import Snapshot, StartStep
from rvtop.ui.draw import Line
from rvtop.ui.format import clip, clock, fixed, short_span
from rvtop.ui.widgets.panel import Panel

#: What is said of a step that runs for more than twice its time.
LATE = "longer than ever, l shows its log"


def took_text(step: StartStep) -> str:
    """``00:07 of ~00:11`` while it runs, ``~00:06`` before, ``00:02`` after."""
    expected = "" if step.expected_s is None else f"~{clock(step.expected_s)}"
    if step.state == "wait" or step.elapsed_s is None:
        return expected
    so_far = clock(step.elapsed_s)
    return f"{so_far} of {expected}" if expected and step.state == "run" else so_far


def is_starting(s: Snapshot) -> bool:
    """Whether there is only a backend that starts, or one that did not come up."""
    return s.state == "starting" or (s.state in ("failed", "crashed") and not s.series.t_s)


class StepsPanel(Panel, can_focus=False):
    NAME = "steps"

    def wants(self, s: Snapshot) -> bool:
        return is_starting(s)

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        what = s.target.topology or s.target.url
        verb = "starting" if s.state == "starting" else "start of"
        return Line(f"{verb} {what}", self.rich_styles.strong), Line(
            short_span(s.t_s), self.rich_styles.quiet
        )

    def footing(self, s: Snapshot, width: int) -> Line:
        return Line("q ends what was started", self.rich_styles.quiet) if s.state == "starting" else Line()

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        if not s.steps:
            return [
                Line(),
                Line(f"  waiting for {s.target.topology or s.target.url}", self.rich_styles.quiet),
            ]
        size = min(max(len(step.name) for step in s.steps), 24)
        took = max(8, *(2 + len(took_text(step)) for step in s.steps))  # 2: a gap beside the longest name
        rows = [
            row for step in s.steps for row in (self._row(step, size, took, width), *self._log(step, width))
        ]
        if height > len(rows):
            return [Line(), *rows]
        # Where not all fit: up to the one that runs.
        begun = sum(1 + len(step.log) for step in s.steps if step.state != "wait")
        last = max(height, begun)
        return rows[last - height : last]

    def heights(self, s: Snapshot, width: int) -> tuple[int, int]:
        return 2, max(1, sum(1 + len(step.log) for step in s.steps)) + 3

    def _row(self, step: StartStep, size: int, took: int, width: int) -> Line:
        styles = self.rich_styles
        glyph, style = {
            "done": ("✓", styles.server),
            "run": ("▸", styles.command),
            "fail": ("✗", styles.trouble),
        }.get(step.state, ("·", styles.faint))
        line = Line("  ").put(glyph, style).put("  ")
        line.put(fixed(step.name, size), styles.stale if step.state == "wait" else style)
        line.put(f"{took_text(step):>{took}}", styles.base if step.state == "run" else styles.quiet)
        said = LATE if step.is_late else step.detail
        style = styles.trouble if step.state == "fail" else styles.attention if step.is_late else styles.quiet
        return line.put("  ").put(clip(said, max(1, width - line.width)), style)

    def _log(self, step: StartStep, width: int) -> list[Line]:
        """The last lines of the log, below a step that failed."""
        quiet = self.rich_styles.quiet
        return [Line("     │ ", quiet).put(clip(text, max(1, width - 7)), quiet) for text in step.log]

    def one_line(self, s: Snapshot, width: int) -> Line:
        running = next((step for step in reversed(s.steps) if step.state in ("run", "fail")), None)
        return (
            self._row(running, len(running.name), 8, width)
            if running
            else Line(" waiting", self.rich_styles.quiet)
        )
