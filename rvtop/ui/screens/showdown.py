"""Showdown: topologies one after another with the same work, a row each."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.screens.steering import Steering
from rvtop.ui.widgets.header import Header
from rvtop.ui.widgets.showdown import NowPanel, ShowdownFooter, ShowdownPanel


class ShowdownScreen(Steering):
    PLACES: ClassVar[str] = "AW"
    VERTICAL_BREAKPOINTS = [(0, "-low"), (18, "-high")]  # noqa: RUF012  (Textual's own declaration)
    CSS = """
    ShowdownScreen { layout: vertical; }
    ShowdownScreen.-low NowPanel { display: none; }
    """

    def compose(self) -> ComposeResult:
        yield Header()
        yield ShowdownPanel()
        yield NowPanel()
        yield ShowdownFooter(self.PLACES)

    def show(self, s: Snapshot) -> None:
        now = self.query_one(NowPanel)
        now.styles.height = 1 + now.wanted(s)  # its rule, its figures, its notes
        super().show(s)

    def action_next_phase(self) -> None:
        """Skips the topology that runs."""
        controls = self.shell.showdown
        if controls is not None and controls.skip():
            self.notify_briefly("skipped: it ends, and the next one starts")
        else:
            self.notify_briefly("nothing runs that could be skipped")

    def action_reference(self) -> None:
        controls = self.shell.showdown
        name = controls.next_reference() if controls is not None else ""
        if name:
            self.notify_briefly(f"changes are told against {name}")
            self.shell.poll()
        else:
            self.notify_briefly("no other topology has figures yet")

    async def action_open(self) -> None:
        """Shows the topology that runs."""
        await self.app.run_action("app.show_screen('live')")
