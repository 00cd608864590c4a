"""Every action by its name: type a part of it, choose, enter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.geometry import Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Input

from rvtop.ui.action import Action
from rvtop.ui.draw import Line
from rvtop.ui.format import clip
from rvtop.ui.screens.dialog import Dialog
from rvtop.ui.shell import shell_of
from rvtop.ui.widgets.typed_line import TypedLine

ROWS = 12


def matching(typed: str, actions: Sequence[Action], last_used: Sequence[str]) -> list[Action]:
    """The actions whose names hold every word that was typed: the last used first, then as in the table."""
    words = typed.lower().split()
    found = [action for action in actions if all(word in action.name.lower() for word in words)]
    rank = {name: place for place, name in enumerate(last_used)}
    return sorted(found, key=lambda action: rank.get(action.name, len(rank)))


class Choices(Widget):
    """The actions that match, a line each, with a cursor."""

    DEFAULT_CSS = """
    Choices { height: auto; background: $rv-background; }
    """
    ALLOW_SELECT = False

    class Chosen(Message):
        def __init__(self, action: Action) -> None:
            super().__init__()
            self.action = action

    def __init__(self, actions: Sequence[Action]) -> None:
        super().__init__()
        self.actions = list(actions)
        self.cursor = 0

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return min(ROWS, self.app.size.height - 6)

    def list(self, actions: Sequence[Action]) -> None:
        """Shows ``actions``, the cursor on the first one."""
        self.actions, self.cursor = list(actions), 0
        self.refresh()

    def move(self, step: int) -> None:
        self.cursor = max(0, min(len(self.actions) - 1, self.cursor + step))
        self.refresh()

    @property
    def chosen(self) -> Action | None:
        return self.actions[self.cursor] if self.actions else None

    def _first(self) -> int:
        """The action in the upper row."""
        return max(0, self.cursor - self.size.height + 1)

    def render_line(self, y: int) -> Strip:
        styles, width = shell_of(self).rich_styles, self.size.width
        number = self._first() + y
        if number >= len(self.actions):
            text = "no action has all of these words" if y == 0 and not self.actions else ""
            return Line(text, styles.quiet).strip(width, styles.base)
        action, here = self.actions[number], number == self.cursor
        name, quiet = (styles.cursor, styles.cursor_quiet) if here else (styles.base, styles.quiet)
        keys = action.show or "--"
        line = Line(" ▸ " if here else "   ", name)
        line.put(clip(action.name, max(1, width - len(keys) - 6)), name)
        line.put(" " * (width - line.width - len(keys) - 1), quiet).put(keys, quiet)
        return line.strip(width, quiet if here else styles.base)

    def on_click(self, event: events.Click) -> None:
        number = self._first() + event.y
        if number < len(self.actions):
            self.post_message(self.Chosen(self.actions[number]))


class PaletteScreen(Dialog[Action | None]):
    """Returns the action to do, or None when it was left."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", show=False),
        Binding("up", "move(-1)", show=False),
        Binding("down", "move(1)", show=False),
        Binding("tab", "complete", show=False),
    ]

    def __init__(self, actions: Sequence[Action], last_used: Sequence[str]) -> None:
        super().__init__()
        self._actions, self._last_used = tuple(actions), tuple(last_used)
        self._listed = ""

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = "actions"
            box.border_subtitle = "↑↓ enter   tab completes   esc"
            yield TypedLine(self.take, hint="a part of its name", longest=60)
            yield Choices(matching("", self._actions, self._last_used))

    @on(Input.Changed)
    def narrow(self) -> None:
        self._choices()

    def _choices(self) -> Choices:
        """The list of what matches by now: the message of what was typed may come after the next key."""
        choices, typed = self.query_one(Choices), self.query_one(Input).value
        if typed != self._listed:
            self._listed = typed
            choices.list(matching(typed, self._actions, self._last_used))
        return choices

    def take(self, _typed: str) -> None:
        """Returns the chosen action."""
        if (chosen := self._choices().chosen) is not None:
            self.dismiss(chosen)

    @on(Choices.Chosen)
    def take_clicked(self, event: Choices.Chosen) -> None:
        self.dismiss(event.action)

    def action_move(self, step: int) -> None:
        self._choices().move(step)

    def action_complete(self) -> None:
        if (chosen := self._choices().chosen) is not None:
            field = self.query_one(Input)
            field.value = chosen.name
            field.cursor_position = len(chosen.name)

    def action_leave(self) -> None:
        self.dismiss(None)
