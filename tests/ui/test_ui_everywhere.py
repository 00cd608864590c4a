"""Keys that hold on every screen, or on one more than where they began: what each does there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import made
import pytest
from driven import opened, screen_text, show, text_of, until
from test_ui_every_key import PLACES, replayed

from rvtop.contract.command import Mark
from rvtop.contract.handle import Choice, SessionHandle
from rvtop.contract.snapshot import Snapshot
from rvtop.contract.start import command_line, start_words
from rvtop.ui.app import RvtopApp
from rvtop.ui.command_of import command_of
from rvtop.ui.screens.choose_side import ChooseSideScreen, SideChoice
from rvtop.ui.screens.compare import CompareScreen
from rvtop.ui.screens.events import EventsScreen
from rvtop.ui.screens.live import LiveScreen
from rvtop.ui.screens.map import MapScreen
from rvtop.ui.screens.requests import RequestsScreen
from rvtop.ui.screens.start import StartScreen
from rvtop.ui.screens.text import TextScreen
from rvtop.ui.screens.topology_options import parse_options
from rvtop.ui.screens.verdict import VerdictScreen
from rvtop.ui.sides import LIVE
from rvtop.ui.widgets.footer import Footer
from rvtop.ui.widgets.inflight import InFlightPanel
from rvtop.ui.widgets.map import BeforePanel, EnginePanel, MapPanel
from rvtop.ui.widgets.place_footer import PlaceFooter


def picture(app: RvtopApp) -> Snapshot:
    """What the screen of the session shows."""
    screen = app.session_screen
    assert screen is not None
    assert screen.snapshot is not None
    return screen.snapshot


def ready(app: RvtopApp) -> bool:
    """Whether keys are heard, and something is drawn."""
    screen = app.session_screen
    return app.hears and screen is not None and screen.snapshot is not None


async def test_stored_runs_are_listed_from_any_screen_and_the_chosen_one_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    app = RvtopApp(made.FakeHandle(made.listing()))
    async with opened(app) as pilot:
        await pilot.press("3", "R")
        await until(pilot, lambda: isinstance(app.screen, ChooseSideScreen))
        box = app.screen
        assert isinstance(box, ChooseSideScreen)
        box.take([SideChoice(LIVE, "now", "rvc", "the load of now")])
        await pilot.press("a")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen))
        assert app.sides.a == LIVE


async def test_nought_says_why_it_lists_nothing_where_there_is_one_session_alone() -> None:
    for app in (PLACES["AW"]()[0], RvtopApp(replay=replayed())):
        async with app.run_test(size=(120, 40)) as pilot:
            await until(pilot, lambda app=app: ready(app))  # type: ignore[misc]
            await pilot.press("0")
            await pilot.pause()
            assert "this screen shows one session" in screen_text(app)


async def test_the_command_line_is_copied_on_any_screen() -> None:
    live = made.live()
    live = replace(live, target=replace(live.target, owned=False))
    app = RvtopApp(made.FakeHandle(live))
    async with opened(app) as pilot:
        for screen in ("1", "2", "3"):
            app.copy_to_clipboard("")
            await pilot.press(screen, "Y")
            assert app.clipboard == command_of(live) != ""
    app = RvtopApp(replay=replayed())
    async with opened(app) as pilot:
        await pilot.press("Y")
        assert app.clipboard == "rvtop replay runs/x"


def test_the_command_line_of_a_session_is_that_of_its_kind() -> None:
    s = made.live()
    ours = replace(s, plan=None, target=replace(s.target, topology="rvc", owned=True))
    assert command_of(ours) == "", "its models and options are not known"
    words = start_words("rvc", ("q=/m/q",), ("--max-num-seqs", "8"))
    started = replace(ours, target=replace(ours.target, start=words))
    assert command_of(started) == "rvtop --topology rvc --model q=/m/q --backend-options '--max-num-seqs 8'"
    planned = replace(made.planned(), out_dir="runs/a b", target=started.target)
    assert command_of(planned).startswith("rvtop run 'runs/a b/scenario.yaml' --topology rvc --model q=/m/q ")
    theirs = replace(ours, target=replace(s.target, owned=False, url="http://h:8000"))
    assert command_of(theirs) == "rvtop attach http://h:8000"
    planned = replace(made.planned(), out_dir="runs/a b", target=theirs.target)
    assert command_of(planned) == "rvtop run 'runs/a b/scenario.yaml' --target http://h:8000"
    assert command_of(replace(planned, pairs=made.pairs().pairs)) == "", "not the load of one server"
    walked = command_of(made.showdown("third"))
    assert walked == "rvtop showdown paper-rounds --topologies baseline,rac,rsc,rvc-noprefix,rvc"


async def test_the_map_stands_still_goes_back_and_zooms() -> None:
    handle = made.FakeHandle(made.live(90.0))
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: isinstance(app.screen, MapScreen) and ready(app))
        for t in (91.5, 92.5, 93.5):
            await show(app, pilot, handle, made.live(t))
        await pilot.press("left")
        assert picture(app).t_s == 92.5
        await until(pilot, lambda: "FROZEN" in text_of(app, PlaceFooter))
        await show(app, pilot, handle, made.live(94.5))
        assert picture(app).t_s == 92.5
        await pilot.press("escape")  # the time cursor goes first
        assert picture(app).t_s == 94.5
        await pilot.press("f")
        await show(app, pilot, handle, made.live(95.5))
        assert picture(app).t_s == 94.5
        await pilot.press("f", "z")
        await pilot.pause()
        shown = [panel for panel in app.screen.query(MapPanel) if panel.region.area]
        assert shown
        assert shown[0].size.height == 38
        assert not app.screen.query_one(EnginePanel).display
        await pilot.press("escape")
        await pilot.pause()
        assert app.screen.query_one(EnginePanel).display
        await pilot.press("v")
        assert isinstance(app.screen, VerdictScreen) or "no verdict" in screen_text(app)


async def test_the_maps_halves_get_what_they_fill_and_charts_the_rest() -> None:
    app = RvtopApp(made.FakeHandle(made.live()))
    async with opened(app, 120, 60) as pilot:
        await pilot.press("2", "B")
        await until(pilot, lambda: app.screen.query_one(BeforePanel).display)
        await pilot.pause()
        s = app.screen.newest if isinstance(app.screen, MapScreen) else None
        half, chart = app.screen.query_one(MapPanel), app.screen.query_one(InFlightPanel)
        assert s is not None
        assert half.size.height == half.wanted(s, 120)
        assert chart.size.height >= 7
        assert "in flight" in text_of(app, InFlightPanel)
        before = text_of(app, InFlightPanel)
        await pilot.press("W")
        await pilot.pause()
        assert text_of(app, InFlightPanel) != before
        await pilot.resize_terminal(120, 24)
        await pilot.pause()
        await pilot.press("W")
        assert "one instant" in screen_text(app)


async def test_enter_shows_the_second_of_a_request_and_of_an_event() -> None:
    app = RvtopApp(made.FakeHandle(made.listing()))
    async with opened(app) as pilot:
        for keys, screen in ((["3"], RequestsScreen), (["e"], EventsScreen)):
            await pilot.press(*keys)
            await until(pilot, lambda screen=screen: isinstance(app.screen, screen))  # type: ignore[misc]
            await until(pilot, lambda: ready(app))
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, LiveScreen))
            assert app.live is not None
            assert app.live.view.cursor_s is not None
            assert app.live.query_one(Footer).frozen
            await pilot.press("escape")
            assert app.live.view.cursor_s is None


async def test_enter_leads_on_from_a_comparison_and_from_a_showdown() -> None:
    app = RvtopApp(made.FakeHandle(made.listing()))
    async with opened(app) as pilot:
        await pilot.press("4")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, RequestsScreen))
    app, _ = PLACES["AW"]()
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: ready(app))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, LiveScreen))


async def test_a_mark_is_made_on_compare_and_not_in_a_replay() -> None:
    handle = made.FakeHandle(made.listing())
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await pilot.press("4")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen))
        await pilot.press("m", "x", "enter")
        await until(pilot, lambda: handle.sent == [Mark("x")])
    app = RvtopApp(replay=replayed())
    async with opened(app) as pilot:
        await pilot.press("m")
        await pilot.pause()
        assert "takes no more marks" in screen_text(app)


@pytest.mark.parametrize("places", ["A*M", "A*C", "AW", "AP", "AZ"])
async def test_all_events_are_opened_from_every_screen(places: str) -> None:
    app, keys = PLACES[places]()
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: ready(app))
        await pilot.press(*keys, "e")
        await until(pilot, lambda: isinstance(app.screen, EventsScreen))


# -- Start ---------------------------------------------------------------------------------------------


class Chosen:
    """Remembers what was chosen, and connects to a made-up session."""

    def __init__(self) -> None:
        self.choices: list[Choice] = []

    async def __call__(self, choice: Choice) -> SessionHandle:
        self.choices.append(choice)
        return made.FakeHandle(made.watching())


async def test_start_filters_describes_and_says_what_needs_a_session() -> None:
    app = RvtopApp(connect=Chosen(), facts=made.start_facts)
    async with opened(app) as pilot:
        await pilot.press("slash", *"rsc", "enter")
        await pilot.pause()
        text = screen_text(app)
        assert "rsc" in text
        assert "baseline" not in text
        assert "listed: what holds “rsc”" in text
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, TextScreen))
        await pilot.pause()
        assert "HAProxy → Serve → router" in screen_text(app)
        assert "rvtop --topology rsc" in screen_text(app)
        await pilot.press("escape", "escape")
        await pilot.pause()
        assert "baseline" in screen_text(app)
        for key in ("2", "e", "l", "s"):
            await pilot.press(key)
            await pilot.pause()
            assert "no session yet" in screen_text(app)
            assert isinstance(app.screen, StartScreen)


async def test_options_of_a_topology_are_in_its_command_line_and_in_what_is_started() -> None:
    chosen = Chosen()
    app = RvtopApp(connect=chosen, facts=made.start_facts)
    async with opened(app) as pilot:
        await pilot.press("o")  # on a server that is up
        await pilot.pause()
        assert "choose one under start" in screen_text(app)
        await pilot.press("slash", *"rsc", "enter", "o", *"threads", "enter")
        await pilot.pause()
        assert "an option begins with --" in screen_text(app)
        await pilot.press(*["backspace"] * 7, *"--threads 1", "enter")
        await until(pilot, lambda: isinstance(app.screen, StartScreen))
        await pilot.pause()
        line = "rvtop --topology rsc --backend-options '--threads 1'"
        assert line in screen_text(app)
        await pilot.press("enter")
        await until(pilot, lambda: chosen.choices)
        assert chosen.choices[0].arguments == ("--threads", "1")
        assert command_line(chosen.choices[0]) == line


def test_a_quotation_mark_that_is_never_closed_is_told() -> None:
    with pytest.raises(ValueError, match="never closed"):
        parse_options("--engine-arg 'a")
    assert parse_options("") == ()
