"""A box of lines that are read again each second, as long as it is looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from rvtop.ui.screens.dialog import Dialog

_EACH_S = 1.0


class TextScreen(Dialog[None]):
    """Shows what ``lines`` gives; ↑↓ scroll where there is more than room for. Returns nothing."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter,d,D", "dismiss", show=False),
        Binding("up,k", "by(-1)", show=False),
        Binding("down,j", "by(1)", show=False),
    ]

    def __init__(self, title: str, lines: Callable[[], Sequence[str]]) -> None:
        super().__init__()
        self._title, self._lines = title, lines

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="box") as box:
            box.border_title, box.border_subtitle = self._title, "↑↓   esc"
            box.can_focus = False
            yield Static("", id="lines", markup=False)

    def on_mount(self) -> None:
        self._read()
        self.set_interval(_EACH_S, self._read)

    def _read(self) -> None:
        self.put("#lines", "\n".join(self._lines()))

    def action_by(self, rows: int) -> None:
        self.query_one("#box").scroll_relative(y=rows, animate=False)
