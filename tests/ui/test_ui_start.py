"""The Start screen driven by keys and mouse: what it lists, what a row means, what choosing does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import made
import pytest
from driven import opened, screen_text, until
from textual.pilot import Pilot
from textual.widgets import Input, Static

import rvtop.doctor
import rvtop.results.stored
from rvtop.contract.command import SetRate
from rvtop.contract.handle import Choice, ConnectFailed, SessionHandle
from rvtop.contract.start import StartFacts, kubernetes_line
from rvtop.results.stored import RunRow
from rvtop.ui.app import RvtopApp
from rvtop.ui.screens.dialog import Dialog
from rvtop.ui.screens.help import HelpScreen
from rvtop.ui.screens.live import LiveScreen
from rvtop.ui.screens.map import MapScreen
from rvtop.ui.screens.start import StartScreen
from rvtop.ui.start_lines import StartLines, items_of
from rvtop.ui.theme import DARK, Styles
from rvtop.ui.widgets.start_list import StartList


@pytest.fixture
def handle() -> made.FakeHandle:
    return made.FakeHandle(replace(made.live(), load=replace(made.live().load, target_rps=5.0)))


def started(connect: made.Connecting, facts: StartFacts | None = None, url: str = "") -> RvtopApp:
    return RvtopApp(None, connect, facts=lambda: facts or made.start_facts(), url=url)


def said(app: RvtopApp, name: str) -> str:
    return str(app.screen.query_one(f"#{name}", Static).render()).strip()


async def to(pilot: Pilot[int], name: str) -> None:
    """Moves the cursor to the row of that name."""
    rows = pilot.app.screen.query_one(StartList)
    names = [item.name for item in items_of(rows.facts)]
    step = names.index(name) - rows.cursor
    await pilot.press(*["down" if step > 0 else "up"] * abs(step))
    assert rows.item is not None
    assert rows.item.name == name


# -- what is listed --------------------------------------------------------------------------------


async def test_all_that_is_known_is_listed() -> None:
    app = started(made.Connecting())
    async with opened(app) as pilot:
        await pilot.pause()
        seen = screen_text(app)
        for part in (
            *("n1 · 4 GPUs, 1 free · Ray up at 10.0.0.1:6379 · Ray 2.60.0 · vLLM 0.29.0 · 3 models",),
            *("http://127.0.0.1:8000", "q3b,q15b", "ready, up 2:14:00", "✗ weights: run"),
            *(
                "front → least loaded",
                "00:21",
                "✗ vllm is not installed",
                "[x] q3b",
                "[ ] tiny",
                "built here",
            ),
            *("0.5/141 GiB", "free", "in use", "http://gpu-b:8000", "2 h ago", "64 cores"),
        ):
            assert part in seen, part


@pytest.mark.parametrize("width", [20, 40, 60, 80, 109, 110, 160, 300])
@pytest.mark.parametrize("name", ["start_facts", "start_without_gpu", "start_with_nothing", "nothing_known"])
def test_the_rows_fit_every_width_and_each_thing_has_its_place(width: int, name: str) -> None:
    facts = getattr(made, name)()
    picture = StartLines(facts, Styles(DARK), width, 0, frozenset({"q3b"})).picture()
    assert max(line.width for line in picture.lines) <= width
    items = items_of(facts)
    assert len(picture.places) == len(items)
    assert len(set(picture.places)) == len(items)
    if width >= 60:
        for item, (y, left, _) in zip(items, picture.places, strict=True):
            assert item.name[:4] in picture.lines[y].text[left:]


async def test_before_anything_is_found_a_topology_can_be_chosen(handle: made.FakeHandle) -> None:
    go_on = threading.Event()

    def look_around() -> StartFacts:
        go_on.wait(60)
        return made.start_facts()

    connect = made.Connecting(handle)
    app = RvtopApp(None, connect, facts=lambda: made.nothing_known(), look_around=look_around)
    try:
        async with opened(app) as pilot:
            assert "looking for models, GPUs and servers" in screen_text(app)
            await pilot.press("down")
            assert app.screen.query_one(StartList).item == made.start_facts().offers[1]
            go_on.set()
            await until(pilot, lambda: "q3b,q15b" in screen_text(app))
            item = app.screen.query_one(StartList).item
            assert item == made.start_facts().offers[1], "the cursor stays at what it pointed to"
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, LiveScreen))
            assert connect.chosen == [Choice(topology="rac")]
    finally:
        go_on.set()


async def test_what_comes_up_later_is_listed() -> None:
    facts = [made.start_without_gpu(), made.start_facts()]
    app = RvtopApp(None, made.Connecting(), facts=lambda: facts[0], look_around=lambda: facts[0])
    async with opened(app) as pilot:
        await pilot.pause()
        assert "up now" not in screen_text(app)
        facts.pop(0)
        assert isinstance(app.screen, StartScreen)
        app.screen._look()
        await until(pilot, lambda: "up now" in screen_text(app))


async def test_where_nothing_can_be_chosen_the_field_is_first_and_everything_says_why() -> None:
    app = started(made.Connecting(), made.start_with_nothing())
    async with opened(app) as pilot:
        assert isinstance(app.focused, Input)
        assert "no server yet, and no runs in runs/" in screen_text(app)
        assert "no GPU: engines run on the CPU" in screen_text(app)
        await pilot.press("escape", "enter")
        assert said(app, "message") == (
            "✗ baseline cannot be started here: torch, transformers are not installed; "
            "fix: pip install 'rvtop[hf]'"
        )


async def test_the_row_under_the_cursor_is_in_sight_on_a_low_screen() -> None:
    app = started(made.Connecting())
    async with opened(app, 80, 12) as pilot:
        for item in items_of(made.start_facts()):
            await to(pilot, item.name)
            await pilot.pause()
            marked = next(line for line in screen_text(app).splitlines() if line.startswith(" ▸"))
            assert item.name[:4] in marked


async def test_a_server_of_before_that_is_not_up_says_so() -> None:
    facts = made.start_facts()
    gone = replace(facts.recent[0], why="not up")
    async with opened(started(made.Connecting(), replace(facts, recent=(gone, *facts.recent[1:])))) as pilot:
        await until(pilot, lambda: "✗ not up" in screen_text(pilot.app))


async def test_d_shows_what_the_doctor_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    def examine(*, deep: bool, out: Callable[[str], None]) -> int:
        assert not deep
        out("warn  ray dashboard   none")
        return 0

    monkeypatch.setattr(rvtop.doctor, "examine", examine)
    app = started(made.Connecting())
    async with opened(app) as pilot:
        await pilot.press("D")
        await until(pilot, lambda: "warn  ray dashboard   none" in screen_text(app))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, StartScreen))


async def test_r_lists_stored_runs_and_copies_what_plays_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = [RunRow("runs/a b", "ramp", "rvc", "2026-01-02T03:04:05Z", "done", 61.0, 240.0, 100.0)]
    monkeypatch.setattr(rvtop.results.stored, "stored_runs", lambda _: found)
    app = started(made.Connecting())
    async with opened(app) as pilot:
        await pilot.press("R")
        await until(pilot, lambda: "2026-01-02 03:04" in screen_text(app))
        await pilot.press("enter")
        await until(pilot, lambda: app.clipboard == "rvtop replay 'runs/a b'")
        await until(pilot, lambda: isinstance(app.screen, StartScreen))


# -- command lines ---------------------------------------------------------------------------------


async def test_each_row_is_a_command_line_which_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    app = started(made.Connecting())
    wanted = {
        "rvc": "rvtop attach http://127.0.0.1:8000 --model q3b --model q15b",
        "second": "",
        "baseline": "rvtop --topology baseline",
        "q3b": "",
        "http://gpu-b:8000": "rvtop attach http://gpu-b:8000",
        "runs/ramp-48-20251126-140101": "rvtop report runs/ramp-48-20251126-140101",
    }
    async with opened(app) as pilot:
        for name, command in wanted.items():
            await to(pilot, name)
            await pilot.pause()
            assert said(app, "command") == (f"= {command}" if command else "")
            await pilot.press("y")
            if command:
                assert app.clipboard == command
                assert (tmp_path / "rvtop" / "copied.txt").read_text() == f"{command}\n"
            else:
                assert "no command line" in said(app, "message")


async def test_ticked_models_are_in_the_command_line_and_in_what_is_chosen(handle: made.FakeHandle) -> None:
    connect = made.Connecting(handle)
    app = started(connect)
    async with opened(app) as pilot:
        await to(pilot, "tiny")
        await pilot.press("space")
        await to(pilot, "q3b")
        await pilot.press("enter")
        await to(pilot, "q15b")
        await pilot.press("space")
        await to(pilot, "rac")
        assert said(app, "command") == "= rvtop --topology rac --model tiny=tiny"
        assert "00:21" not in screen_text(app), "the last start was one with other models"
        await to(pilot, "tiny")
        await pilot.press("space")
        assert "[x] tiny" in screen_text(app), "one model stays ticked"
        await to(pilot, "rac")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, LiveScreen))
    assert connect.chosen == [Choice(topology="rac", models=("tiny=tiny",))]


async def test_what_is_no_model_is_not_ticked() -> None:
    app = started(made.Connecting())
    async with opened(app) as pilot:
        await pilot.press("space")
        assert "space ticks a model" in said(app, "message")


# -- choosing --------------------------------------------------------------------------------------


async def test_a_topology_is_started(handle: made.FakeHandle) -> None:
    connect = made.Connecting(handle)
    app = started(connect)
    async with opened(app, 80, 24) as pilot:
        await to(pilot, "baseline")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, LiveScreen) and app.screen.snapshot is not None)
        assert connect.chosen == [Choice(topology="baseline")]
        await pilot.press("up", "q", "y")
        await until(pilot, lambda: app._exit)
    assert handle.sent == [SetRate(6.0)]
    assert handle.closed == 1


async def test_what_is_up_is_watched_with_all_its_models(handle: made.FakeHandle) -> None:
    connect = made.Connecting(handle)
    app = started(connect)
    async with opened(app) as pilot:
        await pilot.press("down", "enter")
        assert said(app, "message") == "✗ second can't be watched now: weights: run"
        await pilot.press("up", "enter")
        await until(pilot, lambda: isinstance(app.screen, LiveScreen))
    assert connect.chosen == [Choice(url="http://127.0.0.1:8000", models=("q3b", "q15b"))]


async def test_a_url_is_typed_and_why_it_cannot_be_is_said(handle: made.FakeHandle) -> None:
    connect = made.Connecting(
        ConnectFailed("http://nowhere:1: connection refused; is the server up?"), handle
    )
    app = started(connect)
    async with opened(app, 80, 24) as pilot:
        await pilot.press("u", *"ftp://x", "enter")
        assert connect.chosen == []
        assert "only http:// and https://" in said(app, "message")
        app.screen.query_one(Input).value = "nowhere:1"
        await pilot.pause()
        assert said(app, "command") == "= rvtop attach http://nowhere:1"
        await pilot.press("enter")
        await until(pilot, lambda: "connection refused" in said(app, "message"))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, LiveScreen))
    assert connect.chosen == [Choice(url="http://nowhere:1")] * 2


async def test_connecting_can_be_given_up() -> None:
    given_up = asyncio.Event()

    async def connect(choice: Choice) -> SessionHandle:
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()
        raise AssertionError("unreachable")

    app = RvtopApp(None, connect, facts=lambda: made.start_facts(), url="http://slow:1")
    async with opened(app, 80, 24) as pilot:
        await pilot.press("u", "enter")
        await until(pilot, lambda: "connecting to http://slow:1" in said(app, "message"))
        await pilot.press("escape")
        await until(pilot, given_up.is_set)
        await pilot.press("escape")
        assert isinstance(app.focused, StartList)
        await pilot.press("q")
        await until(pilot, lambda: app._exit)
    assert app.exit_code == 0


async def test_a_click_chooses_and_a_double_click_starts(handle: made.FakeHandle) -> None:
    connect = made.Connecting(handle)
    app = started(connect, made.start_without_gpu())
    async with opened(app) as pilot:
        rows = app.screen.query_one(StartList)
        await pilot.click(StartList, offset=(5, 3))
        assert (rows.cursor, connect.chosen) == (1, [])
        await pilot.click(StartList, offset=(5, 2), times=2)
        await until(pilot, lambda: connect.chosen == [Choice(topology="baseline")])


async def test_a_run_is_not_opened_but_said_how() -> None:
    app = started(made.Connecting())
    async with opened(app) as pilot:
        await to(pilot, "runs/ramp-48-20251126-140101")
        await pilot.press("enter")
        assert "prints its figures" in said(app, "message")


async def test_it_names_the_line_that_deploys_a_topology_on_kubernetes() -> None:
    app = started(made.Connecting())
    async with opened(app) as pilot:
        await to(pilot, "baseline")
        await pilot.press("K")
        assert "no manifests are made for baseline; for Kubernetes there are rsc, rvc" in said(app, "message")
        await pilot.press("down", "down", "down", "K")  # rvc, which can't be started here
        line = "rvtop deploy k8s rvc --out rvc-k8s && kubectl apply -k rvc-k8s/overlays/production"
        assert line in said(app, "message")


def test_only_a_model_of_the_hub_is_named_for_kubernetes() -> None:
    for models, named in (
        (("q=Qwen/Qwen2.5-3B",), " --model q=Qwen/Qwen2.5-3B"),
        (("q=/mnt/q",), ""),
        (("tiny=tiny",), ""),
        (("a=x/a", "b=x/b"), ""),
    ):
        line = kubernetes_line(Choice(topology="vllm", models=models))
        assert line.startswith(f"rvtop deploy k8s vllm{named} --out vllm-k8s && ")


async def test_help_theme_and_palette_are_there_too() -> None:
    app = started(made.Connecting())
    async with opened(app) as pilot:
        await pilot.press("question_mark")
        assert isinstance(app.screen, HelpScreen)
        await pilot.press("escape")
        before = app.rich_styles.palette.name
        await pilot.press("T")
        assert app.rich_styles.palette.name != before
        assert "theme" in said(app, "message")
        await pilot.press("colon", *"theme", "enter")
        await pilot.pause()
        assert isinstance(app.screen, StartScreen)


# -- over a session --------------------------------------------------------------------------------


async def test_nought_lists_what_there_is_while_the_load_goes_on(handle: made.FakeHandle) -> None:
    app = RvtopApp(handle, made.Connecting(), facts=lambda: made.start_facts())
    async with opened(app) as pilot:
        await pilot.press("2", "0")
        await until(pilot, lambda: isinstance(app.screen, StartScreen))
        assert "choosing another one ends its load" in said(app, "message")
        await pilot.press("0")
        assert "esc goes back" in said(app, "message")
        await pilot.press("2")  # a screen's key goes back to the session, and there
        await until(pilot, lambda: isinstance(app.screen, MapScreen))
        await pilot.press("0", "escape")
        await until(pilot, lambda: isinstance(app.screen, MapScreen))
        assert handle.closed == 0


@pytest.mark.parametrize("keys", [[], ["2"]], ids=["over live", "over the map"])
async def test_choosing_there_ends_the_load_of_before(handle: made.FakeHandle, keys: list[str]) -> None:
    after = made.FakeHandle(made.watching())
    connect = made.Connecting(after)
    app = RvtopApp(handle, connect, facts=lambda: made.start_facts())
    async with opened(app) as pilot:
        await pilot.press(*keys, "0")
        await until(pilot, lambda: isinstance(app.screen, StartScreen))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, LiveScreen) and app.handle is after)
        assert handle.closed == 1
        assert [type(screen) for screen in app.screen_stack[1:]] == [LiveScreen]
        await until(pilot, lambda: app.live is not None and app.live.snapshot == after.now)
        await pilot.press("q")
        await until(pilot, lambda: app._exit)
    assert after.closed == 1


async def test_a_url_that_is_typed_takes_the_place_of_the_one_that_stands_there() -> None:
    app = started(made.Connecting(), url="http://127.0.0.1:9000")
    async with opened(app) as pilot:
        await pilot.press("u", *"http://n2:8000")
        await until(pilot, lambda: app.screen.query_one(Input).value == "http://n2:8000")


@pytest.mark.parametrize("over_session", [False, True])
@pytest.mark.parametrize("key", ["question_mark", "colon"])
async def test_a_dialog_that_is_open_when_it_connects_goes_with_the_start_screen(
    handle: made.FakeHandle, over_session: bool, key: str
) -> None:
    after, connected = made.FakeHandle(made.watching()), asyncio.Event()

    async def connect(choice: Choice) -> SessionHandle:
        await connected.wait()
        return after

    app = RvtopApp(handle if over_session else None, connect, facts=lambda: made.start_facts())
    async with opened(app) as pilot:
        if over_session:
            await pilot.press("2")
            await pilot.press("0")
        await until(pilot, lambda: isinstance(app.screen, StartScreen))
        await pilot.press("enter")
        await until(pilot, lambda: "connecting to" in said(app, "message"))
        await pilot.press(key)
        await until(pilot, lambda: isinstance(app.screen, Dialog))
        connected.set()
        await until(pilot, lambda: app.handle is after and isinstance(app.screen, LiveScreen))
        assert [type(screen) for screen in app.screen_stack[1:]] == [LiveScreen]
        await until(pilot, lambda: app.live is not None and app.live.snapshot == after.now)
        assert handle.closed == over_session


async def test_what_is_over_gives_way_to_the_start_screen_with_a_dialog_above_it() -> None:
    handle = made.FakeHandle(made.done())
    app = RvtopApp(handle, made.Connecting(), facts=lambda: made.start_facts())
    async with opened(app) as pilot:
        await pilot.press("2", "question_mark")
        await until(pilot, lambda: isinstance(app.screen, Dialog))
        app.choose_again()
        await until(pilot, lambda: isinstance(app.screen, StartScreen))
        assert [type(screen) for screen in app.screen_stack[1:]] == [StartScreen]


async def test_the_load_of_before_goes_on_where_a_url_does_not_answer(handle: made.FakeHandle) -> None:
    connect = made.Connecting(ConnectFailed("http://127.0.0.1:8000: refused"))
    app = RvtopApp(handle, connect, facts=lambda: made.start_facts())
    async with opened(app) as pilot:
        await pilot.press("0")
        await until(pilot, lambda: isinstance(app.screen, StartScreen))
        await pilot.press("enter")
        await until(pilot, lambda: "refused" in said(app, "message"))
        assert handle.closed == 0
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, LiveScreen))
        await pilot.press("up")
        assert handle.sent == [SetRate(6.0)]


async def test_the_load_of_before_ends_before_a_topology_starts(handle: made.FakeHandle) -> None:
    closed: list[int] = []

    async def connect(choice: Choice) -> SessionHandle:
        closed.append(handle.closed)
        raise ConnectFailed("no room")

    app = RvtopApp(handle, connect, facts=lambda: made.start_facts())
    async with opened(app) as pilot:
        await pilot.press("0")
        await until(pilot, lambda: isinstance(app.screen, StartScreen))
        await to(pilot, "rac")
        await pilot.press("enter")
        await until(pilot, lambda: "no room" in said(app, "message"))
        assert closed == [1]
        await pilot.press("escape")
        assert isinstance(app.screen, StartScreen), "there is no session to go back to"
        await pilot.press("q")
        await until(pilot, lambda: app._exit)


async def test_a_screen_of_one_session_has_nothing_to_choose(handle: made.FakeHandle) -> None:
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await pilot.press("0")
        await pilot.pause()
        assert isinstance(app.screen, LiveScreen)
        assert "this screen shows one session" in screen_text(app)
