"""The one loop that looks at the session: regularly, and more often for a moment after a command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from textual.app import App

from rvtop.contract.handle import SessionHandle
from rvtop.contract.snapshot import OVER
from rvtop.ui.ghost import GhostKeeper
from rvtop.ui.past import Past
from rvtop.ui.pending_rate import PendingRate
from rvtop.ui.rate_memory import Rates
from rvtop.ui.screens.session_screen import SessionScreen

#: Seconds between two polls of the session: 10 frames a second at most.
POLL_S = 0.1
#: The same after a command, and how often.
SOON_S, SOON_LOOKS = 0.04, 4
#: The same where the settings say ``motion: off``.
STILL_POLL_S = 1.0


class Polled(Protocol):
    """What :class:`Polling` asks of the application."""

    handle: SessionHandle | None
    pending_rate: PendingRate
    rates: Rates
    ghosts: GhostKeeper
    past: Past

    @property
    def session_screen(self) -> SessionScreen | None:
        """The topmost screen that shows the session, also while a dialog covers it."""
        ...


class Polling:
    """Feeds the newest snapshot of ``shell``'s session to its screen. ``ended`` is called once, by the first
    poll at which a session that was seen to run is over and no dialog that is being answered stands above
    its screen. Without ``motion`` it looks once a second, and never sooner."""

    def __init__(self, app: App[int], shell: Polled, ended: Callable[[], None], *, motion: bool) -> None:
        self._app, self._shell, self._ended, self._motion = app, shell, ended, motion
        self._ran = self._end_due = False
        self._soon_looks = 0

    def begin(self) -> None:
        """Looks from now on."""
        self._app.set_interval(POLL_S if self._motion else STILL_POLL_S, self.look)

    def new_session(self) -> None:
        """Nothing is remembered of the session before."""
        self._ran = self._end_due = False
        self._soon_looks = 0

    def look(self) -> None:
        """Hands the newest snapshot to the session's screen, unless it shows that one already."""
        shell, screen = self._shell, self._shell.session_screen
        if not self._app.is_running or shell.handle is None or screen is None or not screen.ready:
            return  # while the app closes, its screens lose their panels before they go themselves
        snapshot = shell.handle.snapshot()
        if snapshot is None or (screen.newest is not None and snapshot.seq == screen.newest.seq):
            screen.tick()
            self._tell_end()
            return
        shell.rates.observe(snapshot)
        shell.pending_rate.observe(snapshot)
        shell.ghosts.observe(snapshot)
        shell.past.observe(snapshot)
        over = snapshot.state in OVER
        self._end_due |= over and self._ran
        self._ran = not over
        with self._app.batch_update():
            screen.show(snapshot)
            screen.tick()
        self._tell_end()

    def _tell_end(self) -> None:
        if self._end_due and isinstance(self._app.screen, SessionScreen):
            self._end_due = False
            self._ended()

    def look_soon(self) -> None:
        """Looks more often for a moment: what comes of a command is drawn before the next regular look."""
        if not self._motion:
            return
        if not self._soon_looks:
            self._app.set_timer(SOON_S, self._soon)
        self._soon_looks = SOON_LOOKS

    def _soon(self) -> None:
        self._soon_looks -= 1
        self.look()
        if self._soon_looks > 0:
            self._app.set_timer(SOON_S, self._soon)
