"""Asks before the first load on a server that rvtop did not start, and before all in flight is cancelled."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static

from rvtop.ui.screens.dialog import Dialog


class ConfirmScreen(Dialog[bool]):
    """Returns True when the load may begin."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y,enter", "answer(True)", show=False),
        Binding("n,escape,q", "answer(False)", show=False),
    ]

    def __init__(self, url: str, load: str) -> None:
        """``load``: what would be sent, as the subject of a sentence."""
        super().__init__()
        self._url, self._load = url, load

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = "send load to this server?"
            box.border_subtitle = "y begins   n does not"
            yield Static("y begins   n does not", classes="keys")
            yield Static(Text(self._url, style="bold"))
            yield Static(
                f"\nrvtop did not start it, so others may be using it. {self._load} "
                "would be sent to it from now on. This is asked once.",
                markup=False,
            )

    def action_answer(self, yes: bool) -> None:
        self.dismiss(yes)


class CancelScreen(Dialog[bool]):
    """Returns True when all in flight is to be cancelled."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", show=False),
        Binding("n,escape,q", "answer(False)", show=False),
    ]

    def __init__(self, in_flight: str) -> None:
        super().__init__()
        self._in_flight = in_flight

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = "cancel all in flight?"
            box.border_subtitle = "y cancels   n does not"
            yield Static("y cancels   n does not", classes="keys")
            yield Static(
                f"{self._in_flight} requests end now, as cancelled; the load goes on. "
                "It can't be taken back.",
                markup=False,
            )

    def action_answer(self, yes: bool) -> None:
        self.dismiss(yes)
