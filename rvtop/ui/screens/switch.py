"""The box that `t` opens: another server for the load that runs."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static

from rvtop.contract.command import Retarget
from rvtop.contract.snapshot import Snapshot
from rvtop.contract.start import LookAround, StartFacts
from rvtop.ui.format import rate
from rvtop.ui.screens.server_list import ServerList, ServerRows
from rvtop.ui.switch_lines import (
    SwitchChoice,
    choices_of,
    command_of,
    consequence,
    failed_log,
    has_room,
    meanwhile,
)


class SwitchScreen(ServerList[Retarget]):
    """Returns the command, or None when it was left."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "pause", show=False),
        Binding("x", "keep", show=False),
    ]

    def __init__(self, snapshot: Snapshot, facts: StartFacts, look_around: LookAround) -> None:
        self._keep: bool | None = None  # until the user says: as there is room
        self._pause = False
        super().__init__(snapshot, facts, look_around)

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            held = self._snapshot.load.target_rps
            at = "" if held is None else f", load held at {rate(held)} rps"
            box.border_title = f"switch topology{at}"
            box.border_subtitle = "enter   p pause load meanwhile   esc"
            yield ServerRows(self)
            if log := failed_log(self._snapshot):
                yield Static("\n".join(f"│ {line}" for line in log), id="log", markup=False)
            yield Static("", id="keep", classes="quiet", markup=False)
            yield Static("", id="meanwhile", classes="quiet", markup=False)
            yield Static("", id="wrong", classes="wrong", markup=False)

    @property
    def keep(self) -> bool:
        """Whether the server of now stays up."""
        return (
            (has_room(self._facts) or not self._snapshot.target.owned) if self._keep is None else self._keep
        )

    def found(self, facts: StartFacts) -> list[SwitchChoice]:
        return choices_of(self._snapshot, facts)

    def consequence(self, number: int) -> str:
        return consequence(self.choices[number], self._snapshot, self._facts, keep=self.keep)

    def say(self) -> None:
        target = self._snapshot.target
        keep = "x" if self.keep else " "
        text = (
            f"this server stays up: [{keep}] until rvtop ends" if target.owned else "this server is not ours"
        )
        if not self.choices:
            text = "looking for servers …" if not self._facts.complete else "no other server is known"
        self.query_one("#keep", Static).update(text)
        said = meanwhile(self.choice, self._snapshot, self._facts, keep=self.keep, pause=self._pause)
        self.query_one("#meanwhile", Static).update(said)

    def go(self, choice: SwitchChoice) -> None:
        self.dismiss(command_of(choice, self._snapshot, self._facts, keep=self.keep, pause=self._pause))

    def action_pause(self) -> None:
        self._pause = not self._pause
        self.refresh_list()

    def action_keep(self) -> None:
        if self._snapshot.target.owned:
            self._keep = not self.keep
            self.refresh_list()
