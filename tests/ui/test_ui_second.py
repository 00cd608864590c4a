"""Keys t and A of the Compare screen: live pairs of this server and a second one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import made
import pytest
from driven import opened as app_opened
from driven import screen_text, until
from textual.pilot import Pilot
from textual.widgets import Static

from rvtop.contract.command import Pause
from rvtop.contract.handle import Choice, ConnectFailed, Second
from rvtop.contract.snapshot import Phase, Snapshot, Target
from rvtop.contract.start import StartFacts, UpRow
from rvtop.ui.app import RvtopApp
from rvtop.ui.screens.compare import CompareScreen
from rvtop.ui.screens.requests import RequestsScreen
from rvtop.ui.screens.second import SecondScreen
from rvtop.ui.screens.text import TextScreen
from rvtop.ui.second_lines import choice_of, keeps, seconds_of, what_begins, why_not
from rvtop.ui.widgets.pairs import PairsPanel

HERE, THERE = "http://127.0.0.1:4", "http://127.0.0.1:8000"


def now(*, owned: bool = False, rps: float | None = 24.0) -> Snapshot:
    s = made.live()
    target = replace(s.target, url=HERE, topology="rvc", owned=owned, models=("tiny",))
    by_hand = Phase("live", 0, 1, 42.0, None)
    return replace(s, target=target, phase=by_hand, load=replace(s.load, target_rps=rps))


def of_a_scenario(*, owned: bool) -> Snapshot:
    """Its phase ends by itself."""
    return replace(now(owned=owned), phase=made.live().phase)


def paired() -> made.FakeHandle:
    s = made.pairs()
    return made.FakeHandle(replace(s, target=replace(s.target, url=HERE, owned=False)))


@asynccontextmanager
async def opened(
    handle: made.FakeHandle, connect: made.Connecting | None, facts: StartFacts | None = None
) -> AsyncIterator[Pilot[int]]:
    facts = facts or made.start_facts()
    app = RvtopApp(handle, connect, facts=lambda: facts)
    async with app_opened(app) as pilot:
        await pilot.press("4")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen) and app.screen.snapshot)
        yield pilot


def says(pilot: Pilot[int], text: str) -> bool:
    return text in screen_text(pilot.app)


async def test_a_second_server_is_chosen_and_pairs_take_the_place_of_the_load() -> None:
    before, after = made.FakeHandle(now()), paired()
    connect = made.Connecting(after)
    async with opened(before, connect) as pilot:
        await pilot.press("t")
        assert isinstance(pilot.app.screen, SecondScreen)
        await until(pilot, lambda: says(pilot, THERE))
        names = [one.name for one in pilot.app.screen.choices]
        assert "rac" not in names, "only what is up"
        assert says(pilot, "this load ends, with its results")
        assert says(pilot, "pairs at 24")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, CompareScreen) and before.closed)
        await until(pilot, lambda: pilot.app.screen.query(PairsPanel) and says(pilot, "TTFT mean"))
        assert connect.chosen == [Choice(url=HERE, models=("tiny",), second=Second(THERE, 24.0))]
        assert pilot.app.handle is after  # type: ignore[attr-defined]
        assert before.sent == []
    assert (before.closed, after.closed) == (1, 0)


async def test_a_server_of_ours_stays_and_its_load_pauses() -> None:
    """Its session ends with rvtop, after the pairs; also pairs that begin anew leave it."""
    before, first, second = made.FakeHandle(now(owned=True)), paired(), paired()
    connect = made.Connecting(first, second)
    async with opened(before, connect) as pilot:
        await pilot.press("t", "enter")
        await until(pilot, lambda: pilot.app.handle is first)  # type: ignore[attr-defined]
        await until(pilot, lambda: isinstance(pilot.app.screen, CompareScreen) and pilot.app.screen.snapshot)
        assert (before.sent, before.closed) == ([Pause()], 0)
        await pilot.press("A")
        await until(pilot, lambda: pilot.app.handle is second)  # type: ignore[attr-defined]
        assert (before.closed, first.closed) == (0, 1)
        pairs = first.now.pairs if first.now is not None else None
        assert pairs is not None
        assert connect.chosen[1].second == Second(pairs.b, None)
        await pilot.app.close_handle()  # type: ignore[attr-defined]
        assert (before.closed, second.closed) == (1, 1)


async def test_a_against_itself_shows_the_noise() -> None:
    connect = made.Connecting(paired())
    async with opened(made.FakeHandle(now(rps=0.0)), connect) as pilot:
        await pilot.press("A")
        await until(pilot, lambda: connect.chosen)
        assert connect.chosen == [Choice(url=HERE, models=("tiny",), second=Second(HERE, None))]


async def test_what_cannot_be_says_why_and_the_load_goes_on() -> None:
    before = made.FakeHandle(now())
    connect = made.Connecting(ConnectFailed("http://127.0.0.1:8000: no answer"))
    async with opened(before, connect) as pilot:
        await pilot.press("t", "enter")
        await until(pilot, lambda: says(pilot, "no live pairs: http://127.0.0.1:8000: no answer"))
        assert pilot.app.handle is before  # type: ignore[attr-defined]
        assert (before.closed, before.sent) == (0, [])
        await pilot.press("t", "escape")
        assert isinstance(pilot.app.screen, CompareScreen)
    async with opened(made.FakeHandle(now()), None) as pilot:
        await pilot.press("t")
        await until(pilot, lambda: says(pilot, "no live pairs: this screen shows one session; rvtop ab A B"))
        assert isinstance(pilot.app.screen, CompareScreen)


async def test_one_that_does_not_answer_and_none_at_all() -> None:
    gone = replace(made.start_facts(), up=(), recent=(made.start_facts().recent[0],), complete=True)
    gone = replace(gone, recent=(replace(gone.recent[0], url="http://gone:1", folder="", why="no answer"),))
    async with opened(made.FakeHandle(now()), made.Connecting(), gone) as pilot:
        await pilot.press("t")
        await until(pilot, lambda: says(pilot, "http://gone:1"))
        await pilot.press("enter")
        wrong = pilot.app.screen.query_one("#wrong", Static)
        assert "http://gone:1 can't be loaded: no answer" in str(wrong.render())
    none = replace(gone, recent=())
    async with opened(made.FakeHandle(now()), made.Connecting(), none) as pilot:
        await pilot.press("t", "enter")
        await until(pilot, lambda: says(pilot, "rvtop up TOPOLOGY starts one"))


async def test_what_differs_and_the_requests_of_pairs() -> None:
    async with opened(paired(), None) as pilot:
        await pilot.press("v")
        await until(pilot, lambda: isinstance(pilot.app.screen, TextScreen))
        await until(pilot, lambda: says(pilot, "servers: neither server tells its configuration"))
        await pilot.press("escape", "x")
        await pilot.pause()
        assert isinstance(pilot.app.screen, CompareScreen)
        assert pilot.app.screen.sides.a == "pair b"
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, RequestsScreen))


@pytest.mark.parametrize(
    ("s", "why"),
    [
        (now(), ""),
        (replace(now(owned=True), state="done"), "its server has ended with the session"),
        (replace(now(), state="done"), ""),
        (now(owned=True), ""),
        (of_a_scenario(owned=True), "its scenario would end meanwhile, and its server with it"),
        (replace(now(owned=True), state="draining"), "its scenario would end meanwhile"),
        (of_a_scenario(owned=False), ""),
        (replace(now(), state="starting"), "there is no server yet"),
        (made.showdown("third"), "a showdown runs"),
    ],
)
def test_from_which_sessions_pairs_can_begin(s: Snapshot, why: str) -> None:
    assert why_not(s).startswith(why) if why else why_not(s) == ""


def test_the_server_of_now_is_no_second_and_standby_ones_are_kept() -> None:
    facts = replace(
        made.start_facts(),
        up=(UpRow("here", HERE, "rvc"), UpRow("there", THERE, "vllm")),
        recent=(),
    )
    assert [one.url for one in seconds_of(now(), facts)] == [THERE]
    assert not keeps(now())
    standing = replace(now(), standby=(Target("http://127.0.0.1:7", "vllm", ("tiny",), owned=True),))
    assert keeps(standing)
    assert [one.url for one in seconds_of(standing, facts)] == ["http://127.0.0.1:7", THERE]
    assert what_begins(standing)[0].startswith("this load pauses; ")
    assert choice_of(made.pairs(), THERE).second == Second(THERE, None)
