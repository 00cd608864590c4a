"""A small box to type what a list must hold."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical

from rvtop.ui.screens.dialog import Dialog
from rvtop.ui.widgets.typed_line import TypedLine


class FilterScreen(Dialog[str | None]):
    """Returns what was typed (empty: no filter), or None when it was left."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", show=False)]

    def __init__(self, text: str, hint: str) -> None:
        super().__init__()
        self._text, self._hint = text, hint

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = "filter"
            box.border_subtitle = "enter filters   empty: all   esc"
            yield TypedLine(self.take, self._text, hint=self._hint, longest=60)

    def take(self, text: str) -> None:
        """Returns the filter."""
        self.dismiss(text.strip())

    def action_leave(self) -> None:
        self.dismiss(None)
