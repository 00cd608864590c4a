"""The box that `t` opens: another server for the load that runs."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Static

from rvtop.contract.command import Retarget
from rvtop.contract.snapshot import Snapshot
from rvtop.contract.start import LookAround, StartFacts
from rvtop.ui.format import rate
from rvtop.ui.looking import look
from rvtop.ui.screens.dialog import Dialog
from rvtop.ui.shell import shell_of
from rvtop.ui.switch_lines import (
    SwitchChoice,
    choice_line,
    choices_of,
    command_of,
    consequence,
    failed_log,
    has_room,
    meanwhile,
)


class _Choices(Widget):
    DEFAULT_CSS = """
    _Choices { height: auto; background: $rv-background; }
    """

    def __init__(self, dialog: SwitchScreen) -> None:
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


class SwitchScreen(Dialog[Retarget | None]):
    """Returns the command, or None when it was left. ``look_around`` is asked in a thread."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("enter", "go", show=False),
        Binding("p", "pause", show=False),
        Binding("x", "keep", show=False),
        Binding("escape,t", "leave", show=False),
    ]

    def __init__(self, snapshot: Snapshot, facts: StartFacts, look_around: LookAround) -> None:
        super().__init__()
        self._snapshot, self._facts, self._look_around = snapshot, facts, look_around
        self._keep: bool | None = None  # until the user says: as there is room
        self._pause = False
        self.cursor = 0
        self.choices: list[SwitchChoice] = choices_of(snapshot, facts)
        self._stand()

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            held = self._snapshot.load.target_rps
            at = "" if held is None else f", load held at {rate(held)} rps"
            box.border_title = f"switch topology{at}"
            box.border_subtitle = "enter   p pause load meanwhile   esc"
            yield _Choices(self)
            if log := failed_log(self._snapshot):
                yield Static("\n".join(f"│ {line}" for line in log), id="log", markup=False)
            yield Static("", id="keep", classes="quiet", markup=False)
            yield Static("", id="meanwhile", classes="quiet", markup=False)
            yield Static("", id="wrong", classes="wrong", markup=False)

    def on_mount(self) -> None:
        self._say()
        look(self, self._look_around, self.take)

    @property
    def keep(self) -> bool:
        """Whether the server of now stays up."""
        return (
            (has_room(self._facts) or not self._snapshot.target.owned) if self._keep is None else self._keep
        )

    def consequence(self, number: int) -> str:
        """What choosing it means."""
        return consequence(self.choices[number], self._snapshot, self._facts, keep=self.keep)

    def take(self, facts: StartFacts) -> None:
        """Shows what was found; the cursor stays at what it pointed to."""
        before = self.choices[self.cursor] if self.choices else None
        self._facts, self.choices = facts, choices_of(self._snapshot, facts)
        same = [
            i
            for i, one in enumerate(self.choices)
            if before and (one.name, one.url) == (before.name, before.url)
        ]
        self.cursor = same[0] if same else 0
        self._say()

    def _stand(self) -> None:
        can = [i for i, one in enumerate(self.choices) if not one.why]
        self.cursor = can[0] if can else 0

    def _say(self) -> None:
        target = self._snapshot.target
        keep = "x" if self.keep else " "
        text = (
            f"this server stays up: [{keep}] until rvtop ends" if target.owned else "this server is not ours"
        )
        if not self.choices:
            text = "looking for servers …" if not self._facts.complete else "no other server is known"
        self.query_one("#keep", Static).update(text)
        choice = self.choices[self.cursor] if self.choices else None
        said = meanwhile(choice, self._snapshot, self._facts, keep=self.keep, pause=self._pause)
        self.query_one("#meanwhile", Static).update(said)
        self.query_one(_Choices).refresh(layout=True)

    def action_move(self, step: int) -> None:
        self.cursor = max(0, min(len(self.choices) - 1, self.cursor + step))
        self.query_one("#wrong", Static).update("")
        self._say()

    def action_pause(self) -> None:
        self._pause = not self._pause
        self._say()

    def action_keep(self) -> None:
        if self._snapshot.target.owned:
            self._keep = not self.keep
            self._say()

    def action_go(self) -> None:
        if not self.choices:
            return
        choice = self.choices[self.cursor]
        if choice.why:
            fix = f"; fix: {choice.fix}" if choice.fix else ""
            what = f"{choice.url} can't be loaded" if choice.url else f"{choice.name} can't be started here"
            self.query_one("#wrong", Static).update(f"✗ {what}: {choice.why}{fix}")
            return
        self.dismiss(command_of(choice, self._snapshot, self._facts, keep=self.keep, pause=self._pause))

    def action_leave(self) -> None:
        self.dismiss(None)
