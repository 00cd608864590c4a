"""A small box for the note of a mark."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static

from rvtop.ui.screens.dialog import Dialog
from rvtop.ui.widgets.typed_line import TypedLine

#: The note of a mark that was given none.
BARE = "mark"
_LONGEST = 200


class MarkScreen(Dialog[str | None]):
    """Returns the typed note (``mark`` where nothing was typed), or None when it was left."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", show=False)]

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = "mark"
            box.border_subtitle = "enter keeps it   esc leaves it"
            yield Static(
                "goes into events, timeline and the command log; a note is not needed",
                classes="quiet",
                markup=False,
            )
            yield TypedLine(self.take, hint="now with prefix cache", longest=_LONGEST)

    def take(self, text: str) -> None:
        """Returns the note."""
        self.dismiss(text.strip() or BARE)

    def action_leave(self) -> None:
        self.dismiss(None)
