"""A small box for the note of a mark."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input, Static

from rvtop.ui.screens.dialog import Dialog

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
            box_input = Input(placeholder="now with prefix cache", max_length=_LONGEST)
            box_input.cursor_blink = False
            yield box_input

    @on(Input.Submitted)
    def take(self, event: Input.Submitted) -> None:
        self.dismiss(event.value.strip() or BARE)

    def action_leave(self) -> None:
        self.dismiss(None)
