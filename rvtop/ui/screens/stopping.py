"""Shown while a session ends what it started and writes its results."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static

from rvtop.ui.screens.dialog import Dialog

#: After so long the box says how to leave without waiting.
PATIENCE_S = 15


class StoppingScreen(Dialog[None]):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("q,escape", "wait", show=False)]

    def __init__(self, out_dir: str | None) -> None:
        super().__init__()
        self._out_dir = out_dir
        self._seconds = 0

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = "stopping…"
            yield Static("Ending the load and what rvtop started, writing the results.", markup=False)
            if self._out_dir:
                yield Static(f"\n{self._out_dir}", classes="quiet", markup=False)
            yield Static("", id="wait", classes="quiet", markup=False)

    def on_mount(self) -> None:
        self.set_interval(1.0, self.count)

    def count(self) -> None:
        self._seconds += 1
        if self._seconds >= 2:
            text = f"\n{self._seconds} s"
            if self._seconds >= PATIENCE_S:
                text += "   ctrl+c leaves without waiting; results may be incomplete"
            self.put("#wait", text)

    def action_wait(self) -> None:
        """Nothing: it is stopping already."""
