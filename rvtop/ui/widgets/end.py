"""The end card as a panel: the figures of a run that has ended, and a list of what to do next."""

from __future__ import annotations

from dataclasses import dataclass, field

from rich.style import Style

from rvtop.contract.snapshot import Snapshot
from rvtop.results.end_facts import EndFacts
from rvtop.ui.draw import Line
from rvtop.ui.end_lines import Step, card_lines, title, totals
from rvtop.ui.format import clip
from rvtop.ui.widgets.panel import MARGINS, Panel


@dataclass
class EndState:
    """What the card shows. ``facts`` None: they are being read."""

    facts: EndFacts | None = None
    steps: list[Step] = field(default_factory=list)
    cursor: int = 0


class EndPanel(Panel):
    DEFAULT_CSS = """
    EndPanel { height: 1fr; min-height: 3; }
    """
    TOPIC = "end"

    def __init__(self, state: EndState) -> None:
        super().__init__()
        self._state = state

    @property
    def edge(self) -> Style:
        bad = self.snapshot is not None and self.snapshot.state != "done"
        return self.rich_styles.trouble if bad else self.rich_styles.frame_focus

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        styles = self.rich_styles
        left, right = title(s, styles), totals(s, self._state.facts, styles)
        name = f" {s.name}" + (f" on {s.target.topology}" if s.target.topology else "")
        return left.put(clip(name, max(0, width - left.width - right.width - 8)), styles.base), right

    def _all(self, s: Snapshot, width: int) -> list[Line]:
        state = self._state
        return card_lines(s, state.facts, state.steps, state.cursor, self.rich_styles, width)

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        lines = self._all(s, width)
        over = len(lines) - height
        if over > 0:  # the step at the cursor stays to be seen
            kept = min(len(self._state.steps), max(1, height // 2))
            lines = [*lines[: height - kept], *self._window(lines, kept)]
        return lines[:height]

    def _window(self, lines: list[Line], room: int) -> list[Line]:
        steps = lines[len(lines) - len(self._state.steps) :]
        first = max(0, min(self._state.cursor, len(steps) - room))
        return steps[first : first + room]

    def wanted(self, s: Snapshot, width: int) -> int:
        """Rows that it fills, its rule among them."""
        return 1 + len(self._all(s, width - MARGINS))

    def one_line(self, s: Snapshot, width: int) -> Line:
        return Line(" ").join(self.heading(s, width - 1)[0]).put(f": {s.message}").cut(width)
