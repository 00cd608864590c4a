"""What the boxes share that list servers to go to: the list, its cursor, and the looking around for them."""

from __future__ import annotations

from typing import Any, ClassVar

from textual.binding import Binding, BindingType
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Static

from rvtop.contract.snapshot import Snapshot
from rvtop.contract.start import LookAround, StartFacts
from rvtop.ui.looking import look
from rvtop.ui.screens.dialog import Dialog, T
from rvtop.ui.shell import shell_of
from rvtop.ui.switch_lines import SwitchChoice, choice_line


class ServerRows(Widget):
    """The list of a box."""

    DEFAULT_CSS = """
    ServerRows { height: auto; background: $rv-background; }
    """

    def __init__(self, dialog: ServerList[Any]) -> None:
        super().__init__()
        self._dialog = dialog

    def get_content_height(self, container: object, viewport: object, width: int) -> int:
        return max(1, len(self._dialog.choices))

    def render_line(self, y: int) -> Strip:
        dialog, styles, width = self._dialog, shell_of(self).rich_styles, self.size.width
        if y >= len(dialog.choices):
            return Strip.blank(width, styles.base)
        line = choice_line(dialog.choices[y], y == dialog.cursor, dialog.consequence(y), styles, width)
        return line.strip(width, styles.base)


class ServerList(Dialog[T | None]):
    """A box with ``ServerRows``, and a ``Static`` ``#wrong`` for why a choice can't be. Returns None when it
    was left. ``look_around`` is asked in a thread."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("enter", "go", show=False),
        Binding("escape,t", "leave", show=False),
    ]

    def __init__(self, snapshot: Snapshot, facts: StartFacts, look_around: LookAround) -> None:
        super().__init__()
        self._snapshot, self._facts, self._look_around = snapshot, facts, look_around
        self.choices: list[SwitchChoice] = self.found(facts)
        can = [i for i, one in enumerate(self.choices) if not one.why]
        self.cursor = can[0] if can else 0

    # -- what a box says of itself -----------------------------------------------------------

    def found(self, facts: StartFacts) -> list[SwitchChoice]:
        """The servers to list."""
        raise NotImplementedError

    def consequence(self, number: int) -> str:
        """What choosing it means."""
        raise NotImplementedError

    def say(self) -> None:
        """Writes what stands below the list."""
        raise NotImplementedError

    def go(self, choice: SwitchChoice) -> None:
        """Closes the box with one that can be chosen."""
        raise NotImplementedError

    # -- what all do -------------------------------------------------------------------------

    @property
    def choice(self) -> SwitchChoice | None:
        """The one at the cursor."""
        return self.choices[self.cursor] if self.choices else None

    def on_mount(self) -> None:
        self.refresh_list()
        look(self, self._look_around, self.take)

    def take(self, facts: StartFacts) -> None:
        """Shows what was found; the cursor stays at what it pointed to."""
        before = self.choice
        self._facts, self.choices = facts, self.found(facts)
        same = [
            i
            for i, one in enumerate(self.choices)
            if before and (one.name, one.url) == (before.name, before.url)
        ]
        self.cursor = same[0] if same else 0
        self.refresh_list()

    def refresh_list(self) -> None:
        """Draws the list, and what stands below it."""
        self.say()
        self.query_one(ServerRows).refresh(layout=True)

    def action_move(self, step: int) -> None:
        self.cursor = max(0, min(len(self.choices) - 1, self.cursor + step))
        self.query_one("#wrong", Static).update("")
        self.refresh_list()

    def action_go(self) -> None:
        choice = self.choice
        if choice is None:
            return
        if choice.why:
            fix = f"; fix: {choice.fix}" if choice.fix else ""
            what = f"{choice.url} can't be loaded" if choice.url else f"{choice.name} can't be started here"
            self.query_one("#wrong", Static).update(f"✗ {what}: {choice.why}{fix}")
            return
        self.go(choice)

    def action_leave(self) -> None:
        self.dismiss(None)
