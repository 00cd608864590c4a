"""A small box to type a rate into."""

from __future__ import annotations

import math
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input, Static

from rvtop.ui.format import clip, rate
from rvtop.ui.screens.dialog import Dialog


def parse_rate(text: str, most: float | None) -> float:
    """The requests per second that ``text`` means. Raises ValueError with one line to show."""
    typed = text.strip()
    try:
        value = float(typed.replace(",", "."))
    except ValueError:
        raise ValueError(f"not a number: {clip(typed, 12)}; type for example 12.5") from None
    if not math.isfinite(value):
        raise ValueError(f"{typed} is no rate; type for example 12.5")
    if value < 0:
        raise ValueError(f"a rate is 0 or more, not {typed}")
    if most is not None and value > most:
        raise ValueError(f"{typed} is over the maximum of {rate(most)} (--max-rate)")
    return value


class RateScreen(Dialog[float | None]):
    """Returns the typed rate, or None when it was left."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", show=False)]

    def __init__(self, now: float | None, most: float | None) -> None:
        super().__init__()
        self._now, self._most = now, most

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = "set the rate"
            box.border_subtitle = "enter sets it   esc leaves it"
            hint = f"requests a second, now {rate(self._now)}"
            if self._most is not None:
                hint += f", at most {rate(self._most)}"
            yield Static(hint, classes="quiet", markup=False)
            box_input = Input(placeholder="12.5", max_length=24)
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
            self.dismiss(parse_rate(event.value, self._most))
        except ValueError as error:
            self.query_one("#wrong", Static).update(f"✗ {error}")

    def action_leave(self) -> None:
        self.dismiss(None)
