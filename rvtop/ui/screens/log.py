"""The end of the log of a backend of ours, as long as it is looked at."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static

from rvtop.system.log_tail import last_lines
from rvtop.ui.screens.dialog import Dialog

_EACH_S = 1.0
#: Rows of the screen around the lines: the box and the space in and around it.
_AROUND = 6


class LogScreen(Dialog[None]):
    """Follows ``file``; returns nothing."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,l,enter", "dismiss", show=False),
    ]

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file
        self._shown: tuple[int, ...] = ()  # the rows, and the file's size and date, of what is shown

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = "log"
            box.border_subtitle = "esc"
            yield Static("", id="lines", markup=False)
            yield Static(str(self._file), classes="quiet", markup=False)

    def on_mount(self) -> None:
        self._read()
        self.set_interval(_EACH_S, self._read)

    def on_resize(self) -> None:
        self._read()

    def _read(self) -> None:
        rows = max(1, self.size.height - _AROUND)
        try:
            found = self._file.stat()
            now: tuple[int, ...] = (rows, found.st_size, found.st_mtime_ns)
        except OSError:
            now = (rows,)
        if now != self._shown:  # a file that stays is not read again
            self._shown = now
            self.put("#lines", "\n".join(last_lines(self._file, rows)) or "nothing is in it yet")
