"""Asks before a scenario that has not ended is left."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.format import clock
from rvtop.ui.screens.dialog import Dialog


def why_ask(s: Snapshot | None) -> str:
    """Why leaving now needs a question, one line; empty where it needs none."""
    if s is None or s.phase is None or s.state not in ("running", "paused", "draining"):
        return ""
    phase = s.phase
    if phase.duration_s is None and phase.count == 1:
        return ""  # driven by hand: it has no end to miss
    if s.state == "draining" and phase.index + 1 == phase.count:
        return "the last answers of this scenario are still coming in"
    done = clock(phase.elapsed_s) + (f" of {clock(phase.duration_s)}" if phase.duration_s is not None else "")
    return f"the scenario is in phase {phase.name}, {phase.index + 1} of {phase.count}, {done}"


class LeaveScreen(Dialog[bool]):
    """Returns True to leave."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y,q", "answer(True)", show=False),
        Binding("n,escape", "answer(False)", show=False),
    ]

    def __init__(self, why: str, ends: str) -> None:
        super().__init__()
        self._why, self._ends = why, ends

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = "leave?"
            box.border_subtitle = "y leaves   n stays"
            yield Static("y leaves   n stays", classes="keys")
            yield Static(f"Asked since {self._why}.", markup=False)
            yield Static("\nThe results so far are written in any case.", classes="quiet", markup=False)
            if self._ends:
                yield Static(f"{self._ends} is rvtop's own and ends too.", classes="quiet", markup=False)

    def action_answer(self, yes: bool) -> None:
        self.dismiss(yes)
