"""What the screen needs of a stored run beside its snapshots: where it stands, and a handle to move it by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rvtop.contract.handle import SessionHandle
from rvtop.contract.snapshot import Event, Series


class Replay(SessionHandle, Protocol):
    """A stored run that is played. Times are seconds since the run's start."""

    @property
    def folder(self) -> str:
        """The run's folder, as it was given."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """What of the run could not be read, a line each."""
        ...

    @property
    def length_s(self) -> float:
        """When the last snapshot was taken."""
        ...

    @property
    def position_s(self) -> float:
        """What is shown now."""
        ...

    @property
    def playing(self) -> bool:
        """Whether it goes on by itself; at the end it no longer does."""
        ...

    @property
    def speed(self) -> float:
        """Seconds of the run in a second."""
        ...

    @property
    def series(self) -> Series:
        """The history of the whole run."""
        ...

    @property
    def events(self) -> Sequence[Event]:
        """All events of the run, oldest first."""
        ...

    @property
    def phases(self) -> Sequence[tuple[float, str]]:
        """When each phase began, and its name."""
        ...

    def toggle(self) -> None:
        """Plays, or pauses; at the end it plays from the start."""
        ...

    def seek(self, t_s: float) -> None:
        """Shows another instant: the nearest that there is."""
        ...

    def step(self, snapshots: int) -> None:
        """Shows the snapshot so many further on, and pauses."""
        ...

    def change_speed(self, steps: int) -> bool:
        """Faster (or slower, below 0) by steps of two; False at the end of the scale."""
        ...
