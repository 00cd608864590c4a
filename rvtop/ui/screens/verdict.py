"""The box that `v` opens: why the system is bound, and the try of its knob."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from rvtop.contract.command import Retarget
from rvtop.contract.snapshot import Snapshot
from rvtop.ui.screens.dialog import Dialog
from rvtop.ui.verdict_lines import dialog_lines, trial

_EACH_S = 1.0
#: What the box's edges take of the screen's width.
_EDGES = 10


class VerdictScreen(Dialog[Retarget | str | None]):
    """Returns what tries the knob: a command, or the line to use on a server that is not ours; None when it
    was left or there is nothing to try. ``newest`` gives the picture of now; enter does what is shown."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,v", "leave", show=False),
        Binding("enter", "go", show=False),
        Binding("up,k", "by(-1)", show=False),
        Binding("down,j", "by(1)", show=False),
    ]

    def __init__(self, newest: Callable[[], Snapshot | None]) -> None:
        super().__init__()
        self._newest = newest
        self._shown: Snapshot | None = None

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="box") as box:
            box.can_focus = False
            yield Static("", id="lines", markup=False)

    def on_mount(self) -> None:
        self._read()
        self.call_after_refresh(self._read)  # the box has its width now
        self.set_interval(_EACH_S, self._read)

    def _read(self) -> None:
        s = self._shown = self._newest()
        if s is None:
            return
        box = self.query_one("#box")
        line = s.verdict.line if s.verdict is not None else ""
        tries = "enter try it   " if trial(s) else "enter copy the line   " if line else ""
        box.border_subtitle = f"↑↓   {tries}esc"
        box.border_title = s.verdict.title if s.verdict is not None else "no load"
        width = box.scrollable_content_region.width or self.app.size.width - _EDGES
        self.put("#lines", "\n".join(dialog_lines(s, width)))

    def action_by(self, rows: int) -> None:
        self.query_one("#box").scroll_relative(y=rows, animate=False)

    def action_leave(self) -> None:
        self.dismiss(None)

    def action_go(self) -> None:
        s = self._shown
        if s is None or s.verdict is None:
            self.dismiss(None)
            return
        self.dismiss(trial(s) or s.verdict.line or None)
