"""All events, opened from the live screen and the map: filter, cursor, copy."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from rvtop.ui.format import wall
from rvtop.ui.keep import copied_text
from rvtop.ui.screens.filter import FilterScreen
from rvtop.ui.screens.session_screen import LIST_KEYS, SessionScreen
from rvtop.ui.shell import ScreenShell
from rvtop.ui.widgets.event_list import EventChoice, EventList
from rvtop.ui.widgets.header import Header
from rvtop.ui.widgets.place_footer import PlaceFooter


class EventsScreen(SessionScreen):
    PLACES: ClassVar[str] = "AE"
    BINDINGS: ClassVar[list[BindingType]] = LIST_KEYS
    CSS = "EventsScreen { layout: vertical; }"

    def __init__(self, shell: ScreenShell) -> None:
        super().__init__(shell)
        self.state = EventChoice()

    def compose(self) -> ComposeResult:
        yield Header()
        yield EventList(self.state)
        yield PlaceFooter(self.PLACES)

    def _redraw(self) -> None:
        for panel in self._panels:
            panel.repaint()

    def action_cursor(self, step: int) -> None:
        if self.snapshot is not None:
            self.state.move(self.snapshot, step)
            self._redraw()

    def action_filter(self) -> None:
        def typed(text: str | None) -> None:
            if text is not None:
                self.state.filter = text
                self._redraw()

        self.app.push_screen(FilterScreen(self.state.filter, "text, kind or level: rate, mark, error"), typed)

    def action_copy(self) -> None:
        """Copies the chosen event, its text whole."""
        listed = self.state.listed(self.snapshot) if self.snapshot is not None else []
        if not listed:
            self.notify_briefly("no event is listed")
            return
        event = listed[self.state.row(listed)]
        text = f"{wall(event.unix_s)}  {event.text}"
        self.app.copy_to_clipboard(text)
        try:
            path = copied_text(text)
        except OSError as error:
            self.notify_briefly(f"copied to the clipboard; {error.filename}: {error.strerror}")
        else:
            self.notify_briefly(f"copied the event to the clipboard and to {path}")

    def action_events(self) -> None:
        self.app.pop_screen()

    def action_back(self) -> None:
        """Closes the filter, then the list."""
        if self.state.filter:
            self.state.filter = ""
            self._redraw()
        else:
            self.app.pop_screen()
