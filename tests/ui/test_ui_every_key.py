"""Each action of the table can be done on every screen where it holds, by each of its keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import made
import pytest
from driven import show, until
from textual.screen import Screen

from rvtop.results.recording import Recording
from rvtop.session.replay import ReplaySession
from rvtop.ui.app import RvtopApp
from rvtop.ui.keys import ACTIONS
from rvtop.ui.screens.end import EndScreen
from rvtop.ui.screens.events import EventsScreen
from rvtop.ui.screens.start import StartScreen
from rvtop.ui.screens.table import SHOWDOWN_SCREENS

#: Where a list has the cursor, ↑↓ move in it; the rate has + and - there.
OF_A_LIST = {("A*Q", "up"), ("A*Q", "down"), ("A*C", "up"), ("A*C", "down")}
#: By the places of a screen: the app, and the keys that lead there from its first screen.
Opened = tuple[RvtopApp, list[str]]


def replayed() -> ReplaySession:
    recording = Recording()
    for seq in range(1, 4):
        recording.add(made.live(90.0 + seq, seq=seq))
    return ReplaySession(recording, "runs/x")


async def connect(choice: object) -> made.FakeHandle:
    raise AssertionError("nothing is chosen here")


def live() -> RvtopApp:
    return RvtopApp(made.FakeHandle(made.listing()))


PLACES: dict[str, Callable[[], Opened]] = {
    "A*L": lambda: (live(), []),
    "A*M": lambda: (live(), ["2"]),
    "A*Q": lambda: (live(), ["3"]),
    "A*C": lambda: (live(), ["4"]),
    "AE": lambda: (live(), ["e"]),
    "AZ": lambda: (live(), []),
    "AW": lambda: (RvtopApp(made.FakeHandle(made.showdown("third")), screens=SHOWDOWN_SCREENS), []),
    "AP": lambda: (RvtopApp(replay=replayed()), []),
    "AS": lambda: (RvtopApp(connect=connect, facts=made.start_facts), []),
}


def drawn(app: RvtopApp) -> bool:
    """Whether a screen of the session shows something."""
    return app.session_screen is not None and app.session_screen.snapshot is not None


@pytest.mark.parametrize("places", PLACES)
async def test_each_key_of_a_screen_does_its_action(places: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app, keys = PLACES[places]()
    wanted = [a for a in ACTIONS if a.holds(places) and a.keys and not a.fixed]
    done: list[str] = []
    async with app.run_test(size=(120, 40)) as pilot:
        await until(
            pilot,
            lambda: (
                app.hears and (app.choosing.screen or (app.session_screen and app.session_screen.snapshot))
            ),
        )
        await pilot.press(*keys)
        if places == "AZ":
            handle = app.handle
            assert isinstance(handle, made.FakeHandle)
            await show(app, pilot, handle, made.done())
            await until(pilot, lambda: isinstance(app.screen, EndScreen))
        screen: Screen[Any] = app.screen
        assert getattr(screen, "PLACES", "AS") == places or isinstance(screen, StartScreen | EventsScreen)
        for action in wanted:
            owner = app if action.action.startswith("app.") else screen
            name = action.action.removeprefix("app.")
            method = f"action_{name.partition('(')[0]}"
            assert callable(getattr(owner, method, None)) or callable(getattr(app, method, None)), action.name

        async def noted(self: Any, action: str, *_: Any, **__: Any) -> bool:
            done.append(str(action))
            return True

        monkeypatch.setattr(RvtopApp, "run_action", noted)
        for action in wanted:
            for key in action.keys:
                if (places, key) in OF_A_LIST:
                    continue
                done.clear()
                await app._check_bindings(key, priority=True) or await app._check_bindings(key)
                assert done == [action.action], f"{key} on {places}: {action.name}"
