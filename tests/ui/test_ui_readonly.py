"""A screen that only watches: what steers says so and sends nothing, and the header and footer show it."""

from __future__ import annotations

import made
import pytest
from driven import opened, until

from rvtop.contract.command import SetRate
from rvtop.ui.app import RvtopApp
from rvtop.ui.keys import ACTIONS
from rvtop.ui.screens.compare import CompareScreen
from rvtop.ui.screens.stopping import StoppingScreen
from rvtop.ui.sharing import Sharing
from rvtop.ui.widgets.footer import Footer
from rvtop.ui.widgets.header import Header
from rvtop.ui.widgets.place_footer import PlaceFooter

NOTICE = "read-only: this screen only watches"


def watching() -> tuple[RvtopApp, made.FakeHandle]:
    handle = made.FakeHandle(made.live())
    return RvtopApp(handle, yes=True, sharing=Sharing(readonly=True)), handle


def row(app: RvtopApp, kind: type[Header] | type[Footer]) -> str:
    return "\n".join(app.screen.query_one(kind).plain_text())


STEERING = [(a.keys[0], a.holds("A*L")) for a in ACTIONS if a.steers and a.keys]


@pytest.mark.parametrize(("key", "on_live"), STEERING, ids=lambda one: str(one))
async def test_a_key_that_steers_says_so_and_sends_nothing(key: str, on_live: bool) -> None:
    """On the live screen, or where it is not there, on the Compare screen."""
    app, handle = watching()
    async with opened(app) as pilot:
        if not on_live:
            await pilot.press("4")
            await until(pilot, lambda: isinstance(app.screen, CompareScreen) and app.screen.snapshot)
        screens = len(app.screen_stack)
        await pilot.press(key)
        await pilot.pause()
        assert NOTICE in row(app, Footer)
        assert len(app.screen_stack) == screens  # no dialog either
        assert handle.sent == []


async def test_what_a_screen_would_send_all_the_same_stays_here() -> None:
    app, handle = watching()
    async with opened(app):
        app.send(SetRate(9.0))
        assert handle.sent == []
        assert NOTICE in row(app, Footer)


@pytest.mark.parametrize("width", [60, 80, 120])
async def test_the_header_says_it_and_the_footer_has_no_keys_of_the_load(width: int) -> None:
    app, _ = watching()
    async with opened(app, width, 30):
        assert "● running  ◇ READ-ONLY" in row(app, Header)
        assert ("climb" in row(app, Header)) == (width >= 80)
        keys = row(app, Footer)
        assert "freeze" in keys
        assert not [word for word in ("pause", "rate", "next phase", "mark") if word in keys]


async def test_a_screen_that_joined_is_left_at_once_and_says_so() -> None:
    handle = made.FakeHandle(made.live())
    app = RvtopApp(handle, yes=True, sharing=Sharing(joined=True))
    async with opened(app) as pilot:
        assert "q leave" in row(app, Footer)
        await pilot.press("3")
        assert "q leave" in "\n".join(app.screen.query_one(PlaceFooter).plain_text())
        await pilot.press("q")
        await pilot.pause()
        assert app._exit
        assert not any(isinstance(screen, StoppingScreen) for screen in app.screen_stack)
    assert app.exit_code == 0
