"""What all dialogs share: a box in the middle of the dimmed screen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.events import Key
from textual.screen import ModalScreen
from textual.widgets import Input, Static

T = TypeVar("T")


class Dialog(ModalScreen[T], Generic[T]):
    """A modal box; its subclasses fill ``#box``. Styled in ``dialog.tcss``."""

    HORIZONTAL_BREAKPOINTS = [(0, "-small"), (50, "-wide")]  # noqa: RUF012  (as Textual declares it)
    VERTICAL_BREAKPOINTS = [(0, "-least"), (5, "-low"), (14, "-high")]  # noqa: RUF012

    _there = False
    _early: tuple[Key, ...] = ()  # keys from before it was there

    def on_mount(self) -> None:
        line = self._line
        if line is not None:
            self.set_focus(line)
        self._there, early, self._early = True, self._early, ()
        for number, event in enumerate(early):
            if not self._type(event):  # and what is behind it
                for one in early[number:]:
                    self.app.post_message(Key(one.key, one.character))
                return

    def take_key(self, event: Key) -> bool:
        """A key that was on its way to the screen below when this opened, as when several are typed at once.
        True: it is done with."""
        if self._there:
            return self._type(event)
        self._early = (*self._early, event)
        return True

    @property
    def _line(self) -> Input | None:
        return next(iter(self.query(Input)), None)

    def _type(self, event: Key) -> bool:
        line = self._line
        if line is None or not event.is_printable or event.character is None:
            return False
        line.insert_text_at_cursor(event.character)
        return True


@dataclass(frozen=True, slots=True)
class Asked:
    """What a box asks for. ``longest``: characters that can be typed; ``begin``: what stands there before."""

    title: str
    subtitle: str
    hint: str
    placeholder: str
    longest: int
    begin: str = ""


class TypedDialog(Dialog[T | None]):
    """A line to type; returns what ``parse`` makes of it, None when it was left, or ``NOTHING`` when
    nothing was typed. ``parse`` raises ValueError with the line to show in the box."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", show=False)]
    NOTHING: ClassVar[Any] = None

    def __init__(self, asked: Asked, parse: Callable[[str], T]) -> None:
        super().__init__()
        self._asked, self._parse = asked, parse

    def compose(self) -> ComposeResult:
        asked = self._asked
        with Vertical(id="box") as box:
            box.border_title, box.border_subtitle = asked.title, asked.subtitle
            yield Static(asked.hint, classes="quiet", markup=False)
            line = Input(asked.begin, placeholder=asked.placeholder, max_length=asked.longest)
            line.cursor_blink = False
            yield line
            yield Static("", classes="wrong", id="wrong", markup=False)

    @on(Input.Changed)
    def clear_fault(self) -> None:
        self.query_one("#wrong", Static).update("")

    @on(Input.Submitted)
    def take(self, event: Input.Submitted) -> None:
        if not event.value.strip():
            self.dismiss(self.NOTHING)
            return
        try:
            self.dismiss(self._parse(event.value))
        except ValueError as error:
            self.query_one("#wrong", Static).update(f"✗ {error}")

    def action_leave(self) -> None:
        self.dismiss(None)
