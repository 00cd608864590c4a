"""The keys of the ghost, on every screen that draws it."""

from __future__ import annotations

from rvtop.ui.screens.session_screen import SessionScreen
from rvtop.ui.shell import ScreenShell


class GhostKeys(SessionScreen):
    """Shows, hides and keeps the ghost; its subclasses draw it."""

    def __init__(self, shell: ScreenShell) -> None:
        super().__init__(shell)
        self._ghosts = shell.ghosts

    def _show_again(self) -> None:
        """Draws the same snapshot with the ghost as it is now."""
        raise NotImplementedError

    def action_ghost(self) -> None:
        if self._ghosts.ghost is None:
            self.notify_briefly("no ghost yet; B keeps what is now as one, a switch what was before")
            return
        self._ghosts.hidden = not self._ghosts.hidden
        self._show_again()

    def action_keep_ghost(self) -> None:
        if self.snapshot is None or not self._ghosts.keep(self.snapshot):
            self.notify_briefly("nothing to keep: no first token in the last 10 s")
            return
        self.notify_briefly("what is now stays as the ghost; b hides it")
        self._show_again()
