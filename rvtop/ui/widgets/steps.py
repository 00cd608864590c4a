"""The steps of starting a backend, with how long each takes."""

from __future__ import annotations

from rvtop.contract.snapshot import Snapshot, StartStep
from rvtop.ui.draw import Line
from rvtop.ui.format import clip, fixed, short_span
from rvtop.ui.widgets.panel import Panel


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
        rows = [self._row(step, size, width) for step in s.steps]
        if height > len(rows):
            return [Line(), *rows]
        # Where not all fit: up to the one that runs.
        begun = sum(step.state != "wait" for step in s.steps)
        last = max(height, begun)
        return rows[last - height : last]

    def heights(self, s: Snapshot, width: int) -> tuple[int, int]:
        return 2, max(1, len(s.steps)) + 3

    def _row(self, step: StartStep, size: int, width: int) -> Line:
        styles = self.rich_styles
        glyph, style = {
            "done": ("✓", styles.server),
            "run": ("▸", styles.command),
            "fail": ("✗", styles.trouble),
        }.get(step.state, ("·", styles.faint))
        line = Line("  ").put(glyph, style).put("  ")
        line.put(fixed(step.name, size), styles.stale if step.state == "wait" else style)
        took = "" if step.elapsed_s is None else short_span(step.elapsed_s)
        line.put(f"{took:>8}", styles.base if step.state == "run" else styles.quiet)
        return line.put("  ").put(
            clip(step.detail, max(1, width - line.width)),
            styles.trouble if step.state == "fail" else styles.quiet,
        )

    def one_line(self, s: Snapshot, width: int) -> Line:
        running = next((step for step in reversed(s.steps) if step.state in ("run", "fail")), None)
        return (
            self._row(running, len(running.name), width)
            if running
            else Line(" waiting", self.rich_styles.quiet)
        )
