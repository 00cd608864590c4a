"""The table of screens: a second screen is one class and one entry."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import made
from driven import opened, screen_text, until
from textual.app import ComposeResult
from textual.widgets import Static

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.app import RvtopApp
from rvtop.ui.keys import ACTIONS
from rvtop.ui.screens.help import HelpScreen
from rvtop.ui.screens.live import LiveScreen
from rvtop.ui.screens.session_screen import SessionScreen
from rvtop.ui.screens.start import StartScreen
from rvtop.ui.screens.table import SCREENS, ScreenEntry, screen_keys


class Sent(SessionScreen):
    """A screen as a newcomer would write it: how many requests were sent."""

    def compose(self) -> ComposeResult:
        yield Static()

    def show(self, s: Snapshot) -> None:
        super().show(s)
        self.query_one(Static).update(f"{s.load.sent} sent so far")


class Seconds(SessionScreen):
    def compose(self) -> ComposeResult:
        yield Static("no figures here")


TWO = (*SCREENS[:1], ScreenEntry("sent", "2", "requests sent", Sent))
THREE = (*TWO, ScreenEntry("seconds", "3", "the time", Seconds))


def sent(n: int, seq: int) -> Snapshot:
    s = made.live()
    return replace(s, seq=seq, load=replace(s.load, sent=n))


async def test_each_key_shows_its_screen_and_the_one_on_top_is_fed() -> None:
    handle = made.FakeHandle(sent(1111, 1))
    app = RvtopApp(handle, screens=TWO)
    async with opened(app) as pilot:
        live = app.screen
        assert isinstance(live, LiveScreen)
        await pilot.press("2")
        await pilot.pause()
        assert isinstance(app.screen, Sent)
        assert "1111 sent so far" in screen_text(app)
        handle.now = sent(2222, 2)
        app.poll()
        await pilot.pause()
        assert "2222 sent so far" in screen_text(app)
        assert live.snapshot is not None
        assert live.snapshot.seq == 1, "a screen that is covered by another costs nothing"
        await pilot.press("1")
        app.poll()
        assert app.screen is live, "the first screen keeps its state"
        assert live.snapshot.seq == 2
        await pilot.press("1")
        assert app.screen is live


async def test_between_two_screens_above_the_first_one_replaces_the_other() -> None:
    app = RvtopApp(made.FakeHandle(made.live()), screens=THREE)
    async with opened(app) as pilot:
        await pilot.press("2")
        await pilot.press("3")
        await pilot.pause()
        assert [type(s) for s in app.screen_stack[1:]] == [LiveScreen, Seconds]
        await pilot.press("q", "y")
        await pilot.pause()
    assert app.exit_code == 0


async def test_the_help_lists_the_screens_of_the_table_and_covers_them() -> None:
    handle = made.FakeHandle(sent(1, 1))
    app = RvtopApp(handle, screens=TWO)
    async with opened(app, height=200) as pilot:  # room for all keys
        await pilot.press("2")
        await pilot.press("question_mark")
        await pilot.pause()
        assert isinstance(app.screen, HelpScreen)
        assert "requests sent" in screen_text(app)
        await pilot.press("1")
        assert isinstance(app.screen, HelpScreen), "a dialog is answered first"
        handle.now = sent(7777, 2)
        app.poll()
        assert app.session_screen is not None
        assert app.session_screen.snapshot is not None
        assert app.session_screen.snapshot.load.sent == 7777, "the screen below a dialog goes on"


async def test_from_any_screen_of_a_session_that_is_over_one_comes_back_to_the_start_screen() -> None:
    async def connect(choice: object) -> made.FakeHandle:
        raise AssertionError("nothing is chosen here")

    app = RvtopApp(made.FakeHandle(made.done()), connect, screens=TWO)
    async with opened(app) as pilot:
        await pilot.press("2")
        await pilot.pause()
        app.choose_again()
        await until(pilot, lambda: isinstance(app.screen, StartScreen))
        assert [type(s) for s in app.screen_stack[1:]] == [StartScreen]
        await pilot.press("escape", "2")
        assert isinstance(app.screen, StartScreen), "without a session there is no screen of it"


def test_the_table_is_sound() -> None:
    taken = {name for key in ACTIONS for name in key.keys}
    assert isinstance(SCREENS[0].screen, type)
    for entries in (SCREENS, THREE):
        assert len({entry.name for entry in entries}) == len(entries)
        assert len({entry.key for entry in entries}) == len(entries)
        assert not taken & {entry.key for entry in entries}
        assert all(entry.title for entry in entries)
    assert screen_keys(SCREENS[:1]) == (), "one screen alone needs no key"
    assert [key.keys for key in screen_keys(TWO)] == [("1",), ("2",), ("5",)]


def test_the_contract_needs_no_toolkit() -> None:
    code = "import sys, rvtop.contract.shell; print({'textual', 'rich', 'rvtop.ui'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
