"""A stored run in place of a session: its snapshots at any instant and at any speed. It needs no server."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rvtop.contract.command import Command
from rvtop.contract.replay import Replay
from rvtop.contract.snapshot import Event, Series, Snapshot
from rvtop.results.recording import Recording

#: How fast a run can be played, seconds of it in a second.
SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


class ReplaySession:
    """A ``rvtop.contract.replay.Replay`` of ``recording``. ``clock`` gives seconds of a monotonic clock."""

    def __init__(
        self, recording: Recording, folder: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.folder = folder
        self.notes: Sequence[str] = recording.notes
        self._recording = recording
        self._clock = clock
        self._from_s, self._since = recording.t_s[0], clock()  # where it stood, and when
        self._playing = True
        self.speed = 1.0
        self._index = -1
        self._seq = 0
        self._shown: Snapshot | None = None
        self.series: Series = recording.series
        self.events: Sequence[Event] = recording.events
        self.phases: Sequence[tuple[float, str]] = recording.phases

    @property
    def length_s(self) -> float:
        return self._recording.t_s[-1]

    @property
    def position_s(self) -> float:
        on = (self._clock() - self._since) * self.speed if self._playing else 0.0
        return min(self._from_s + on, self.length_s)

    @property
    def playing(self) -> bool:
        return self._playing and self.position_s < self.length_s

    def snapshot(self) -> Snapshot | None:
        """What the screen showed at the position. Its ``seq`` counts what this replay has shown."""
        index = self._recording.index_at(self.position_s)
        if index != self._index:
            self._index = index
            self._seq += 1
            self._shown = replace(self._recording.at(index), seq=self._seq)
        return self._shown

    def send(self, command: Command) -> None:
        """A run that is over takes no command."""

    async def close(self) -> None:
        """Ends nothing: the run is over, and its folder stays as it is."""

    def toggle(self) -> None:
        at_end = self.position_s >= self.length_s
        plays = not self.playing
        self.seek(self._recording.t_s[0] if at_end else self.position_s)
        self._playing = plays

    def seek(self, t_s: float) -> None:
        self._from_s = min(max(t_s, self._recording.t_s[0]), self.length_s)
        self._since = self._clock()

    def step(self, snapshots: int) -> None:
        index = self._recording.index_at(self.position_s) + snapshots
        self._playing = False
        self.seek(self._recording.t_s[min(max(index, 0), len(self._recording) - 1)])

    def change_speed(self, steps: int) -> bool:
        place = SPEEDS.index(self.speed) + steps
        if not 0 <= place < len(SPEEDS):
            return False
        self.seek(self.position_s)
        self.speed = SPEEDS[place]
        return True


if TYPE_CHECKING:

    def _is_a_replay(session: ReplaySession) -> Replay:  # mypy checks the protocol here
        return session
