"""The application as screens and panels of this package see it: the contract's Shell, and the styles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast

from textual.message_pump import MessagePump

from rvtop.contract.replay import Replay
from rvtop.contract.shell import Shell
from rvtop.ui.action import Action
from rvtop.ui.ghost import GhostKeeper
from rvtop.ui.past import Past
from rvtop.ui.pending_rate import PendingRate
from rvtop.ui.rate_memory import Rates
from rvtop.ui.sharing import Sharing
from rvtop.ui.sides import Sides
from rvtop.ui.theme import Styles


class ShowdownControls(Protocol):
    """What can be done to a showdown."""

    def skip(self) -> bool:
        """Ends the topology that runs and goes on with the next; False where none runs."""
        ...

    def next_reference(self) -> str:
        """Makes the next row with figures the reference; its name, or "" where no other has any."""
        ...


class ScreenShell(Shell, Protocol):
    """A Shell that also says how to draw and what the keys are."""

    @property
    def ascii(self) -> bool:
        """Whether only ASCII is drawn; panels need not care where a glyph can stand for a glyph."""
        ...

    @property
    def pending_rate(self) -> PendingRate:
        """The rate that the keys have asked for."""
        ...

    @property
    def sharing(self) -> Sharing:
        """What this screen may do, and who else sees the session."""
        ...

    @property
    def actions(self) -> tuple[Action, ...]:
        """What can be done, each with the keys that the user gave it."""
        ...

    def show_palette(self, places: str) -> None:
        """Opens the palette with the actions that hold in ``places``."""
        ...

    def show_events(self) -> None:
        """Opens the list of all events."""
        ...

    def show_runs(self) -> None:
        """Lists the stored runs; the chosen one is compared."""
        ...

    async def show_instant(self, t_s: float) -> None:
        """Shows the second of ``t_s`` (since the session's start) on the live screen."""
        ...

    def name_recording(self, recorded_s: float, then: Callable[[], None]) -> None:
        """Asks for the file of the recording that goes on, ends it, and goes on with ``then``."""
        ...

    @property
    def last_used(self) -> list[str]:
        """Names of actions chosen in the palette, the last one first."""
        ...

    @property
    def replay(self) -> Replay | None:
        """The stored run that is shown in place of a session, if one is."""
        ...

    @property
    def showdown(self) -> ShowdownControls | None:
        """The showdown that the session is part of."""
        ...

    @property
    def rates(self) -> Rates:
        """What is remembered of the session's rates, whichever screen is on top."""
        ...

    @property
    def past(self) -> Past:
        """The session's seconds that a frozen screen can go back to, whichever screen is on top."""
        ...

    @property
    def ghosts(self) -> GhostKeeper:
        """What the session was before, whichever screen is on top."""
        ...

    @property
    def sides(self) -> Sides:
        """What is compared."""
        ...

    @property
    def rich_styles(self) -> Styles:
        """The Rich styles to draw with (Textual's own ``styles`` are a widget's CSS)."""
        ...


def shell_of(node: MessagePump) -> ScreenShell:
    """The application that a mounted screen or widget belongs to."""
    return cast("ScreenShell", node.app)


def may_steer(shell: ScreenShell) -> bool:
    """Whether what is shown is a session that this screen may steer: not a stored run, nor one that it only
    watches."""
    return shell.replay is None and not shell.sharing.readonly
