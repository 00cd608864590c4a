"""Terminals of any size, resized at any time: the screen lives, and draws within what it has."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import made
import pytest
from driven import until
from textual.drivers.headless_driver import HeadlessDriver
from textual.events import Resize
from textual.geometry import Size
from textual.pilot import Pilot

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.app import RvtopApp

#: What can be pressed while a session runs. q and ctrl+c end it; a first load is answered with n.
KEYS = (
    "tab", "shift+tab", "z", "question_mark", "g", "escape", "enter", "n", "space", "up", "down",
    "shift+up", "shift+down", "pageup", "pagedown", "plus", "minus", "left_square_bracket", "1", "2",
    "full_stop", "home", "end", "backspace", "left", "right", "x",
)  # fmt: skip
PICTURES = (
    "live", "watching", "full", "crowded", "stale", "closed", "starting", "failed", "lost", "done", "cluster",
)  # fmt: skip


def changing() -> list[Snapshot]:
    """Pictures as a session under load gives them, now and then of another kind."""
    load = [made.live(float(t)) for t in (1, 2, 6, 11, 30, 59, 75, 90, 91, 92, 130)]
    others = [getattr(made, name)() for name in PICTURES]
    empty = Snapshot(0, 0.0, made.START, "running", "live", made.live().target)
    return [*load, empty, *others, *load]


@asynccontextmanager
async def opened(app: RvtopApp, width: int, height: int) -> AsyncIterator[Pilot[int]]:
    async with app.run_test(size=(width, height)) as pilot:
        await until(pilot, lambda: app.hears)
        await pilot.pause()
        yield pilot


def some_size(rng: random.Random, most: tuple[int, int]) -> tuple[int, int]:
    """Between 1x1 and ``most``, the small ones, where it is tight, as often as the large ones."""
    width, height = (round(math.exp(rng.uniform(0.0, math.log(limit)))) for limit in most)
    return width, height


async def resized(app: RvtopApp, width: int, height: int) -> None:
    """Gives the terminal another size and waits until the screen has it, though perhaps not all is drawn yet:
    the next one may come in the middle, as it does when a window is dragged."""
    size = Size(width, height)
    assert isinstance(app._driver, HeadlessDriver)
    app._driver._size = size
    app.post_message(Resize(size, size))
    async with asyncio.timeout(240):
        while app.screen.size != size and app.is_running:
            await asyncio.sleep(0)


async def shaken(seed: int, resizes: int, keys: int, pictures: list[Snapshot], most: tuple[int, int]) -> None:
    """``resizes`` between 1x1 and ``most`` with ``keys`` presses among them, the picture changing."""
    rng = random.Random(seed)
    handle = made.FakeHandle(rng.choice(pictures))
    app = RvtopApp(handle)
    seq = 0
    todo = ["resize"] * resizes + ["key"] * keys
    rng.shuffle(todo)
    done: list[str] = []
    try:
        async with opened(app, 80, 24) as pilot:
            for what in todo:
                if what == "key":
                    key = rng.choice(KEYS)
                    done.append(key)
                    await pilot.press(key)
                else:
                    width, height = some_size(rng, most)
                    done.append(f"{width}x{height}")
                    await resized(app, width, height)
                if rng.random() < 0.3:
                    seq += 1
                    handle.now = replace(rng.choice(pictures), seq=seq)
                    app.poll()
                if rng.random() < 0.1:
                    await pilot.pause()  # all is drawn
                assert app.is_running
                assert app.size[0] > 0
            assert app.live is not None
            assert not handle.closed
    except BaseException:
        print(seed, done[-12:])
        raise


@pytest.mark.timeout(900)  # beside other work
@pytest.mark.parametrize(
    ("seed", "resizes", "keys"), [(1, 120, 60), pytest.param(2, 500, 200, marks=pytest.mark.slow)]
)
async def test_random_sizes_and_keys_under_load(seed: int, resizes: int, keys: int) -> None:
    await shaken(seed, resizes, keys, changing(), (300, 100))
