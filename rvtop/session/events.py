"""What a session tells its user while it goes on: the event strip and the steps of its start."""

from __future__ import annotations

import time
from collections.abc import Callable
from time import perf_counter_ns

from rvtop.contract.snapshot import Event, StartStep
from rvtop.contract.stream import EVENTS
from rvtop.text import printable

_EVENT_LIMIT = 1000


class EventFeed:
    """The newest events and steps, for snapshots. ``seq`` grows with all that a snapshot would show anew.
    ``record`` gets each event; the feed's first moment is the session's."""

    def __init__(self, record: Callable[[Event], None] = lambda event: None) -> None:
        self._record = record
        self._began_ns = perf_counter_ns()
        self.seq = 0
        self._events: list[Event] = []
        self._steps: dict[str, StartStep] = {}

    def say(self, text: str, level: str = "info", kind: str = "note") -> None:
        """Adds an event; ``level`` is info, warn or error, ``kind`` one of those that ``Event`` names."""
        t_s = (perf_counter_ns() - self._began_ns) / 1e9
        event = Event(time.time(), printable(text, _EVENT_LIMIT), level, kind, t_s)
        self._events.append(event)
        del self._events[:-EVENTS]
        self._record(event)
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
