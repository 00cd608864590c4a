"""A small box to type an instant of a run into."""

from __future__ import annotations

import re
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input, Static

from rvtop.ui.format import clip, clock
from rvtop.ui.screens.dialog import Dialog

_INSTANT = re.compile(r"(?:(?:(?P<h>\d{1,4}):)?(?P<m>\d{1,4}):)?(?P<s>\d{1,6}(?:\.\d+)?)\s*s?")


def parse_instant(text: str, length_s: float) -> float:
    """The seconds since the run's start that ``text`` means: ``90``, ``90s``, ``1:30`` or ``1:02:03``.

    Raises ValueError with one line to show.
    """
    found = _INSTANT.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"not a time: {clip(text.strip(), 12)}; type for example 90 or 1:30")
    seconds = int(found["h"] or 0) * 3600 + int(found["m"] or 0) * 60 + float(found["s"])
    if seconds > length_s:
        raise ValueError(f"the run is over at {clock(length_s)}")
    return seconds


class InstantScreen(Dialog[float | None]):
    """Returns the typed instant in seconds, or None when it was left."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", show=False)]

    def __init__(self, length_s: float) -> None:
        super().__init__()
        self._length_s = length_s

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = "go to"
            box.border_subtitle = "enter goes there   esc leaves it"
            yield Static(f"minutes:seconds, up to {clock(self._length_s)}", classes="quiet", markup=False)
            box_input = Input(placeholder="1:30", max_length=16)
            box_input.cursor_blink = False
            yield box_input
            yield Static("", classes="wrong", id="wrong", markup=False)

    def on_mount(self) -> None:
        self.query_one(Input).focus()

    @on(Input.Changed)
    def clear_fault(self) -> None:
        self.query_one("#wrong", Static).update("")

    @on(Input.Submitted)
    def take(self, event: Input.Submitted) -> None:
        if not event.value.strip():
            self.dismiss(None)
            return
        try:
            self.dismiss(parse_instant(event.value, self._length_s))
        except ValueError as error:
            self.query_one("#wrong", Static).update(f"✗ {error}")

    def action_leave(self) -> None:
        self.dismiss(None)
