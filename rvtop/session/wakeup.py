"""A sleep that ends at a time or when something happens, whichever comes first."""

from __future__ import annotations

import asyncio
from time import perf_counter_ns

#: uvloop's timers are whole milliseconds, and may go off more than one of them early.
_LOOP_STEP_S = 0.002


class Wakeup:
    """Lets one task sleep until a time, or until :meth:`set`."""

    def __init__(self) -> None:
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        """Wakes the sleeper, if there is one."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def sleep_until(self, at_ns: int) -> None:
        """Sleeps until ``at_ns`` (perf_counter) is past, or until :meth:`set`."""
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        wait_s = max(0, at_ns - perf_counter_ns()) / 1e9
        timer = loop.call_later(wait_s + _LOOP_STEP_S, self.set)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None
