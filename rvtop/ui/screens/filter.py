"""A small box to type what a list must hold."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input

from rvtop.ui.screens.dialog import Dialog


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
            yield Input(self._text, placeholder=self._hint, max_length=60)

    @on(Input.Submitted)
    def _typed(self, event: Input.Submitted) -> None:
        self.dismiss(event.value.strip())

    def action_leave(self) -> None:
        self.dismiss(None)
