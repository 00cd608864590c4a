"""What the screen looks like, as SVG. Look at a changed one before you accept it (--snapshot-update)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import made
import pytest
from driven import until
from textual.pilot import Pilot

from rvtop.contract.handle import Choice, ConnectFailed, SessionHandle
from rvtop.contract.snapshot import Snapshot
from rvtop.contract.start import StartFacts
from rvtop.ui.app import RvtopApp
from rvtop.ui.ghost import Ghost
from rvtop.ui.look import Look
from rvtop.ui.rate_memory import Fared
from rvtop.ui.theme import CONTRAST, DARK, LIGHT, SAFE, Palette, Styles

Compare = Callable[..., bool]


def screen(snapshot: Snapshot, styles: Styles | None = None) -> RvtopApp:
    return RvtopApp(made.FakeHandle(snapshot), clock=lambda: 0.0, styles=styles)


async def drawn(pilot: Pilot[int]) -> None:
    """Waits for the first picture."""
    app = pilot.app
    assert isinstance(app, RvtopApp)
    await until(pilot, lambda: app.choosing.screen or (app.live and app.live.snapshot))
    await pilot.pause()


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 55)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_live(snap_compare: Compare, size: tuple[int, int]) -> None:
    assert snap_compare(screen(made.live()), terminal_size=size, run_before=drawn)


@pytest.mark.parametrize("size", [(200, 60), (300, 100)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_live_with_columns_that_say_why(snap_compare: Compare, size: tuple[int, int]) -> None:
    assert snap_compare(screen(made.listing()), terminal_size=size, run_before=drawn)


@pytest.mark.parametrize("size", [(80, 24), (120, 44)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_plan_and_recording(snap_compare: Compare, size: tuple[int, int]) -> None:
    s = replace(made.planned(), recording_s=192.0)
    assert snap_compare(screen(s), terminal_size=size, run_before=drawn)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_watching(snap_compare: Compare, size: tuple[int, int]) -> None:
    assert snap_compare(screen(made.watching()), terminal_size=size, run_before=drawn)


@pytest.mark.parametrize("name", ["stale", "crowded", "done", "closed", "cluster", "comb"])
def test_other_pictures(snap_compare: Compare, name: str) -> None:
    assert snap_compare(screen(getattr(made, name)()), terminal_size=(120, 40), run_before=drawn)


@pytest.mark.parametrize("name", ["starting", "late", "failed", "lost"])
def test_small_pictures(snap_compare: Compare, name: str) -> None:
    assert snap_compare(screen(getattr(made, name)()), terminal_size=(80, 24), run_before=drawn)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("what", ["limited", "silent"])
def test_notices_and_a_dial_that_remembers(snap_compare: Compare, what: str, size: tuple[int, int]) -> None:
    s = made.live()
    reason = "a load worker uses 97 % of a core: add workers (--workers auto) or free this machine's cores"
    if what == "limited":
        s = replace(s, load=replace(s.load, client_limited=reason))
    else:
        s = replace(s, target_down_s=4.2, load=replace(s.load, errors=(("refused", 52), ("truncated", 9))))
    app = screen(s)
    memory = app.rates.memory
    for target, rates in (("another", range(1, 60)), (f"rvc {s.target.url}", range(1, 40))):
        memory.target = target
        for rate in rates:
            memory._remember(rate, Fared.HELD)
    memory._remember(44.0, Fared.BOTH)
    memory._remember(60.0, Fared.MISSED)
    memory.highest = 60.0
    assert snap_compare(app, terminal_size=size, run_before=drawn)


@pytest.mark.parametrize("palette", [LIGHT, CONTRAST, SAFE], ids=lambda palette: palette.name)
def test_themes(snap_compare: Compare, palette: Palette) -> None:
    assert snap_compare(screen(made.live(), Styles(palette)), terminal_size=(100, 32), run_before=drawn)


def test_ascii(snap_compare: Compare) -> None:
    look = Look(Styles(DARK), ascii=True)
    app = RvtopApp(made.FakeHandle(made.live()), clock=lambda: 0.0, look=look)
    assert snap_compare(app, terminal_size=(120, 40), run_before=drawn)


@pytest.mark.parametrize(
    "keys",
    [["tab", "tab", "?"], ["?"], [":", "r", "a"], ["g", "x", "enter"], ["z"], ["tab", "tab"]],
    ids=["help", "all-keys", "palette", "rate", "zoom", "focus"],
)
def test_after_keys(snap_compare: Compare, keys: list[str]) -> None:
    async def press(pilot: Pilot[int]) -> None:
        await drawn(pilot)
        await pilot.press(*keys)
        await pilot.pause()

    assert snap_compare(screen(made.live()), terminal_size=(120, 40), run_before=press)


def test_first_load(snap_compare: Compare) -> None:
    async def press(pilot: Pilot[int]) -> None:
        await drawn(pilot)
        await pilot.press("up")
        await pilot.pause()

    assert snap_compare(screen(made.watching()), terminal_size=(120, 40), run_before=press)


def start(facts: StartFacts, first: StartFacts | None = None) -> RvtopApp:
    async def connect(choice: Choice) -> SessionHandle:
        raise ConnectFailed(f"{choice.label}: connection refused; is the server up?")

    app = RvtopApp(None, connect, facts=lambda: first or facts, look_around=lambda: facts, clock=lambda: 0.0)
    return app


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_start(snap_compare: Compare, size: tuple[int, int]) -> None:
    assert snap_compare(start(made.start_facts()), terminal_size=size, run_before=drawn)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("nothing_known", []),
        ("start_without_gpu", []),
        ("start_with_nothing", ["escape", "enter"]),
        ("start_facts", ["enter"]),
        ("start_facts", ["down", "down", "down", "down", "down", "enter"]),
        ("start_facts", ["u", *"http://gpu-b:9"]),
    ],
    ids=["first", "no-gpu", "nothing", "failed", "fix", "url"],
)
def test_other_starts(snap_compare: Compare, name: str, keys: list[str]) -> None:
    async def press(pilot: Pilot[int]) -> None:
        await drawn(pilot)
        await pilot.press(*keys)
        await pilot.pause(0.1)

    assert snap_compare(start(getattr(made, name)()), terminal_size=(100, 30), run_before=press)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("what", ["dialog", "steps"])
def test_switch(snap_compare: Compare, size: tuple[int, int], what: str) -> None:
    async def press(pilot: Pilot[int]) -> None:
        await drawn(pilot)
        if what == "dialog":
            await pilot.press("t", "down", "down")
        await pilot.pause(0.1)

    s = made.switching()
    s = replace(s, switch=None, state="running") if what == "dialog" else s
    facts = replace(made.start_facts(), gpus=())
    app = RvtopApp(made.FakeHandle(s), facts=lambda: facts, clock=lambda: 0.0)
    assert snap_compare(app, terminal_size=size, run_before=press)


async def on_requests(pilot: Pilot[int]) -> None:
    await drawn(pilot)
    await pilot.press("3")
    await pilot.pause()


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_requests(snap_compare: Compare, size: tuple[int, int]) -> None:
    assert snap_compare(screen(made.listing()), terminal_size=size, run_before=on_requests)


@pytest.mark.parametrize("name", ["estimate", "errors", "empty"])
def test_other_requests(snap_compare: Compare, name: str) -> None:
    snapshot = {"estimate": made.listing_estimate(), "errors": made.listing(), "empty": made.live()}[name]

    async def press(pilot: Pilot[int]) -> None:
        await on_requests(pilot)
        await pilot.press(*(["e"] if name == "errors" else []))
        await pilot.pause()

    assert snap_compare(screen(snapshot), terminal_size=(100, 30), run_before=press)


async def on_map(pilot: Pilot[int]) -> None:
    await drawn(pilot)
    await pilot.press("2", "j")
    await pilot.pause()


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_map(snap_compare: Compare, size: tuple[int, int]) -> None:
    assert snap_compare(screen(made.mapped()), terminal_size=size, run_before=on_map)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_map_with_what_was_before(snap_compare: Compare, size: tuple[int, int]) -> None:
    before, now = made.switched()
    app = screen(now)

    async def press(pilot: Pilot[int]) -> None:
        await drawn(pilot)
        app.ghosts.ghost = Ghost(before)
        await on_map(pilot)

    assert snap_compare(app, terminal_size=size, run_before=press)


@pytest.mark.parametrize("engines", [0, 64])
def test_other_maps(snap_compare: Compare, engines: int) -> None:
    snapshot = made.mapped(n=64) if engines else replace(made.live(), engines=())
    assert snap_compare(screen(snapshot), terminal_size=(100, 30), run_before=on_map)
