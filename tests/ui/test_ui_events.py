"""All events: the list, its filter and cursor, copying one whole, and the ways back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import made
import pytest
from driven import opened, screen_text, text_of

from rvtop.contract.snapshot import Event, Snapshot
from rvtop.ui.app import RvtopApp
from rvtop.ui.screens.events import EventsScreen
from rvtop.ui.screens.live import LiveScreen
from rvtop.ui.widgets.event_list import EventList
from rvtop.ui.widgets.footer import Footer

LONG = "engine e3 died: " + "CUDA error: an illegal memory access was encountered; " * 6 + "the end"


def busy(n: int = 60) -> Snapshot:
    s = made.live()
    events = [Event(made.START + i, f"rate {i} rps", kind="rate") for i in range(n)]
    return replace(s, events=(*events, Event(made.START + n, LONG, "error", "worker")))


async def test_the_list_opens_filters_and_closes_step_by_step() -> None:
    app = RvtopApp(made.FakeHandle(busy()))
    async with opened(app) as pilot:
        await pilot.press("e")
        await pilot.pause()
        assert isinstance(app.screen, EventsScreen)
        lines = text_of(app, EventList).splitlines()
        assert "61" in lines[0]
        assert lines[1].startswith(" ▸ ")
        assert "engine e3 died" in lines[1]
        assert "rate 59 rps" in lines[2]
        assert "the end" in "\n".join(lines), "the chosen one stands whole below"
        await pilot.press("/", *"rate 5", "enter")
        await pilot.pause()
        shown = text_of(app, EventList)
        assert "11 of 61" in shown
        assert "engine e3" not in shown
        await pilot.press("escape")
        await pilot.pause()
        assert "engine e3" in text_of(app, EventList)
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(app.screen, LiveScreen)


async def test_the_cursor_stays_with_its_event_while_others_come_and_y_copies_it_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    handle = made.FakeHandle(busy())
    app = RvtopApp(handle)
    async with opened(app, 80, 24) as pilot:
        await pilot.press("e", "end", "k", "k")
        await pilot.pause()
        chosen = next(line for line in text_of(app, EventList).splitlines() if "▸" in line)
        assert "rate 2 rps" in chosen
        s = busy()
        handle.now = replace(s, seq=s.seq + 1, events=(*s.events, Event(made.START + 99, "one more")))
        app.poll()
        await pilot.pause()
        chosen = next(line for line in text_of(app, EventList).splitlines() if "▸" in line)
        assert "rate 2 rps" in chosen
        await pilot.press("home", "j", "y")
        assert LONG in (tmp_path / "rvtop" / "copied.txt").read_text("utf-8")
        assert "copied the event" in text_of(app, Footer)


async def test_in_a_browser_an_event_is_copied_without_a_file_on_the_server_s_disk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(RvtopApp, "is_web", True)
    app = RvtopApp(made.FakeHandle(busy()))
    async with opened(app, 80, 24) as pilot:
        await pilot.press("e", "y")
        assert "copied the event to the clipboard" in text_of(app, Footer)
    assert not list(tmp_path.rglob("copied.txt"))


async def test_without_events_and_with_a_filter_that_none_holds_the_list_says_so() -> None:
    handle = made.FakeHandle(replace(made.live(), events=()))
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await pilot.press("e")
        await pilot.pause()
        assert "Nothing has happened yet." in screen_text(app)
        await pilot.press("y")
        assert "no event is listed" in text_of(app, Footer)
        await pilot.press("e")
        await pilot.pause()
        assert isinstance(app.screen, LiveScreen)


async def test_from_the_list_over_the_map_the_live_screen_is_one_key_away_and_there_once() -> None:
    app = RvtopApp(made.FakeHandle(busy()))
    async with opened(app) as pilot:
        await pilot.press("2", "e")
        await pilot.pause()
        assert isinstance(app.screen, EventsScreen)
        await pilot.press("1")
        await pilot.pause()
        assert isinstance(app.screen, LiveScreen)
        assert sum(isinstance(screen, LiveScreen) for screen in app.screen_stack) == 1
