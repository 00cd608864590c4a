"""Something that is looked at again and again, for as long as a backend serves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable


class Looks:
    """Calls ``look`` every ``period_s`` seconds. A look at ``subject`` that fails is logged, and the next one
    follows: what serves goes on."""

    def __init__(
        self,
        look: Callable[[], Awaitable[None]],
        period_s: float,
        subject: str,
        log: logging.Logger,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._look = look
        self._period_s = period_s
        self._subject = subject
        self._log = log
        self._pause = pause
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to look."""
        self._task = asyncio.create_task(self.run())

    async def run(self) -> None:
        """Looks. Never returns."""
        while True:
            try:
                await self._look()
            except Exception:  # noqa: BLE001  # it is logged, and what serves goes on
                self._log.exception("the look at %s failed", self._subject)
            await self._pause(self._period_s)

    async def failed(self) -> BaseException | None:
        """Returns if the loop broke, which only a bug can do, and with what."""
        assert self._task is not None
        await asyncio.wait([self._task])
        return None if self._task.cancelled() else self._task.exception()

    async def stop(self) -> None:
        """Looks no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
