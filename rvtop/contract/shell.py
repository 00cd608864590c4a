"""What a screen asks of the application that shows it. It names no toolkit and nothing of ``rvtop.ui``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from rvtop.contract.command import Command
from rvtop.contract.handle import Choice


class Shell(Protocol):
    """The application around a screen. Every call returns at once."""

    @property
    def clock(self) -> Callable[[], float]:
        """Returns the seconds of a monotonic clock."""
        ...

    @property
    def may_load(self) -> bool:
        """Whether load may be sent to a server that rvtop did not start without a question first."""
        ...

    @property
    def can_choose_again(self) -> bool:
        """Whether another session can be chosen when this one is over."""
        ...

    def poll(self) -> None:
        """Draws the newest snapshot now, without waiting for the next regular poll."""
        ...

    def send(self, command: Command) -> None:
        """Sends a command to the session; its effect shows in a later snapshot."""
        ...

    def choose(self, choice: Choice) -> None:
        """Starts connecting to what was chosen."""
        ...

    def give_up(self) -> None:
        """Stops connecting."""
        ...

    def choose_again(self) -> None:
        """Leaves a session that is over, back to the choice."""
        ...

    def show_help(self, topic: str | None, places: str) -> None:
        """Opens the help of the panel ``topic``, as help_text.PANELS names it; without one, all keys, first
        those that hold in ``places``."""
        ...
