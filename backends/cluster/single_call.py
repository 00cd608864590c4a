"""Calls that may hang: a call to Ray's head waits for a minute while that is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class SingleCall(Generic[T]):
    """A blocking function in a thread of its own: one call at a time, which whoever asks meanwhile shares, so
    that calls that hang keep no thread of others. ``last`` is what it returned last."""

    def __init__(self, function: Callable[[], T], last: T) -> None:
        self.last = last
        self._function = function
        self._pool = ThreadPoolExecutor(1, f"single-{function.__name__}")
        self._running: asyncio.Future[T] | None = None

    async def __call__(self, limit_s: float | None) -> T:
        """Raises TimeoutError when it takes longer (it goes on then), and what the function raises."""
        if self._running is None:
            loop = asyncio.get_running_loop()
            self._running = loop.run_in_executor(self._pool, self._function)
            self._running.add_done_callback(self._ended)
        async with asyncio.timeout(limit_s):
            return await asyncio.shield(self._running)

    def close(self) -> None:
        """Calls no more. A call that hangs is left to the end of the process."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _ended(self, call: asyncio.Future[T]) -> None:
        self._running = None
        if not call.cancelled() and call.exception() is None:
            self.last = call.result()
