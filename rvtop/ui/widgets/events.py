"""The event strip: what happened, newest first."""

from __future__ import annotations

from dataclasses import replace

from rvtop.contract.snapshot import Event, Snapshot
from rvtop.ui.draw import Line
from rvtop.ui.keys import shown_key
from rvtop.ui.layout import FOUR_COLUMNS
from rvtop.ui.shell import shell_of
from rvtop.ui.switch_lines import switch_line
from rvtop.ui.widgets.event_list import entry
from rvtop.ui.widgets.panel import Panel


class EventsPanel(Panel):
    TOPIC = "events"
    PLACE = "bottom"
    PLACE_WHERE_WIDE = "fourth"

    def heights(self, s: Snapshot, width: int) -> tuple[int, int]:
        height = self.app.size.height
        if self.app.size.width >= FOUR_COLUMNS:
            return 2, max(7, height // 3)
        return 2, 7 if height >= 60 else 4 if height >= 44 else 3 if height >= 40 else 2

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        styles = self.rich_styles
        key = next((a for a in shell_of(self).actions if a.action == "events" and a.keys), None)
        right = Line(shown_key(key.keys[0]), styles.command).put(" all", styles.quiet) if key else Line()
        return Line("events", styles.strong), right

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        """The newest ones beside each other, row by row: where rows are few, they are wide."""
        if s.switch is not None and height:
            more = self.rows(replace(s, switch=None), width, height - 1)
            return [switch_line(s, self.rich_styles, width), *more]
        newest, lines = list(reversed(s.events)), list[Line]()
        while newest and len(lines) < height:
            if height > 2:
                lines.append(entry(self.rich_styles, newest.pop(0), width))
                continue
            strip, used = self._strip(newest, width)
            lines.append(strip)
            del newest[:used]
        return lines

    def _strip(self, newest: list[Event], width: int) -> tuple[Line, int]:
        """As many events as fit beside each other; the newest may be cut, older ones never are."""
        line, used = Line(), 0
        for event in newest:
            made = entry(self.rich_styles, event, width)
            if line.width and line.width + 3 + made.width > width:
                break
            line.put("   " if line.width else "").join(made)
            used += 1
        return line, used

    def one_line(self, s: Snapshot, width: int) -> Line:
        if s.switch is not None:
            return Line(" ").join(switch_line(s, self.rich_styles, width - 2))
        return Line(" ").join(self._strip(list(reversed(s.events)), width - 2)[0])
