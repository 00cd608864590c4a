"""Runs the application on the terminal until it is left."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import termios
from typing import TYPE_CHECKING

from rvtop.ui.app import INTERRUPTED, RvtopApp

if TYPE_CHECKING:
    from rvtop.ui.batch_app import BatchApp

_LOOK_S = 1.0


async def run_app_async(app: RvtopApp | BatchApp) -> int:
    """Runs the screen until it is left, and returns the process's exit code.

    The session is closed however the screen ends: by a key, a signal or an exception.
    """
    loop = asyncio.get_running_loop()
    # Through the app's own queue: only from there can it show a dialog.
    loop.add_signal_handler(signal.SIGTERM, app.call_later, app.leave, INTERRUPTED)
    # A terminal that is gone can't be drawn on: Textual would wait for ever for room in its output queue.
    # So the process ends at once, and the session, at the other end of a pipe, sees that.
    before = signal.signal(signal.SIGHUP, lambda *_: os._exit(INTERRUPTED))
    gone = asyncio.create_task(_end_without_terminal())
    _drop_typed()
    try:
        await app.run_async(mouse=app.look.mouse)
    finally:
        gone.cancel()
        loop.remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGHUP, before)
        await app.close_handle()
    return app.exit_code or app.return_code or 0


def _drop_typed() -> None:
    """Drops what was typed while the process started: it was typed before there was anything to see, and
    would choose whatever the first screen has under its cursor. What comes from here on until the first
    picture, the application drops (``OrderedKeysApp``)."""
    if sys.__stdin__ is not None and sys.__stdin__.isatty():
        termios.tcflush(sys.__stdin__, termios.TCIFLUSH)


async def _end_without_terminal() -> None:
    """Ends the process once its terminal is gone. One that does not control the process (as under ``setsid``)
    goes without a SIGHUP, and Textual's reader would turn for ever on what can't be read any more."""
    if sys.__stdin__ is None or not sys.__stdin__.isatty():
        return
    terminal = select.poll()
    terminal.register(sys.__stdin__.fileno(), 0)  # that it was hung up is told unasked
    while not terminal.poll(0):
        await asyncio.sleep(_LOOK_S)
    os._exit(INTERRUPTED)
