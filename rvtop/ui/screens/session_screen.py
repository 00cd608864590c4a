"""What every screen that shows a session has in common: new snapshots, help and quitting."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.screen import Screen

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.shell import ScreenShell
from rvtop.ui.widgets.panel import Panel


class SessionScreen(Screen[None]):
    """A screen of the table in ``screens/table.py``.

    The application feeds the one on top: ``show`` gets each new snapshot, ``tick`` comes with every poll.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "help", show=False),
        Binding("q", "quit", show=False),
    ]
    AUTO_FOCUS = ""

    def __init__(self, shell: ScreenShell) -> None:
        super().__init__()
        self.shell = shell
        self.ready = False  # its widgets are mounted
        self.snapshot: Snapshot | None = None  # the one that is drawn
        self._panels: list[Panel] = []

    def on_mount(self) -> None:
        self._panels = list(self.query(Panel))
        self.ready = True
        self.shell.poll()

    def on_resize(self) -> None:
        for panel in self._panels:  # one that keeps its size may have other text on a screen of another size
            panel.repaint()

    def show(self, s: Snapshot) -> None:
        """Draws ``s``. The caller holds the batch."""
        self.snapshot = s
        for panel in self._panels:
            panel.show(s)

    def tick(self) -> None:
        """Updates what depends on the time alone."""

    def action_help(self) -> None:
        focused = self.focused
        self.shell.show_help(focused.TOPIC if isinstance(focused, Panel) else None)

    async def action_quit(self) -> None:
        await self.app.run_action("quit")
