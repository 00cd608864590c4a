"""What all dialogs share: a box in the middle of the dimmed screen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from rvtop.ui.widgets.typed_line import TypedLine

T = TypeVar("T")


class Dialog(ModalScreen[T], Generic[T]):
    """A modal box; its subclasses fill ``#box``. Styled in ``dialog.tcss``."""

    HORIZONTAL_BREAKPOINTS = [(0, "-small"), (50, "-wide")]  # noqa: RUF012  (as Textual declares it)
    VERTICAL_BREAKPOINTS = [(0, "-least"), (5, "-low"), (14, "-high")]  # noqa: RUF012

    def put(self, where: str, text: str) -> None:
        """Writes ``text`` into the Static at ``where``; one that says it already is not laid out again."""
        static = self.query_one(where, Static)
        if static.content != text:
            static.update(text)

    def on_mount(self) -> None:
        line = next(iter(self.query(Input)), None)
        if line is not None:
            self.set_focus(line)


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
    nothing was typed. ``parse`` raises ValueError with the line to show in the box. ``preview`` says, while
    it is typed, what will come of what was understood."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", show=False)]
    NOTHING: ClassVar[Any] = None

    def __init__(
        self, asked: Asked, parse: Callable[[str], T], preview: Callable[[T], str] | None = None
    ) -> None:
        super().__init__()
        self._asked, self._parse, self._preview = asked, parse, preview
        self._wrong: str | None = None  # the text whose fault is shown

    def compose(self) -> ComposeResult:
        asked = self._asked
        with Vertical(id="box") as box:
            box.border_title, box.border_subtitle = asked.title, asked.subtitle
            yield Static(asked.hint, classes="quiet", markup=False)
            yield TypedLine(self.take, asked.begin, hint=asked.placeholder, longest=asked.longest)
            if self._preview is not None:
                preview = Static(self._foreseen(asked.begin), id="preview", markup=False)
                preview.display = bool(preview.content)
                yield preview
            yield Static("", classes="wrong", id="wrong", markup=False)

    @on(Input.Changed)
    def follow_typing(self) -> None:
        if self.query_one(Input).value != self._wrong:  # what was typed before is told of after its fault
            self.query_one("#wrong", Static).update("")
        if self._preview is not None:
            preview = self.query_one("#preview", Static)
            preview.update(self._foreseen(self.query_one(Input).value))
            preview.display = bool(preview.content)

    def _foreseen(self, text: str) -> str:
        """What will come of ``text``; of what is not understood, or not yet, nothing is said before enter."""
        if self._preview is None or not text.strip():
            return ""
        try:
            return self._preview(self._parse(text))
        except ValueError:
            return ""

    def take(self, text: str) -> None:
        """Returns what ``text`` means, or shows what is wrong with it."""
        if not text.strip():
            self.dismiss(self.NOTHING)
            return
        try:
            found = self._parse(text)
        except ValueError as error:
            self._wrong = text
            self.query_one("#wrong", Static).update(f"✗ {error}")
        else:
            self.dismiss(found)

    def action_leave(self) -> None:
        self.dismiss(None)
