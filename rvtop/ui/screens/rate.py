"""A small box to type a rate into."""

from __future__ import annotations

import math
import re
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input, Static

from rvtop.ui.format import clip, rate
from rvtop.ui.screens.dialog import Dialog

_CHANGE = re.compile(r"(?P<percent>[+-]\d+(?:[.,]\d+)?)\s*%|[x×*]\s*(?P<times>\d+(?:[.,]\d+)?)")
_HINT = "type for example 12.5, +10% or x2"


def parse_rate(text: str, most: float | None, now: float | None = None) -> float:
    """The requests per second that ``text`` means: a number, or a change of ``now`` (``+10%``, ``x2``).

    Raises ValueError with one line to show.
    """
    typed = text.strip()
    if changed := _CHANGE.fullmatch(typed):
        by = float((changed["percent"] or changed["times"]).replace(",", "."))
        value = (now or 0.0) * (1 + by / 100 if changed["percent"] else by)
        return _checked(float(f"{value:.6g}"), typed, most)
    try:
        value = float(typed.replace(",", "."))
    except ValueError:
        raise ValueError(f"not a number: {clip(typed, 12)}; {_HINT}") from None
    return _checked(value, typed, most)


def _checked(value: float, typed: str, most: float | None) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{typed} is no rate; {_HINT}")
    if value < 0:
        raise ValueError(f"a rate is 0 or more, not {typed}")
    if most is not None and value > most:
        raise ValueError(f"{typed} is over the maximum of {rate(most)} (--max-rate)")
    return value


class RateScreen(Dialog[float | None]):
    """Returns the typed rate, or None when it was left."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", show=False)]

    def __init__(self, now: float | None, most: float | None, begin: str = "") -> None:
        super().__init__()
        self._begin = begin  # what stands in the box already
        self._now, self._most = now, most

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = "set the rate"
            box.border_subtitle = "enter sets it   esc leaves it"
            hint = f"requests a second, now {rate(self._now)}"
            if self._most is not None:
                hint += f", at most {rate(self._most)}"
            yield Static(hint, classes="quiet", markup=False)
            box_input = Input(self._begin, placeholder="12.5   +10%   x2", max_length=24)
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
            self.dismiss(parse_rate(event.value, self._most, self._now))
        except ValueError as error:
            self.query_one("#wrong", Static).update(f"✗ {error}")

    def action_leave(self) -> None:
        self.dismiss(None)
