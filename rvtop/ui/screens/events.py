"""All events, opened from the live screen and the map: filter, cursor, copy."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult

from rvtop.ui.format import wall
from rvtop.ui.screens.list_screen import ListScreen
from rvtop.ui.shell import ScreenShell
from rvtop.ui.widgets.event_list import EventChoice, EventList
from rvtop.ui.widgets.header import Header
from rvtop.ui.widgets.place_footer import PlaceFooter


class EventsScreen(ListScreen):
    PLACES: ClassVar[str] = "AE"
    HINT = "text, kind or level: rate, mark, error"
    state: EventChoice
    CSS = "EventsScreen { layout: vertical; }"

    def __init__(self, shell: ScreenShell) -> None:
        super().__init__(shell)
        self.state = EventChoice()

    def compose(self) -> ComposeResult:
        yield Header()
        yield EventList(self.state)
        yield PlaceFooter(self.PLACES)

    def action_copy(self) -> None:
        """Copies the chosen event, its text whole."""
        listed = self.state.listed(self.snapshot) if self.snapshot is not None else []
        if not listed:
            self.notify_briefly("no event is listed")
            return
        event = listed[self.state.row(listed)]
        self.copy(f"{wall(event.unix_s)}  {event.text}", "the event")

    def action_events(self) -> None:
        self.app.pop_screen()

    async def action_open(self) -> None:
        """Shows the second of the chosen event."""
        s = self.snapshot
        listed = self.state.listed(s) if s is not None else []
        if s is None or not listed:
            self.notify_briefly("no event is listed")
            return
        event = listed[self.state.row(listed)]
        t_s = event.t_s if event.t_s is not None else s.t_s - (s.unix_s - event.unix_s)
        await self.shell.show_instant(max(0.0, t_s))

    def action_back(self) -> None:
        """Closes the filter, then the list."""
        if self.state.filter:
            self.state.filter = ""
            self.redraw()
        else:
            self.app.pop_screen()
