"""All events of a session, the newest first: filtered, with a cursor, the chosen one whole below."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from rvtop.contract.snapshot import Event, Snapshot
from rvtop.ui.draw import Line
from rvtop.ui.format import clip, count, wall
from rvtop.ui.theme import Styles
from rvtop.ui.widgets.panel import Panel

#: The share of the rows for the whole text of the chosen event, and below how many rows there is none.
WHOLE_SHARE, LEAST_ROWS = 4, 8


def entry(styles: Styles, event: Event, width: int) -> Line:
    """An event as one row: when, how bad, what."""
    line = Line(wall(event.unix_s), styles.quiet).put("  ")
    if event.level == "error":
        line.put("✗ ", styles.trouble)
    elif event.level == "warn":
        line.put("! ", styles.attention)
    if event.kind == "mark":
        line.put("◆ ", styles.command)
    style = {"error": styles.trouble, "warn": styles.attention}.get(event.level, styles.base)
    return line.put(clip(event.text, max(1, width - line.width)), style)


@dataclass(slots=True)
class EventChoice:
    """What is listed, and the event with the cursor: it keeps its cursor when others come."""

    filter: str = ""
    chosen: Event | None = None

    def listed(self, s: Snapshot) -> list[Event]:
        """The events whose text, kind or level holds the filter, the newest first."""
        wanted = self.filter.casefold()
        held = (e for e in reversed(s.events) if wanted in f"{e.text} {e.kind} {e.level}".casefold())
        return list(held)

    def row(self, listed: list[Event]) -> int:
        """The cursor's place in ``listed``."""
        return listed.index(self.chosen) if self.chosen in listed else 0

    def move(self, s: Snapshot, step: int) -> None:
        """Moves the cursor by ``step`` rows."""
        listed = self.listed(s)
        if listed:
            self.chosen = listed[min(max(0, self.row(listed) + step), len(listed) - 1)]


class EventList(Panel):
    TOPIC = "events"

    def __init__(self, state: EventChoice) -> None:
        super().__init__()
        self._state = state

    async def on_mouse_scroll_up(self) -> None:
        await self.run_action("screen.cursor(-1)")

    async def on_mouse_scroll_down(self) -> None:
        await self.run_action("screen.cursor(1)")

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        styles, state = self.rich_styles, self._state
        listed = len(state.listed(s))
        left = Line("events, newest first", styles.strong)
        if state.filter:
            left.put(f" · with “{clip(state.filter, 30)}”", styles.quiet)
        shown = count(listed) if listed == len(s.events) else f"{count(listed)} of {count(len(s.events))}"
        return left, Line(shown, styles.quiet)

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        styles, listed = self.rich_styles, self._state.listed(s)
        if not listed:
            text = (
                "No event holds that text; esc lists all."
                if self._state.filter
                else "Nothing has happened yet."
            )
            return [Line(text, styles.quiet)]
        row = self._state.row(listed)
        whole = self._whole(listed[row], width, height // WHOLE_SHARE) if height >= LEAST_ROWS else []
        room = height - len(whole)
        first = min(max(0, row - room // 2), max(0, len(listed) - room))
        lines = []
        for i, event in enumerate(listed[first : first + room], first):
            mark = Line("▸ " if i == row else "  ", styles.command)
            lines.append(mark.join(entry(styles, event, width - 2)))
        return [*lines, *([Line()] * (room - len(lines))), *whole]

    def _whole(self, event: Event, width: int, most: int) -> list[Line]:
        """The text of an event that its row cuts, in up to ``most`` rows; none where the row says it all."""
        if entry(self.rich_styles, event, 10**6).width <= width - 2:
            return []
        parts = textwrap.wrap(event.text, max(1, width), max_lines=most, placeholder="…")
        return [Line(part, self.rich_styles.base) for part in parts]

    def one_line(self, s: Snapshot, width: int) -> Line:
        listed = self._state.listed(s)
        row = self._state.row(listed)
        return Line(" ").join(entry(self.rich_styles, listed[row], width - 2)) if listed else Line()
