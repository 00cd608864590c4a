"""Keys that come without a pause, as when they are typed ahead or pasted: each goes where the one before it
leads."""

from __future__ import annotations

from dataclasses import replace

import made
import pytest
from driven import opened, screen_text, until
from textual.events import Key, Paste
from textual.pilot import Pilot
from textual.widgets import Input

from rvtop.contract.command import Mark, Pause, SetRate, SetWorkload
from rvtop.ui.app import RvtopApp
from rvtop.ui.screens.help import HelpScreen
from rvtop.ui.screens.live import LiveScreen
from rvtop.ui.screens.palette import PaletteScreen


def type_at_once(pilot: Pilot[int], *keys: str) -> None:
    """All keys before the app sees the first one."""
    names = {" ": "space", "?": "question_mark", ":": "colon", "-": "minus"}
    for key in keys:
        character = key if len(key) == 1 else None
        pilot.app.post_message(Key(names.get(key, key), character))


def app_of() -> tuple[RvtopApp, made.FakeHandle]:
    s = made.live()
    handle = made.FakeHandle(replace(s, load=replace(s.load, target_rps=5.0)))
    return RvtopApp(handle), handle


@pytest.mark.parametrize(
    ("keys", "sent"),
    [
        (["g", *"12", "enter", " "], [SetRate(12.0), Pause()]),
        (["g", *"13", "backspace", *"2", "enter", "m", *"a b", "enter"], [SetRate(12.0), Mark("a b")]),
        (["m", *"gone", "escape", " "], [Pause()]),
        (["o", *"out 64", "enter", "g", *"7", "enter"], [SetWorkload(64), SetRate(7.0)]),
        ([":", *"pause", "enter", "g", *"7", "enter"], [Pause(), SetRate(7.0)]),
        (["g", *"fast", "enter", *["backspace"] * 4, *"9", "enter", " "], [SetRate(9.0), Pause()]),
    ],
)
async def test_what_is_behind_enter_goes_to_the_screen_below(keys: list[str], sent: list[object]) -> None:
    app, handle = app_of()
    async with opened(app) as pilot:
        type_at_once(pilot, *keys)
        await until(pilot, lambda: len(handle.sent) >= len(sent))
        assert handle.sent == sent
        assert isinstance(app.screen, LiveScreen)


async def test_a_key_right_behind_the_one_that_opens_a_screen_is_that_screens() -> None:
    app, _ = app_of()
    async with opened(app) as pilot:
        type_at_once(pilot, "tab", "?", "tab", "?")  # help of the next panel, then all keys
        await until(pilot, lambda: isinstance(app.screen, HelpScreen))
        type_at_once(pilot, "q", "2", ":", "e")
        await until(pilot, lambda: isinstance(app.screen, PaletteScreen))
        assert app.session_screen is not app.live
        assert app.is_running


async def test_a_fault_stays_although_what_was_typed_is_told_of_later() -> None:
    app, handle = app_of()
    async with opened(app) as pilot:
        type_at_once(pilot, "g", *"fast", "enter")
        await until(pilot, lambda: "not a number" in screen_text(app))
        line = app.screen.query_one(Input)
        line.post_message(Input.Changed(line, "fast"))  # one more of what was typed, late
        await until(pilot, lambda: not line._message_queue.qsize())
        await pilot.pause()
        assert "not a number" in screen_text(app)
        type_at_once(pilot, "backspace")
        await until(pilot, lambda: "not a number" not in screen_text(app))
        assert not handle.sent


async def test_pasted_text_is_in_the_line_before_enter() -> None:
    app, handle = app_of()
    async with opened(app) as pilot:
        type_at_once(pilot, "m")
        pilot.app.post_message(Paste("from a page"))
        type_at_once(pilot, "enter", " ")
        await until(pilot, lambda: len(handle.sent) == 2)
        assert handle.sent == [Mark("from a page"), Pause()]
