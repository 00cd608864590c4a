"""Textual's pilot waits until the process uses little CPU, at most for a second: on a busy machine that is so
while messages wait, too. Here it waits until the event loop has nothing left to do."""

from __future__ import annotations

import asyncio

import textual.app
import textual.pilot
from textual._wait import wait_for_idle
from textual.pilot import Pilot

#: Turns of the loop in which nobody but us had anything to do: a message may go on to the next queue in one.
_QUIET = 3
_MOST = 100_000  # turns, of a loop that never rests
_LIMIT_S = 240.0  # for the widgets of a screen to take in what was sent to them


async def until_idle(min_sleep: float = 1 / 50, max_sleep: float = 1.0) -> None:
    """As Textual's ``wait_for_idle``, then until the loop rests. Threads and timers are not waited for."""
    await wait_for_idle(min_sleep, max_sleep)
    loop, quiet = asyncio.get_running_loop(), 0
    for _ in range(_MOST):
        await asyncio.sleep(0)
        quiet = 0 if loop._ready else quiet + 1  # type: ignore[attr-defined]
        if quiet == _QUIET:
            return


def install() -> None:
    """For every pilot of this process."""
    textual.app.wait_for_idle = until_idle  # type: ignore[attr-defined]
    textual.pilot.wait_for_idle = until_idle  # type: ignore[attr-defined]
    Pilot._wait_for_screen.__defaults__ = (_LIMIT_S,)
