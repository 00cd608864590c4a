"""What a session tells its user while it goes on: the event strip and the steps of its start."""

from __future__ import annotations

import time

from rvtop.contract.snapshot import Event, StartStep
from rvtop.contract.stream import EVENTS
from rvtop.text import printable

_EVENT_LIMIT = 1000


class EventFeed:
    """The newest events and steps, for snapshots. ``seq`` grows with all that a snapshot would show anew."""

    def __init__(self) -> None:
        self.seq = 0
        self._events: list[Event] = []
        self._steps: dict[str, StartStep] = {}

    def say(self, text: str, level: str = "info") -> None:
        """Adds an event; ``level`` is info, warn or error."""
        self._events.append(Event(time.time(), printable(text, _EVENT_LIMIT), level))
        del self._events[:-EVENTS]
        self.touch()

    def step(self, step: StartStep) -> None:
        """Sets the state of a step of the start, by its name."""
        self._steps[step.name] = step
        self.touch()

    def touch(self) -> None:
        """Something else that a snapshot shows has changed."""
        self.seq += 1

    @property
    def events(self) -> tuple[Event, ...]:
        """Oldest first."""
        return tuple(self._events)

    @property
    def steps(self) -> tuple[StartStep, ...]:
        """In the order in which they began."""
        return tuple(self._steps.values())
