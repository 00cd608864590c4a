"""Waiting for the screen, for as long as a busy machine may take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from textual.pilot import Pilot

#: Far beyond what anything here takes: a test that waits so long has failed.
LIMIT_S = 60.0


async def until(pilot: Pilot[int], true: Callable[[], object]) -> None:
    """Waits until ``true`` holds. Raises AssertionError after a minute."""
    loop = asyncio.get_running_loop()
    end = loop.time() + LIMIT_S
    while not true():
        assert loop.time() < end, "the screen never came to what was waited for"
        await pilot.pause(0.02)
