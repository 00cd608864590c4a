"""The end card: its pictures, when it comes, and what its keys do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import made
import pytest
from driven import opened, screen_text, show, text_of, until
from test_ui_compare import side
from textual.pilot import Pilot

from rvtop.contract.snapshot import Snapshot
from rvtop.results.compare import compare
from rvtop.results.end_facts import EndFacts, end_facts
from rvtop.ui.app import RvtopApp
from rvtop.ui.end_lines import card_lines, steps_of
from rvtop.ui.look import Look
from rvtop.ui.screens import end
from rvtop.ui.screens.compare import CompareScreen
from rvtop.ui.screens.confirm import ConfirmScreen
from rvtop.ui.screens.end import EndScreen
from rvtop.ui.screens.live import LiveScreen
from rvtop.ui.screens.start import StartScreen
from rvtop.ui.theme import DARK, Styles
from rvtop.ui.widgets.compare import ComparePanel
from rvtop.ui.widgets.end import EndPanel
from rvtop.ui.widgets.footer import Footer
from tests.unit.test_results_compare import run

Compare = Callable[..., bool]
STYLES = Styles(DARK)
SIZES = [(80, 24), (120, 40), (200, 60)]
MOMENTS = ("ok", "failed", "interrupted", "lost", "censored")


def facts(moment: str) -> EndFacts:
    """What is read of the folder of a run that ended so."""
    of = side("rvc", "runs/2025-10-09-rvc-ramp-48", 61.0, 97.0 if moment == "censored" else 100.0)
    before = side("rac", "runs/2025-10-08-rac-ramp-48", 80.0)
    trust: tuple[str, ...] = ("client ok (lag p99 0.41 ms)", "one run: no interval")
    doubts: tuple[str, ...] = ()
    if moment == "interrupted":
        doubts = ("was interrupted: no baseline", "was driven by hand (3 commands): no baseline")
    found = compare(before, of) if moment in ("ok", "censored") else None
    if found is not None:
        trust = (trust[0], "changes: 95 % intervals")
    return EndFacts(
        of.figures, 2731, 343.0, 48.0, False, doubts, trust, of, before if found else None, found, True
    )


def ended(moment: str) -> Snapshot:
    if moment == "failed":
        return made.failed()
    s = made.done()
    if moment == "interrupted":
        return replace(s, message="interrupted; what was measured is in runs/2025-10-09-rvc-ramp-48")
    if moment == "lost":
        return replace(s, state="lost", message="http://127.0.0.1:8000 stopped answering: connection refused")
    return s


def app_with(handle: made.FakeHandle, look: Look | None = None) -> RvtopApp:
    return RvtopApp(handle, clock=lambda: 0.0, look=look or Look(STYLES))


def to_end(moment: str) -> Callable[[Pilot[int]], object]:
    """Lets a session that runs end so, and waits for the card."""

    async def run_before(pilot: Pilot[int]) -> None:
        app = pilot.app
        assert isinstance(app, RvtopApp)
        assert isinstance(app.handle, made.FakeHandle)
        await until(pilot, lambda: app.live is not None and app.live.snapshot is not None)
        await show(app, pilot, app.handle, ended(moment))
        await carded(pilot)

    return run_before


async def carded(pilot: Pilot[int]) -> EndScreen:
    app = pilot.app
    await until(pilot, lambda: isinstance(app.screen, EndScreen) and app.screen.state.facts is not None)
    await pilot.pause()
    assert isinstance(app.screen, EndScreen)
    return app.screen


# -- pictures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("moment", MOMENTS)
def test_end(
    snap_compare: Compare, monkeypatch: pytest.MonkeyPatch, moment: str, size: tuple[int, int]
) -> None:
    monkeypatch.setattr(end, "_facts", lambda folder: facts(moment))
    start = made.starting() if moment == "failed" else made.live(91.0)
    app = app_with(made.FakeHandle(start))
    assert snap_compare(app, terminal_size=size, run_before=to_end(moment))


@pytest.mark.parametrize("width", [8, 20, 40, 79, 120, 300])
@pytest.mark.parametrize("moment", MOMENTS)
def test_every_card_fits_every_width(moment: str, width: int) -> None:
    s = ended(moment)
    for found in (None, EndFacts(), EndFacts(unread="x" * 300), facts(moment)):
        steps = steps_of(s, found, can_choose_again=True)
        assert all(line.width <= width for line in card_lines(s, found, steps, 0, STYLES, width))


# -- when it comes, and its keys ---------------------------------------------------------------


async def test_it_comes_once_when_the_session_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(end, "_facts", lambda folder: facts("ok"))
    handle = made.FakeHandle(made.live())
    app = app_with(handle)
    async with opened(app) as pilot:
        await pilot.press("E")
        assert "has not ended" in text_of(app, Footer)
        await show(app, pilot, handle, made.done())
        await carded(pilot)
        await pilot.press("1")
        await until(pilot, lambda: isinstance(app.screen, LiveScreen))
        await show(app, pilot, handle, made.done())
        assert isinstance(app.screen, LiveScreen), "it is not shown again by itself"
        assert "E for its figures" in screen_text(app)
        await pilot.press("2", "E")
        await carded(pilot)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, LiveScreen))


async def test_it_waits_for_an_open_dialog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(end, "_facts", lambda folder: facts("ok"))
    handle = made.FakeHandle(made.live())
    app = app_with(handle)
    async with opened(app) as pilot:
        app.push_screen(ConfirmScreen("http://x", 5.0))
        await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        await show(app, pilot, handle, made.done())
        assert isinstance(app.screen, ConfirmScreen)
        await pilot.press("escape")
        await carded(pilot)  # no snapshot comes any more


async def test_a_session_that_was_over_before_has_none_by_itself() -> None:
    app = app_with(made.FakeHandle(made.done()))
    async with opened(app):
        assert isinstance(app.screen, LiveScreen)


async def test_steps_are_done_or_copied(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(end, "_facts", lambda folder: facts("ok"))
    handle = made.FakeHandle(made.live())
    app = app_with(handle)
    async with opened(app) as pilot:
        await show(app, pilot, handle, made.done())
        screen = await carded(pilot)
        commands = [step.command for step in screen.state.steps]
        assert commands == [
            "rvtop compare runs/2025-10-08-rac-ramp-48 runs/2025-10-09-rvc-ramp-48",
            "rvtop run runs/2025-10-09-rvc-ramp-48/scenario.yaml --topology rvc",
            "rvtop replay runs/2025-10-09-rvc-ramp-48",
            "rvtop report runs/2025-10-09-rvc-ramp-48",
        ]
        await pilot.press("y")
        assert app.clipboard == commands[0]
        await pilot.press("down", "enter")
        assert app.clipboard == commands[1]
        assert "q leaves, then paste it" in text_of(app, Footer)
        await pilot.press("k", "up", "enter")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen) and bool(app.screen.snapshot))
        assert "A rac" in text_of(app, ComparePanel)
        assert "B rvc" in text_of(app, ComparePanel)
        await pilot.press("E")
        await carded(pilot)


async def test_another_session_can_be_chosen() -> None:
    handle = made.FakeHandle(made.starting())

    async def connect(choice: object) -> made.FakeHandle:
        raise AssertionError

    app = RvtopApp(handle, connect)
    async with opened(app) as pilot:
        await show(app, pilot, handle, made.failed())
        screen = await carded(pilot)
        texts = [step.text for step in screen.state.steps]
        assert texts == ["check this machine", "choose another session"]
        await pilot.press("end", "enter")
        await until(pilot, lambda: isinstance(app.screen, StartScreen))


async def test_it_draws_in_every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(end, "_facts", lambda folder: facts("interrupted"))
    handle = made.FakeHandle(made.live())
    app = app_with(handle)
    async with opened(app) as pilot:
        await show(app, pilot, handle, ended("interrupted"))
        await carded(pilot)
        for width, height in ((40, 12), (20, 5), (300, 100), (80, 10), (10, 3)):
            await pilot.resize_terminal(width, height)
            await pilot.pause()
            assert isinstance(app.screen, EndScreen)
        await pilot.resize_terminal(80, 12)
        await pilot.press("end")
        assert "rvtop report" in text_of(app, EndPanel), "the step at the cursor stays to be seen"


# -- what is read ------------------------------------------------------------------------------


def test_facts_of_a_run_and_the_other_of_the_same_work(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    other, here = run(runs / "a", topology="rac"), run(runs / "b", 50)
    run(runs / "c", prompts_digest="1" * 64)  # newer, but of other work
    found = end_facts(here, runs)
    assert (found.requests, found.unread, found.has_scenario) == (10, "", True)
    assert found.figures["ttft_mean"] == 54.5
    assert found.other is not None
    assert found.other.where == str(other)
    assert found.doubts == ()
    assert found.trust[-1] == "too few data: no interval"
    assert end_facts(other, runs / "none").trust[-1] == "one run: no interval"


def test_a_change_on_the_card_is_one_that_is_significant(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    run(runs / "a", topology="rac", count=1000)
    found = end_facts(run(runs / "b", 50, count=1000), runs)
    assert found.trust[-1] == "changes: 95 % intervals"
    lines = card_lines(made.done(), found, [], 0, STYLES, 160)
    text = "\n".join("".join(text for text, _ in line.runs) for line in lines)
    assert "−45.9 % to rac" in text
    assert "same as rac" in text


def test_a_run_by_hand_is_no_baseline(tmp_path: Path) -> None:
    from tests.unit.run_folder import command

    here = run(tmp_path / "a", commands=[command(1.5, "rate", value=9.0, by="keyboard")])
    assert end_facts(here, tmp_path).doubts == ("was driven by hand (1 command): no baseline",)


def test_a_folder_without_summary_says_so(tmp_path: Path) -> None:
    here = run(tmp_path / "a")
    (here / "summary.json").unlink()
    assert "rvtop report" in end_facts(here, tmp_path).unread


def test_what_the_run_took_has_its_lines() -> None:
    told = (("energy", "2799 J by counter: 1.86 J/token"), ("cost", "$0.0071 in all"))
    lines = card_lines(ended("ok"), replace(facts("ok"), spent=told), (), 0, STYLES, 100)
    shown = [line.text.split(maxsplit=1) for line in lines]
    assert [list(each) for each in told] == [line for line in shown if line and line[0] in ("energy", "cost")]
    bare = card_lines(ended("ok"), facts("ok"), (), 0, STYLES, 100)
    assert not any(line.text.startswith("energy") for line in bare)
