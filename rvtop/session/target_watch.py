"""Watches whether the target still answers: any silence is shown, and one under load ends the run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter_ns

from rvtop.session.live import LiveState

#: Seconds without any answer before the target is asked. Its metrics page is polled more often than this, so
#: a target that has one is asked nothing while it answers.
DOUBT_S = 1.2
#: Seconds that an asked target has for its answer. With DOUBT_S it is less than the 3 s within which a silent
#: target is said to be silent.
ANSWER_S = 1.5
#: Seconds between two questions to a target that does not answer.
RETRY_S = 0.5
#: A target that has answered nothing for this long, and refuses a connection too, is lost.
_SILENT_S = 5.0
#: So many connections must have failed before it is asked.
_FAILED = 5
_CONNECT_ERRORS = ("dns", "refused", "reset", "timeout_connect")


class TargetWatch:
    """Knows since when the target has not answered.

    Its answers to the load and to metrics polls are reported here (``answered``) and cost nothing. Where none
    came for DOUBT_S, ``ask`` asks the target itself; it is down from a question without an answer until it
    answers anything again. ``say(text, level)`` gets one event for each change.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[bool]],
        say: Callable[[str, str], None],
        clock_ns: Callable[[], int] = perf_counter_ns,
    ) -> None:
        self._ask = ask
        self._say = say
        self._clock_ns = clock_ns
        self._answered_ns = clock_ns()
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

    def begin_anew(self) -> None:
        """It is another server from now on, which has answered just now."""
        self._down = False
        self._answered_ns = self._clock_ns()

    def answered(self) -> None:
        """The target has answered something just now."""
        silent_s = self._silent_s
        self._answered_ns = self._clock_ns()
        if self._down:
            self._down = False
            self._say(f"server answers again, after {silent_s:.0f} s", "info")

    @property
    def down_s(self) -> float | None:
        """Seconds since the target last answered, while it does not; None while it does."""
        return self._silent_s if self._down else None

    @property
    def _silent_s(self) -> float:
        return (self._clock_ns() - self._answered_ns) / 1e9

    async def check(self) -> float:
        """Asks the target if it has been silent for DOUBT_S; returns the seconds until the next check."""
        if self._silent_s >= DOUBT_S:
            before_ns = self._answered_ns
            if await self._ask():
                self.answered()
            elif self._answered_ns == before_ns and not self._down:  # else it answered the load meanwhile
                self._down = True
                self._say("server stopped answering", "error")
        return RETRY_S if self._down else max(0.05, DOUBT_S - self._silent_s)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(await self.check())


class LossWatch:
    """Many failed connections and not one good answer for a while: then the target is asked, once.

    ``ask`` asks it; ``lost`` is called when it does not answer, and the load got no good answer meanwhile.
    """

    def __init__(self, now_ns: int, ask: Callable[[], Awaitable[bool]], lost: Callable[[], None]) -> None:
        self._ask = ask
        self._lost = lost
        self._last_ok = (0, now_ns)  # (ok requests, since when)
        self._asking: asyncio.Task[None] | None = None

    def begin_anew(self, now_ns: int) -> None:
        """It is another server from now on."""
        self._last_ok = (self._last_ok[0], now_ns)

    def check(self, live: LiveState, now_ns: int) -> None:
        """Once a second."""
        if live.ok > self._last_ok[0]:
            self._last_ok = (live.ok, now_ns)
        failed = sum(live.errors[kind] for kind in _CONNECT_ERRORS)
        silent = now_ns - self._last_ok[1] > _SILENT_S * 1e9
        if failed >= _FAILED and silent and (self._asking is None or self._asking.done()):
            self._asking = asyncio.create_task(self._confirm(live))

    async def _confirm(self, live: LiveState) -> None:
        before = live.ok
        if not await self._ask() and live.ok == before:
            self._lost()

    async def close(self) -> None:
        """Asks no more."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
