"""Watches whether the target still answers, under load or without any."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter_ns

#: Seconds without any answer before the target is asked. Its metrics page is polled more often than this, so
#: a target that has one is asked nothing while it answers.
DOUBT_S = 1.2
#: Seconds that an asked target has for its answer. With DOUBT_S it is less than the 3 s within which a silent
#: target is said to be silent.
ANSWER_S = 1.5
#: Seconds between two questions to a target that does not answer.
RETRY_S = 0.5


class TargetWatch:
    """Tells since when the target has not answered.

    Its answers to the load and to metrics polls cost nothing to know: ``heard``. Where none came for DOUBT_S,
    ``ask`` asks the target itself; it is down from a question without an answer until it answers anything
    again. ``tell(text, level)`` gets one event for each change.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[bool]],
        tell: Callable[[str, str], None],
        clock_ns: Callable[[], int] = perf_counter_ns,
    ) -> None:
        self._ask = ask
        self._tell = tell
        self._clock_ns = clock_ns
        self._heard_ns = clock_ns()
        self._down = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to watch, in the running loop."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Watches no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def heard(self) -> None:
        """The target has answered something just now."""
        silent_s = self._silent_s
        self._heard_ns = self._clock_ns()
        if self._down:
            self._down = False
            self._tell(f"server answers again, after {silent_s:.0f} s", "info")

    @property
    def down_s(self) -> float | None:
        """Seconds since the target last answered, while it does not; None while it does."""
        return self._silent_s if self._down else None

    @property
    def _silent_s(self) -> float:
        return (self._clock_ns() - self._heard_ns) / 1e9

    async def look(self) -> float:
        """Asks the target if it has been silent for DOUBT_S; returns the seconds until the next look."""
        if self._silent_s >= DOUBT_S:
            before_ns = self._heard_ns
            if await self._ask():
                self.heard()
            elif self._heard_ns == before_ns and not self._down:  # else it answered the load meanwhile
                self._down = True
                self._tell("server stopped answering", "error")
        return RETRY_S if self._down else max(0.05, DOUBT_S - self._silent_s)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(await self.look())
