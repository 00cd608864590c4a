"""Asks before a scenario that has not ended, or a recording without a name, is left."""

from __future__ import annotations

from typing import ClassVar, Literal

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static

from rvtop.contract.snapshot import Snapshot
from rvtop.text import phase_words
from rvtop.ui.format import clock
from rvtop.ui.screens.dialog import Dialog

Answer = Literal["leave", "save", "stay"]


def why_ask(s: Snapshot | None) -> str:
    """Why leaving now needs a question, one line; empty where it needs none."""
    if s is None or s.phase is None or s.state not in ("running", "paused", "draining"):
        return ""
    phase = s.phase
    if s.recording_s is not None and s.recording_unnamed:
        return f"the recording of {clock(s.recording_s)} has no name and would stay in the run folder"
    if phase.duration_s is None and phase.index + 1 == phase.count:
        return ""  # driven by hand: it has no end to miss
    if s.state == "draining" and phase.index + 1 == phase.count:
        return "the last answers of this scenario are still coming in"
    done = clock(phase.elapsed_s) + (f" of {clock(phase.duration_s)}" if phase.duration_s is not None else "")
    return f"the scenario is in phase {phase_words(phase.name)}, {phase.index + 1} of {phase.count}, {done}"


class LeaveScreen(Dialog[Answer]):
    """Returns what to do; ``save`` is a choice where a recording is ``unnamed``."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y,q", "answer('leave')", show=False),
        Binding("n,escape", "answer('stay')", show=False),
        Binding("s", "answer('save')", show=False),
    ]

    def __init__(self, why: str, ends: str, *, unnamed: bool = False) -> None:
        super().__init__()
        self._why, self._ends, self._unnamed = why, ends, unnamed

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = "leave?"
            keys = "y leaves   s names it, leaves   n stays" if self._unnamed else "y leaves   n stays"
            box.border_subtitle = keys
            yield Static(keys, classes="keys")
            yield Static(f"Asked since {self._why}.", markup=False)
            yield Static("\nThe results so far are written in any case.", classes="quiet", markup=False)
            if self._ends:
                yield Static(f"{self._ends} is rvtop's own and ends too.", classes="quiet", markup=False)

    def action_answer(self, answer: Answer) -> None:
        if answer != "save" or self._unnamed:
            self.dismiss(answer)
