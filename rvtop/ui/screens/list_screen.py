"""What the screens of a list share: its cursor, and the filter that is typed."""

from __future__ import annotations

from typing import ClassVar, Protocol

from textual.binding import Binding, BindingType

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.screens.filter import FilterScreen
from rvtop.ui.screens.session_screen import SessionScreen

#: The keys that go to the ends of a list.
ENDS: list[BindingType] = [
    Binding("home", "cursor(-1000)", show=False),
    Binding("end", "cursor(1000)", show=False),
]
#: The keys of a cursor in a list.
LIST_KEYS: list[BindingType] = [
    Binding("up", "cursor(-1)", show=False),
    Binding("down", "cursor(1)", show=False),
    *ENDS,
]


class ListChoice(Protocol):
    """What is listed, and where the cursor is."""

    filter: str

    def move(self, s: Snapshot, step: int) -> None:
        """Moves the cursor by ``step`` rows."""
        ...


class ListScreen(SessionScreen):
    """A screen whose arrows are the cursor of ``state``. ``HINT`` says what the filter is looked for in."""

    BINDINGS: ClassVar[list[BindingType]] = LIST_KEYS
    HINT: ClassVar[str]
    state: ListChoice

    def redraw(self) -> None:
        """Draws the panels again, without a new snapshot."""
        for panel in self._panels:
            panel.repaint()

    def action_cursor(self, step: int) -> None:
        if self.snapshot is not None:
            self.state.move(self.snapshot, step)
            self.redraw()

    def action_filter(self) -> None:
        def typed(text: str | None) -> None:
            if text is not None:
                self.state.filter = text
                self.redraw()

        self.app.push_screen(FilterScreen(self.state.filter, self.HINT), typed)
