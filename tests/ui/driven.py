"""What tests of the screen share: an app that runs, and what stands on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import made
from textual.app import App
from textual.pilot import Pilot

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.app import RvtopApp
from rvtop.ui.widgets.panel import Panel

#: Far beyond what anything here takes, on a busy machine too: a test that waits so long has failed.
LIMIT_S = 240.0


async def show(app: RvtopApp, pilot: Pilot[int], handle: made.FakeHandle, snapshot: Snapshot) -> None:
    """Hands the app a newer snapshot and waits until it is drawn."""
    handle.now = replace(snapshot, seq=(handle.now.seq if handle.now else 0) + 1)
    app.poll()
    await pilot.pause()


@asynccontextmanager
async def opened(app: RvtopApp, width: int = 120, height: int = 40) -> AsyncIterator[Pilot[int]]:
    """The app running at a size, its first picture drawn."""
    async with app.run_test(size=(width, height)) as pilot:
        await until(
            pilot,
            lambda: (
                app.hears
                and (
                    app.choosing.screen is not None
                    or (app.live is not None and app.live.snapshot is not None)
                )
            ),
        )
        await pilot.pause()
        yield pilot


async def until(pilot: Pilot[int], true: Callable[[], object]) -> None:
    """Waits until ``true`` holds. Raises AssertionError after a limit."""
    loop = asyncio.get_running_loop()
    end = loop.time() + LIMIT_S
    while not true():
        assert loop.time() < end, "the screen never came to what was waited for"
        await pilot.pause(0.02)


def text_of(app: App[int], kind: type[Panel]) -> str:
    """What stands in the panel of that kind, a row a line."""
    panel = app.screen.query_one(kind)
    return "\n".join(panel.render_line(y).text for y in range(panel.size.height))


def screen_text(app: App[int]) -> str:
    """What stands on the screen, a row a line."""
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())
