"""One row that is there while there is load: what binds the system, the figures that say so, the knob."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from rvtop.contract.snapshot import OVER, Snapshot
from rvtop.stats.verdict_said import NOT_KNOWN
from rvtop.ui.draw import Line, fitting
from rvtop.ui.format import clip
from rvtop.ui.verdict_lines import trial
from rvtop.ui.widgets.panel import Panel


class VerdictPanel(Panel):
    """In focus it says what ``enter`` does there: it tries the knob. Where there is none that rvtop can turn,
    ``enter`` explains, as ``v`` does."""

    TOPIC = "verdict"
    PLACE = "top"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "screen.try_knob", show=False)]

    def wants(self, s: Snapshot) -> bool:
        """Its row is for one message, the worst: a lost target or a limited client has it first."""
        spoilt = s.target_down_s is not None or s.load.client_limited is not None
        return s.state not in OVER and s.verdict is not None and not spoilt

    def one_line(self, s: Snapshot, width: int) -> Line:
        verdict = s.verdict
        if verdict is None:
            return Line()
        styles = self.rich_styles
        style = styles.attention if verdict.binds else styles.quiet
        first = Line(f"▌{verdict.title}", style)
        room = max(0, width - first.width - 3)
        text = verdict.why if verdict.name == NOT_KNOWN else " · ".join(verdict.figures)
        parts = [(2, Line(" │ ", styles.faint).put(clip(text, room), styles.base))]
        if verdict.knob:
            parts.append((3, Line(" │ ", styles.faint).put(verdict.knob, styles.base)))
        if self.has_focus:
            enter = "tries it, same load" if trial(s) else "copies the line" if verdict.line else "explains"
            parts.append((1, Line("  enter", styles.command).put(f" {enter}", styles.quiet)))
        parts.append((1, Line("  v", styles.command).put(" why" if self.has_focus else "", styles.quiet)))
        return fitting([(0, first), *parts], width)
