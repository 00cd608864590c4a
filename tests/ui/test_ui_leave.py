"""Leaving asks while a scenario has not ended, and in no other case."""

from __future__ import annotations

from dataclasses import replace

import made
import pytest
from driven import opened, screen_text, until

from rvtop.contract.snapshot import Phase, Snapshot
from rvtop.ui.app import RvtopApp
from rvtop.ui.screens.leave import LeaveScreen, why_ask
from rvtop.ui.screens.live import LiveScreen

BY_HAND = Phase("live", 0, 1, 92.0, None)


@pytest.mark.parametrize(
    ("s", "words"),
    [
        (made.live(), "phase climb, 2 of 4, 00:42 of 01:00"),
        (replace(made.live(), state="paused"), "phase climb"),
        (replace(made.live(), phase=Phase("hold", 3, 4, 60.0, 60.0), state="draining"), "last answers"),
        (replace(made.live(), phase=Phase("hold", 0, 1, 5.0, 60.0)), "1 of 1, 00:05 of 01:00"),
        (replace(made.live(), phase=BY_HAND), ""),
        (replace(made.live(), phase=Phase("live#target-2", 1, 2, 9.0, None)), ""),  # by hand, switched
        (made.watching(), ""),
        (made.starting(), ""),
        (made.done(), ""),
        (made.lost(), ""),
        (None, ""),
    ],
)
def test_why_it_asks(s: Snapshot | None, words: str) -> None:
    why = why_ask(s)
    assert words in why
    assert bool(why) == bool(words)


@pytest.mark.parametrize("key", ["n", "escape"])
async def test_who_stays_goes_on(key: str) -> None:
    handle = made.FakeHandle(made.live())
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await pilot.press("q")
        await until(pilot, lambda: isinstance(app.screen, LeaveScreen))
        shown = screen_text(app)
        assert "2 of 4" in shown
        assert "written in any case" in shown
        assert "rvc is rvtop's own and ends too" in shown
        await pilot.press(key)
        await until(pilot, lambda: isinstance(app.screen, LiveScreen))
    assert handle.closed == 0


@pytest.mark.parametrize("keys", [("q", "y"), ("q", "q"), ("ctrl+c",)])
async def test_who_leaves_is_asked_at_most_once(keys: tuple[str, ...]) -> None:
    handle = made.FakeHandle(made.live())
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await pilot.press(*keys)
        await until(pilot, lambda: app._exit)
    assert handle.closed == 1


async def test_a_load_by_hand_is_left_at_once() -> None:
    handle = made.FakeHandle(replace(made.live(), phase=BY_HAND))
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await pilot.press("q")
        await until(pilot, lambda: app._exit)
    assert handle.closed == 1


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=lambda size: f"{size[0]}x{size[1]}")
async def test_the_end_says_what_to_do_next_as_a_command(size: tuple[int, int]) -> None:
    s = replace(made.done(), out_dir="runs/my run")
    app = RvtopApp(made.FakeHandle(s))
    async with opened(app, *size) as pilot:
        assert "E for its figures" in screen_text(app)
        await pilot.press("E")
        await until(pilot, lambda: "sum it up" in screen_text(app))  # there is no such folder here
        shown = screen_text(app)
        assert "rvtop report 'runs/my run'" in shown
        assert "m mark" not in shown
        assert "q leave" in shown
    unsent = replace(made.failed(), out_dir=None)
    app = RvtopApp(made.FakeHandle(unsent))
    async with opened(app, *size) as pilot:
        await pilot.press("E")
        await until(pilot, lambda: "check this machine" in screen_text(app))
        assert "rvtop report" not in screen_text(app)
