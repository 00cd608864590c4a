"""How a session ended, and what to press: one panel above the last figures."""

from __future__ import annotations

import textwrap

from rich.style import Style

from rvtop.contract.snapshot import OVER, Snapshot
from rvtop.ui.draw import Line, fitting
from rvtop.ui.format import clip, count, sig3
from rvtop.ui.shell import shell_of
from rvtop.ui.widgets.panel import MARGINS, Panel

MESSAGE_ROWS = 6
#: The states of a session that has ended.
TITLES = {
    "done": "■ done",
    "lost": "✗ the target was lost",
    "failed": "✗ it did not start",
    "crashed": "✗ a part of rvtop failed",
}


class Banner(Panel, can_focus=False):
    NAME = "banner"
    PLACE = "top"

    def __init__(self, *, can_choose_again: bool = False) -> None:
        super().__init__()
        self.can_choose_again = can_choose_again

    @property
    def edge(self) -> Style:
        bad = self.snapshot is not None and self.snapshot.state in ("lost", "failed", "crashed")
        return self.rich_styles.trouble if bad else self.rich_styles.frame_focus

    def wants(self, s: Snapshot) -> bool:
        return s.state in OVER

    def heights(self, s: Snapshot, width: int) -> tuple[int, int]:
        best = 1 + len(self._content(s, width - MARGINS))
        return min(4, best), best

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        style = self.rich_styles.strong if s.state == "done" else self.rich_styles.trouble
        return Line(TITLES.get(s.state, s.state), style), Line()

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        return self._content(s, width)[:height]

    def _content(self, s: Snapshot, width: int) -> list[Line]:
        styles = self.rich_styles
        wrapped = textwrap.wrap(s.message, max(1, width), max_lines=MESSAGE_ROWS, placeholder="…")
        lines = [Line(part, styles.base) for part in wrapped]
        if s.load.sent:
            lines.append(self._totals(s, width))
        if s.out_dir and (s.load.sent or s.state == "done"):
            path = Line(clip(s.out_dir, width - 10 if width >= 30 else width), styles.base)
            lines.append(fitting(((1, Line("results   ", styles.quiet)), (0, path)), width))
        parts = [
            (2, Line("press     ", styles.quiet)),
            (0, Line("q", styles.command).put(" to leave", styles.base)),
        ]
        if shell_of(self).replay is None and shell_of(self).showdown is None:
            parts.append(
                (2, Line("   E", styles.command).put(" for its figures and what to do next", styles.base))
            )
        if self.can_choose_again:
            parts.append((1, Line("   ").put("enter", styles.command).put(" to choose another", styles.base)))
        return [*lines, fitting(parts, width)]

    def _totals(self, s: Snapshot, width: int) -> Line:
        styles, load, ttft = self.rich_styles, s.load, s.latency.ttft_phase
        errors = sum(n for _, n in load.errors)
        line = fitting(
            (
                (3, Line("requests  ", styles.quiet)),
                (0, Line(count(load.sent), styles.client).put(" sent, ", styles.quiet)),
                (2, Line(count(load.ok), styles.client).put(" ok, ", styles.quiet)),
                (1, Line(f"{count(errors)} failed", styles.trouble if errors else styles.quiet)),
            ),
            width,
        )
        classes = ", ".join(f"{name} {count(n)}" for name, n in load.errors)
        more = [Line(f" ({clip(classes, 30)})", styles.trouble)] if errors else []
        if ttft.count:
            p50, p99 = (sig3(ttft.percentile(q) / 1e6) for q in (50, 99))
            more.append(
                Line("   phase TTFT p50 ", styles.quiet)
                .put(p50, styles.client)
                .put("  p99 ", styles.quiet)
                .put(p99, styles.client)
                .put(" ms", styles.quiet)
            )
        more.append(Line("   tokens ", styles.quiet).put(count(s.tokens.total), styles.client))
        for part in more:
            if line.width + part.width <= width:
                line.join(part)
        return line

    def one_line(self, s: Snapshot, width: int) -> Line:
        return Line(
            f" {TITLES.get(s.state, s.state)}: {clip(s.message, max(1, width - 24))}", self.rich_styles.strong
        )
