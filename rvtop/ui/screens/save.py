"""Asks what of a run is to be saved: its recording as a scenario, a report, a page that plays it."""

from __future__ import annotations

from typing import ClassVar, Literal

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static

from rvtop.ui.format import clock
from rvtop.ui.saving import CLIP, REPORT
from rvtop.ui.screens.dialog import Dialog

Saved = Literal["scenario", "report", "clip"]


class SaveScreen(Dialog[Saved | None]):
    """Returns what to save, None for nothing. ``recorded_s``: how long a recording goes on, None without one;
    ``folder`` is the run's."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "answer('report')", show=False),
        Binding("c", "answer('clip')", show=False),
        Binding("s", "answer('scenario')", show=False),
        Binding("escape,q,n", "answer(None)", show=False),
    ]

    def __init__(self, folder: str, recorded_s: float | None) -> None:
        super().__init__()
        self._folder, self._recorded_s = folder, recorded_s

    def compose(self) -> ComposeResult:
        scenario = (
            "s  scenario   nothing is recorded: r, on the screen, begins"
            if self._recorded_s is None
            else f"s  scenario   ends the recording of {clock(self._recorded_s)}"
        )
        keys = "r report   c clip   s scenario   esc"
        with Vertical(id="box") as box:
            box.border_title, box.border_subtitle = "save", keys
            yield Static(keys, classes="keys")
            yield Static(f"r  report     the run so far as one page: {REPORT}", markup=False)
            yield Static(f"c  clip       a page that plays it: {CLIP}", markup=False)
            yield Static(scenario, classes="quiet" if self._recorded_s is None else "", markup=False)
            yield Static(f"\nPages go to {self._folder}; the load goes on.", classes="quiet", markup=False)

    def action_answer(self, answer: Saved | None) -> None:
        if answer != "scenario" or self._recorded_s is not None:
            self.dismiss(answer)
