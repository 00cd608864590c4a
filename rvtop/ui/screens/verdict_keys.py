"""The key that opens the verdict, and what comes of it."""

from __future__ import annotations

from rvtop.contract.command import Retarget
from rvtop.ui.screens.session_screen import SessionScreen
from rvtop.ui.screens.verdict import VerdictScreen
from rvtop.ui.sharing import STORED_RUN
from rvtop.ui.verdict_lines import trial


class VerdictKeys(SessionScreen):
    """Opens the box, and tries what it returns."""

    def action_verdict(self) -> None:
        s = self.newest
        if s is None or s.verdict is None:
            self.notify_briefly("no verdict: there is no load")
        else:
            self.app.push_screen(VerdictScreen(lambda: self.newest), self._try)

    def action_try_knob(self) -> None:
        """Tries the knob at once; without one that can be turned, explains."""
        s = self.newest
        what = None if s is None or s.verdict is None else trial(s) or s.verdict.line
        if what:
            self._try(what)
        else:
            self.action_verdict()

    def _try(self, what: Retarget | str | None) -> None:
        s = self.newest
        if what is None or s is None:
            return
        if isinstance(what, str):
            self.copy(what, what)
        elif self.shell.replay is not None:
            self.notify_briefly(STORED_RUN)
        elif s.switch is not None and not s.switch.waits:
            self.notify_briefly(f"the load is on its way to {s.switch.to} already")
        else:
            self.shell.send(what)
