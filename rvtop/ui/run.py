"""Runs the application on the terminal until it is left."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence

from rvtop.contract.handle import Connect, SessionHandle
from rvtop.contract.replay import Replay
from rvtop.contract.start import LookAround, StartFacts
from rvtop.ui.app import INTERRUPTED, RvtopApp
from rvtop.ui.look import Look
from rvtop.ui.screens.table import ScreenEntry
from rvtop.ui.sharing import ALONE, Sharing
from rvtop.ui.shell import ShowdownControls

_NO_FACTS = StartFacts()


async def run_app_async(
    handle: SessionHandle | None = None,
    connect: Connect | None = None,
    *,
    facts: StartFacts = _NO_FACTS,
    look_around: LookAround | None = None,
    url: str = "",
    yes: bool = False,
    look: Look | None = None,
    replay: Replay | None = None,
    sharing: Sharing = ALONE,
    screens: Sequence[ScreenEntry] | None = None,
    showdown: ShowdownControls | None = None,
) -> int:
    """Runs the screen until it is left, and returns the process's exit code.

    The session is closed however the screen ends: by a key, a signal or an exception.
    """
    app = RvtopApp(
        handle,
        connect,
        facts=facts,
        look_around=look_around,
        url=url,
        yes=yes,
        look=look,
        screens=screens,
        replay=replay,
        sharing=sharing,
        showdown=showdown,
    )
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


def run_app(handle: SessionHandle) -> int:
    """``run_app_async`` in an event loop of its own."""
    return asyncio.run(run_app_async(handle))
