"""The event strip: what happened, newest first."""

from __future__ import annotations

from dataclasses import replace

from rvtop.contract.snapshot import Event, Snapshot
from rvtop.ui.draw import Line
from rvtop.ui.format import clip, wall
from rvtop.ui.switch_lines import switch_line
from rvtop.ui.widgets.panel import Panel


class EventsPanel(Panel):
    TOPIC = "events"
    PLACE = "bottom"

    def heights(self, s: Snapshot, width: int) -> tuple[int, int]:
        height = self.app.size.height
        return 2, 7 if height >= 60 else 4 if height >= 44 else 2

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        return Line("events", self.rich_styles.strong), Line()

    def _entry(self, event: Event, width: int) -> Line:
        styles = self.rich_styles
        line = Line(wall(event.unix_s), styles.quiet).put("  ")
        if event.level == "error":
            line.put("✗ ", styles.trouble)
        elif event.level == "warn":
            line.put("! ", styles.attention)
        style = {"error": styles.trouble, "warn": styles.attention}.get(event.level, styles.base)
        return line.put(clip(event.text, max(1, width - line.width)), style)

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        if s.switch is not None and height:
            more = self.rows(replace(s, switch=None), width, height - 1)
            return [switch_line(s, self.rich_styles, width), *more]
        newest = list(reversed(s.events))
        if height == 1:
            return [self._strip(newest, width)]
        return [self._entry(event, width) for event in newest[:height]]

    def _strip(self, newest: list[Event], width: int) -> Line:
        """As many events as fit beside each other; the newest may be cut, older ones never are."""
        line = Line()
        for event in newest:
            entry = self._entry(event, width)
            if line.width and line.width + 3 + entry.width > width:
                break
            line.put("   " if line.width else "").join(entry)
        return line

    def one_line(self, s: Snapshot, width: int) -> Line:
        if s.switch is not None:
            return Line(" ").join(switch_line(s, self.rich_styles, width - 2))
        return Line(" ").join(self._strip(list(reversed(s.events)), width - 2))
