"""Key t: another server for the load that runs; and how a switch is shown meanwhile."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import made
import pytest
from driven import opened as app_opened
from driven import screen_text, until
from textual.pilot import Pilot
from textual.widgets import Static

from rvtop.contract.command import Retarget
from rvtop.contract.snapshot import Snapshot, StartStep, Switch, Target
from rvtop.contract.start import GpuRow, RecentRow, StartFacts
from rvtop.ui.app import RvtopApp
from rvtop.ui.screens.live import LiveScreen
from rvtop.ui.screens.log import LogScreen
from rvtop.ui.screens.map import MapScreen
from rvtop.ui.screens.switch import SwitchScreen
from rvtop.ui.switch_lines import choices_of, meanwhile, switch_line
from rvtop.ui.theme import DARK, Styles


def ours(**more: object) -> Snapshot:
    s = made.live()
    return replace(s, target=replace(s.target, url="http://127.0.0.1:4", topology="rsc", owned=True), **more)


def without_gpu() -> StartFacts:
    return replace(made.start_facts(), gpus=())


@asynccontextmanager
async def opened(snapshot: Snapshot, facts: StartFacts, width: int = 120) -> AsyncIterator[Pilot[int]]:
    app = RvtopApp(made.FakeHandle(snapshot), facts=lambda: facts)
    async with app_opened(app, width) as pilot:
        yield pilot


def text(pilot: Pilot[int]) -> str:
    return screen_text(pilot.app)


def sent(pilot: Pilot[int]) -> list[object]:
    return pilot.app.handle.sent  # type: ignore[attr-defined, no-any-return]


async def test_a_server_that_is_up_is_gone_to_at_once() -> None:
    async with opened(ours(), without_gpu()) as pilot:
        await pilot.press("t")
        await until(pilot, lambda: "http://127.0.0.1:8000" in text(pilot) and "at once" in text(pilot))
        await pilot.press("enter")
        assert isinstance(pilot.app.screen, LiveScreen)
        assert sent(pilot) == [Retarget("http://127.0.0.1:8000")]


@pytest.mark.parametrize(
    ("keys", "says", "wanted"),
    [
        ([], "rsc ends first, ~00:21", Retarget(topology="rac", place="instead", keep=False)),
        (["x"], "starts beside, ~00:21", Retarget(topology="rac", place="beside", keep=True)),
        (["x", "p"], "nothing is sent", Retarget(topology="rac", place="beside", keep=True, pause=True)),
    ],
)
async def test_a_topology_is_started_and_what_it_means_is_said_before(
    keys: list[str], says: str, wanted: Retarget
) -> None:
    async with opened(ours(), without_gpu()) as pilot:
        await pilot.press("t")
        dialog = pilot.app.screen
        assert isinstance(dialog, SwitchScreen)
        names = [one.name for one in dialog.choices]
        assert "rsc" not in names, "it is loaded already"
        await pilot.press(*["down"] * names.index("rac"), *keys)
        await until(pilot, lambda: says in text(pilot))
        await pilot.press("enter")
        assert sent(pilot) == [wanted]


async def test_with_a_free_gpu_it_starts_beside_and_ours_stays() -> None:
    facts = replace(made.start_facts(), gpus=(GpuRow(0, "H200", 1.0, 1000.0),))
    async with opened(ours(), facts) as pilot:
        await pilot.press("t")
        await until(pilot, lambda: "starts beside" in text(pilot))
        assert "stays up: [x]" in text(pilot)
        await pilot.press("x")
        await until(pilot, lambda: "stays up: [ ]" in text(pilot))
        assert "starts beside" in text(pilot)


async def test_one_that_is_not_ours_is_never_ended_for_it() -> None:
    s = made.live()
    async with opened(replace(s, target=replace(s.target, owned=False)), without_gpu()) as pilot:
        await pilot.press("t")
        await until(pilot, lambda: "this server is not ours" in text(pilot))
        await pilot.press("x")
        assert "ends first" not in text(pilot)


async def test_what_cannot_run_here_says_how_to_fix_it() -> None:
    async with opened(ours(), without_gpu()) as pilot:
        await pilot.press("t", *["down"] * 9, "enter")
        wrong = pilot.app.screen.query_one("#wrong", Static)
        await until(pilot, lambda: "fix: pip install 'rvtop[vllm]'" in str(wrong.render()))
        await pilot.press("escape")
        assert sent(pilot) == []


async def test_what_is_found_later_is_listed_and_the_cursor_stays() -> None:
    go_on = threading.Event()

    def look_around() -> StartFacts:
        go_on.wait(60)
        return without_gpu()

    app = RvtopApp(made.FakeHandle(ours()), facts=lambda: made.nothing_known(), look_around=look_around)
    try:
        async with app.run_test(size=(120, 40)) as pilot:
            await until(pilot, lambda: app.hears and app.live is not None and app.live.snapshot is not None)
            await pilot.press("t", "down")
            dialog = app.screen
            assert isinstance(dialog, SwitchScreen)
            assert dialog.choices[dialog.cursor].name == "rac"
            go_on.set()
            await until(pilot, lambda: len(dialog.choices) > 3)
            assert dialog.choices[dialog.cursor].name == "rac"
    finally:
        go_on.set()


async def test_servers_of_ours_that_stand_by_come_first() -> None:
    standby = (Target("http://127.0.0.1:7", "baseline", ("tiny",), owned=True),)
    async with opened(ours(standby=standby), without_gpu()) as pilot:
        await pilot.press("t", "enter")
        assert sent(pilot) == [Retarget("http://127.0.0.1:7")]


async def test_it_opens_over_the_map_too_and_never_twice() -> None:
    async with opened(ours(), without_gpu()) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: isinstance(pilot.app.screen, MapScreen))
        await pilot.press("t")
        assert isinstance(pilot.app.screen, SwitchScreen)
        await pilot.press("t")
        assert isinstance(pilot.app.screen, MapScreen)


async def test_while_a_switch_is_under_way_its_steps_are_shown_and_no_other_is_begun() -> None:
    async with opened(made.switching(), without_gpu()) as pilot:
        await until(pilot, lambda: "PAUSED for the switch 00:12" in text(pilot))
        assert "✓ Ray 00:02  ✓ placement 00:01  ▸ weights 00:07 of ~00:11  · warm-up ~00:06" in text(pilot)
        await pilot.press("t")
        assert isinstance(pilot.app.screen, LiveScreen)
        await until(pilot, lambda: "on its way to rac already" in text(pilot))


async def test_where_the_load_waits_another_server_can_be_chosen_and_the_log_read() -> None:
    failed = (StartStep("weights", "fail", 3.0, log=("one", "two", "three", "four", "out of memory")),)
    s = replace(
        made.switching(), steps=failed, switch=Switch("rac", "did not start", 3.0, paused=True, waits=True)
    )
    async with opened(replace(s, out_dir="/nowhere", backend_log="backend-2.log"), without_gpu()) as pilot:
        await until(pilot, lambda: "PAUSED, t chooses a server" in text(pilot))
        assert "✗ weights 00:03  out of memory" in text(pilot)
        await pilot.press("l")
        await until(pilot, lambda: isinstance(pilot.app.screen, LogScreen))
        await pilot.press("escape", "t")
        assert isinstance(pilot.app.screen, SwitchScreen)
        assert "rsc" in [one.name for one in pilot.app.screen.choices], "it has ended"
        lines = ("│ one", "│ two", "│ three", "│ four", "│ out of memory")
        await until(pilot, lambda: all(line in text(pilot) for line in lines))


async def test_a_server_of_before_that_is_not_up_is_never_gone_to() -> None:
    gone = RecentRow(url="http://gpu-b:8000", why="not up")
    facts = replace(without_gpu(), up=(), recent=(gone,), offers=())
    async with opened(ours(), facts) as pilot:
        await pilot.press("t")
        await until(pilot, lambda: "✗ not up" in text(pilot))
        assert "at once" not in text(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: "http://gpu-b:8000 can't be loaded: not up" in text(pilot))
        assert sent(pilot) == []


def test_what_does_not_answer_stands_last_and_the_pause_is_said_before() -> None:
    s, gone = ours(), RecentRow(url="http://gpu-b:8000", why="not up")
    facts = replace(without_gpu(), up=(), recent=(gone,))
    choices = choices_of(s, facts)
    assert [one.url for one in choices][-1] == gone.url
    starts = next(one for one in choices if not one.url)
    instead = meanwhile(starts, s, facts, keep=False, pause=False)
    assert instead.startswith("load pauses, and goes on at this rate once it is up")
    assert meanwhile(starts, s, facts, keep=True, pause=False).startswith(
        "load goes on while one starts beside"
    )


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_the_steps_fit_every_width(width: int) -> None:
    assert switch_line(made.switching(), Styles(DARK), width).width <= width
