"""Restarts engines that run in processes of their own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Protocol

from backends.errors import StartFailure
from backends.process.notices import NOTICES

FIRST_DELAY_S = 0.5
MAX_DELAY_S = 30.0
# An engine that lived this long was healthy: its next death starts the delays anew.
HEALTHY_S = 60.0


class Named(Protocol):
    """What is known of an engine: its id among those of a backend."""

    @property
    def engine(self) -> str: ...


class Restartable(Protocol):
    """An engine whose process can die and be started again."""

    @property
    def info(self) -> Named: ...

    async def start(self) -> None:
        """Raises StartFailure."""
        ...

    async def died(self) -> str:
        """Returns when the engine is gone, with the reason in one line."""
        ...


class EnginePool(Protocol):
    """What hands requests to engines: an admission queue, or the fleet behind a router."""

    def set_up(self, engine_id: str, up: bool) -> None: ...


async def restart_loop(engine: Restartable, pool: EnginePool) -> None:
    """Takes a dead engine out of service, starts it again after growing delays, and puts it back. Never
    returns; cancel it."""
    delays = backoff()
    while True:
        up_since = time.monotonic()
        reason = await engine.died()
        name = engine.info.engine
        pool.set_up(name, False)
        NOTICES.say(f"engine {name} died: {reason}", "error")
        died, said = time.monotonic(), ""
        if time.monotonic() - up_since > HEALTHY_S:
            delays = backoff()
        while True:
            await asyncio.sleep(next(delays))
            try:
                await engine.start()
            except StartFailure as error:
                if str(error) != said:  # else it fails as it did before
                    said = str(error)
                    NOTICES.say(f"engine {name} did not start again: {error}", "error")
            else:
                break
        NOTICES.say(f"engine {name} is back, after {time.monotonic() - died:.0f} s")
        pool.set_up(name, True)


def backoff() -> Iterator[float]:
    """Seconds to wait before each try: doubling, up to MAX_DELAY_S."""
    delay = FIRST_DELAY_S
    while True:
        yield delay
        delay = min(2 * delay, MAX_DELAY_S)


async def end_restart_loops(loops: Sequence[asyncio.Task[None]]) -> None:
    """Cancels the loops and waits until they have ended."""
    for loop in loops:
        loop.cancel()
    await asyncio.gather(*loops, return_exceptions=True)
