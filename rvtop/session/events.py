"""What a session tells its user while it goes on: the event strip and the steps of its start."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
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
        self.began_ns = perf_counter_ns()
        self.seq = 0
        self._waiting: list[asyncio.Future[None]] = []
        self._events: list[Event] = []
        self._steps: dict[str, tuple[StartStep, int]] = {}  # each with when it was told

    def say(self, text: str, level: str = "info", kind: str = "note") -> None:
        """Adds an event; ``level`` is info, warn or error, ``kind`` one of those that ``Event`` names."""
        t_s = (perf_counter_ns() - self.began_ns) / 1e9
        event = Event(time.time(), printable(text, _EVENT_LIMIT), level, kind, t_s)
        self._events.append(event)
        del self._events[:-EVENTS]
        self._record(event)
        self.touch()

    def from_thread(self, level: str) -> Callable[[str], None]:
        """``say`` for a thread beside the loop that runs now; what comes after the loop's end is dropped."""
        loop = asyncio.get_running_loop()

        def say(text: str) -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self.say, text, level)

        return say

    def step(self, step: StartStep) -> None:
        """Sets the state of a step of the start, by its name."""
        self._steps[step.name] = (step, perf_counter_ns())
        self.touch()

    def begin_steps(self) -> None:
        """Another server starts: the steps of the one before are shown no more."""
        self._steps.clear()
        self.touch()

    def start_failed(self, log: Sequence[str]) -> None:
        """The start of a backend has failed, and these are the last lines of its log: they go to the step
        that failed, or that ran where none says so."""
        steps = self.steps
        failed = [one for one in steps if one.state == "fail"] or [one for one in steps if one.state == "run"]
        step = failed[-1] if failed else StartStep("start", "fail")
        self.step(replace(step, state="fail", log=tuple(log)))

    def touch(self) -> None:
        """Something else that a snapshot shows has changed."""
        self.seq += 1
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        self._waiting.clear()

    async def news(self, seen: int) -> None:
        """Returns once ``seq`` is another than ``seen``."""
        while self.seq == seen:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter

    @property
    def events(self) -> tuple[Event, ...]:
        """Oldest first."""
        return tuple(self._events)

    @property
    def steps(self) -> tuple[StartStep, ...]:
        """In the order in which they began; of one that runs, the seconds until now."""
        now_ns = perf_counter_ns()
        return tuple(_until_now(step, now_ns - told_ns) for step, told_ns in self._steps.values())


def _until_now(step: StartStep, ago_ns: int) -> StartStep:
    if step.state != "run" or step.elapsed_s is None:
        return step
    return replace(step, elapsed_s=step.elapsed_s + ago_ns / 1e9)
