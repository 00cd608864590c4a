"""Runs the application on the terminal until it is left."""

from __future__ import annotations

import asyncio
import os
import signal

from rvtop.ui.app import INTERRUPTED, RvtopApp


async def run_app_async(app: RvtopApp) -> int:
    """Runs the screen until it is left, and returns the process's exit code.

    The session is closed however the screen ends: by a key, a signal or an exception.
    """
    loop = asyncio.get_running_loop()
    # Through the app's own queue: only from there can it show a dialog.
    loop.add_signal_handler(signal.SIGTERM, app.call_later, app.leave, INTERRUPTED)
    # A terminal that is gone can't be drawn on: Textual would wait for ever for room in its output queue.
    # So the process ends at once, and the session, at the other end of a pipe, sees that.
    before = signal.signal(signal.SIGHUP, lambda *_: os._exit(INTERRUPTED))
    try:
        await app.run_async(mouse=app.look.mouse)
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGHUP, before)
        await app.close_handle()
    return app.exit_code or app.return_code or 0
