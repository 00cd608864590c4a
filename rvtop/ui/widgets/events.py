"""The event strip: what happened, newest first."""

from __future__ import annotations

from dataclasses import replace

from textual import events

from rvtop.contract.snapshot import Event, Snapshot
from rvtop.ui.draw import Line
from rvtop.ui.key_names import shown_key
from rvtop.ui.layout import FOUR_COLUMNS
from rvtop.ui.shell import shell_of
from rvtop.ui.switch_lines import switch_line
from rvtop.ui.widgets.event_list import entry
from rvtop.ui.widgets.panel import MARGINS, Panel

#: What stands between two events of a row.
BETWEEN = "   "


class EventsPanel(Panel):
    TOPIC = "events"
    PLACE = "bottom"
    PLACE_WHERE_WIDE = "fourth"

    def heights(self, s: Snapshot, width: int) -> tuple[int, int]:
        height = self.app.size.height
        if self.app.size.width >= FOUR_COLUMNS:
            return 2, max(7, height // 3)
        return 2, 7 if height >= 60 else 4 if height >= 44 else 3 if height >= 40 else 2

    def draws(self, s: Snapshot) -> tuple[object, ...] | None:
        return s.events, s.switch

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
        return [self._strip(held, width)[0] for held in self._by_row(s, width, height)]

    def _by_row(self, s: Snapshot, width: int, height: int) -> list[list[Event]]:
        """The events of each row."""
        newest, rows = list(reversed(s.events)), list[list[Event]]()
        while newest and len(rows) < height:
            used = 1 if height > 2 else self._strip(newest, width)[1]
            rows.append(newest[:used])
            del newest[:used]
        return rows

    def event_at(self, x: int, y: int) -> Event | None:
        """The event that stands in a cell of the panel."""
        s, width, height = self.snapshot, self.size.width - MARGINS, self.size.height
        if s is None or not x or (height > 1 and not y):
            return None
        first = (height > 1) + (s.switch is not None)
        rows = self._by_row(s, width, max(1, height - first))
        if not first <= y < first + len(rows):
            return None
        begin = MARGINS // 2
        for event in rows[y - first]:
            end = begin + entry(self.rich_styles, event, width).width
            if begin <= x < end:
                return event
            begin = end + len(BETWEEN)
        return None

    async def on_click(self, event: events.Click) -> None:
        """Goes to the second of the event."""
        chosen = self.event_at(event.x, event.y)
        if chosen is not None and chosen.t_s is not None:
            await self.run_action(f"screen.go_to({chosen.t_s})")

    def _strip(self, newest: list[Event], width: int) -> tuple[Line, int]:
        """As many events as fit beside each other; the newest may be cut, older ones never are."""
        line, used = Line(), 0
        for event in newest:
            made = entry(self.rich_styles, event, width)
            if line.width and line.width + len(BETWEEN) + made.width > width:
                break
            line.put(BETWEEN if line.width else "").join(made)
            used += 1
        return line, used

    def one_line(self, s: Snapshot, width: int) -> Line:
        if s.switch is not None:
            return Line(" ").join(switch_line(s, self.rich_styles, width - 2))
        return Line(" ").join(self._strip(list(reversed(s.events)), width - 2)[0])
