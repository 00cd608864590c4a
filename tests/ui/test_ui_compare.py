"""The Compare screen: its pictures, its lines in every size, and its keys."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import made
import pytest
from driven import opened, screen_text, show, text_of, until
from hypothesis import given, settings
from hypothesis import strategies as st
from textual.pilot import Pilot

from rvtop.results.compare import ALL, COMPLETED, FIGURES, SPAN, TOO_FEW, Side, compare
from rvtop.stats.histogram import Histogram
from rvtop.ui.app import RvtopApp
from rvtop.ui.compare_lines import interval_text, note_lines, refusal_lines, table_lines
from rvtop.ui.look import Look
from rvtop.ui.screens.choose_side import ChooseSideScreen
from rvtop.ui.screens.compare import CompareScreen
from rvtop.ui.screens.table import SHOWDOWN_SCREENS
from rvtop.ui.sides import row_key, run_key
from rvtop.ui.theme import DARK, Styles
from rvtop.ui.widgets.compare import ComparePanel, OverlayPanel
from rvtop.ui.widgets.footer import Footer
from tests.unit.test_results_compare import run

Compare = Callable[..., bool]
STYLES = Styles(DARK)
SIZES = [(80, 24), (120, 40), (200, 60)]
MOMENTS = ("pair", "same", "refused", "forced", "censored", "empty")


def side(label: str, where: str, ttft_ms: float, completed: float = 100.0, **more: object) -> Side:
    """A run whose TTFT has this median."""
    found = Histogram.of(made.lognormal_ns(ttft_ms, 0.4, 1200)).distribution()
    figures: dict[str, float | None] = {
        "ttft_mean": found.mean_ns / 1e6,
        **{f"ttft_p{q}": found.percentile(q) / 1e6 for q in (50, 90, 99)},
        **{f"itl_{key}": 2.9 + n for n, key in enumerate(("mean", "p50", "p90", "p99"))},
        **{f"e2e_{key}": ttft_ms + 740.0 * (n + 1) for n, key in enumerate(("mean", "p50", "p90", "p99"))},
        "tps": 6140.0 - ttft_ms,
        "goodput_rps": 23.6,
        "errors": 1200 * (100 - completed) / 100,
        COMPLETED: completed,
    }
    parts = {ALL: figures, "hold": {**figures, "ttft_mean": ttft_ms * 2}}
    work = {SPAN: "a whole run", "prompts": "5d41402abc4b", "seed": "7", "phase hold": "rate 48, duration 60"}
    given = {"work": work, "blocks": {name: ten_values(label, of) for name, of in parts.items()}, **more}
    return Side(label, where, parts, found, **given)  # type: ignore[arg-type]


def ten_values(label: str, figures: dict[str, float | None]) -> dict[str, list[float | None]]:
    """Ten values a figure, of which each has some noise of its own; too few gaps for the p99 of ITL."""
    made: dict[str, list[float | None]] = {}
    for key, value in figures.items():
        noise = Random(label + key)
        made[key] = [None if value is None else value * noise.gauss(1.0, 0.02) for _ in range(10)]
    return {**made, "itl_p99": [None] * 10, COMPLETED: [figures[COMPLETED]] * 10}


def app_at(moment: str, look: Look | None = None) -> RvtopApp:
    """The dashboard with two stored runs chosen."""
    s = made.live()
    if moment == "empty":
        s = replace(s, latency=replace(s.latency, ttft_recent=made.watching().latency.ttft_recent))
    app = RvtopApp(made.FakeHandle(s), clock=lambda: 0.0, look=look or Look(STYLES))
    if moment == "empty":
        return app
    a = side("rac", "runs/paper-rps-20251009-1401", 28.4)
    b = side(
        "rvc", "runs/paper-rps-20251009-1350", 16.0, setting={"arguments": "--engine-arg max_num_seqs=64"}
    )
    if moment == "same":
        b = a
    elif moment in ("refused", "forced"):
        work = {**b.work, "prompts": "7d793037a076", "phase hold": "rate 96, duration 60"}
        b = replace(b, work=work, faults=("was driven by hand (3 commands)",))
    elif moment == "censored":
        b = replace(side("rvc", b.where, 16.0, 97.1), setting=b.setting)
    for name, one in (("a", a), ("b", b)):
        app.sides.choose(name, run_key(one.where))
        app.sides.runs[run_key(one.where)] = one
    app.sides.forced = "so be it" if moment == "forced" else ""
    return app


async def compared(pilot: Pilot[int]) -> None:
    """Waits for the live screen, then goes to Compare."""
    app = pilot.app
    assert isinstance(app, RvtopApp)
    await until(pilot, lambda: app.hears and app.live is not None and app.live.snapshot is not None)
    await pilot.press("4")
    await until(pilot, lambda: isinstance(app.screen, CompareScreen) and app.screen.snapshot is not None)
    await pilot.pause()


# -- pictures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("moment", MOMENTS)
def test_compare(snap_compare: Compare, moment: str, size: tuple[int, int]) -> None:
    assert snap_compare(app_at(moment), terminal_size=size, run_before=compared)


def test_compare_ascii(snap_compare: Compare) -> None:
    app = app_at("pair", Look(STYLES, ascii=True))
    assert snap_compare(app, terminal_size=(100, 30), run_before=compared)


# -- lines -------------------------------------------------------------------------------------

figures = st.dictionaries(st.sampled_from([one.key for one in FIGURES]), st.none() | st.floats(0, 1e7))


@settings(deadline=None, max_examples=80)
@given(figures, figures, st.integers(8, 300), st.integers(1, 40), st.integers(0, 20))
def test_every_comparison_fits_every_size(
    a: dict[str, float | None], b: dict[str, float | None], width: int, height: int, row: int
) -> None:
    blocks = [{ALL: ten_values(name, {COMPLETED: None, **of})} for name, of in (("a", a), ("b", b))]
    paired = compare(
        Side("a", "runs/a", {ALL: a}, blocks=blocks[0]), Side("b", "runs/b", {ALL: b}, blocks=blocks[1])
    )
    told = table_lines(paired, ALL, row, STYLES, width, height)
    assert len(told) <= height
    assert all(line.width <= width for line in told)
    found = compare(
        Side("a", "runs/a", {ALL: a}, work={"x": "1 " * 90}),
        Side("b", "runs/b", {ALL: b}, work={"x": "2 " * 90}, faults=("was driven by hand",), slo="ttft 5 ms"),
    )
    table = table_lines(found, ALL, row, STYLES, width, height)
    assert len(table) <= height
    refused = refusal_lines(found, "! all the same", STYLES, width)
    notes = note_lines(list(found.notes), STYLES, width)
    assert all(line.width <= width for line in (*table, *refused, *notes))


# -- keys --------------------------------------------------------------------------------------


def line_of(app: RvtopApp, name: str) -> str:
    return next(line for line in text_of(app, ComparePanel).splitlines() if line.strip().startswith(name))


async def test_the_keys_of_a_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    app = app_at("pair")
    async with opened(app) as pilot:
        await compared(pilot)
        assert "B lower" in line_of(app, "TTFT mean")
        await pilot.press("c")
        assert "B higher" in line_of(app, "TTFT mean")
        assert "A rvc" in text_of(app, ComparePanel)
        await pilot.press("n")
        assert "phase hold" in text_of(app, ComparePanel)
        assert "56.8" in line_of(app, "TTFT mean")
        await pilot.press("n")
        assert "phase hold" not in text_of(app, ComparePanel)
        await pilot.press("down", "j", "k", "y")
        assert app.clipboard.startswith("TTFT p50 ms (all that was measured): A 15.9  B 28.2")
        assert app.clipboard.endswith(")  B higher")
        await pilot.press("Y")
        assert app.clipboard == ("rvtop compare runs/paper-rps-20251009-1350 runs/paper-rps-20251009-1401")
        await pilot.press("exclamation_mark")
        assert "nothing is refused" in text_of(app, Footer)
        await pilot.press("1", "4")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen) and bool(app.screen.snapshot))
        assert "A rvc" in text_of(app, ComparePanel), "what was chosen outlives the screen"


async def test_words_follow_the_intervals() -> None:
    app = app_at("pair")
    async with opened(app, 160, 50) as pilot:
        await compared(pilot)
        assert line_of(app, "TTFT mean").rstrip().endswith("B lower")
        assert line_of(app, "ITL mean").rstrip().endswith("same")
        assert line_of(app, "ITL p99").rstrip().endswith("too few data")
        found = app.sides.comparison(made.live(), None)
        assert found is not None
        mean = found.parts[ALL][0]
        assert mean.interval is not None
        assert interval_text(mean) in line_of(app, "TTFT mean")
        assert "●" in line_of(app, "TTFT mean")
        assert "95 % intervals, paired" in text_of(app, ComparePanel)


async def test_different_work_is_refused_until_told() -> None:
    app = app_at("refused")
    async with opened(app) as pilot:
        await compared(pilot)
        text = text_of(app, ComparePanel)
        assert "refused: work differs" in text
        assert "prompts 5d41402abc4b → 7d793037a076" in text
        assert "B was driven by hand" in text
        assert not app.screen.query_one(OverlayPanel).display
        await pilot.press("y")
        assert "refused" in text_of(app, Footer)
        await pilot.press("exclamation_mark")
        assert "B lower" in line_of(app, "TTFT mean")
        assert "work differs: " in text_of(app, ComparePanel)
        await pilot.press("exclamation_mark")
        assert "refused: work differs" in text_of(app, ComparePanel)


async def test_now_stands_against_the_ghost() -> None:
    handle = made.FakeHandle(made.live())
    app = RvtopApp(handle, clock=lambda: 0.0)
    async with opened(app) as pilot:
        await pilot.press("4")
        await pilot.pause()
        assert "Choose A and B: R for stored runs, t for a second server" in screen_text(app)
        await pilot.press("y")
        assert "nothing is compared yet" in text_of(app, Footer)
        other = replace(made.live(93.0), target=replace(made.live().target, topology="rac"))
        await show(app, pilot, handle, other)
        assert "A rvc" in text_of(app, ComparePanel), (
            "also when the target changes while this screen is on top"
        )
        assert "B rac" in text_of(app, ComparePanel)
        assert "the last 10 s" in text_of(app, ComparePanel)
        await show(app, pilot, handle, replace(other, load=replace(other.load, target_rps=96.0)))
        assert "load 48.0 rps → 96.0 rps" in text_of(app, ComparePanel)
        await pilot.press("Y")  # of two stored runs their comparison's, else the session's own
        assert not app.clipboard  # what options its server was started with is not known here
        theirs = replace(other, target=replace(other.target, owned=False))
        await show(app, pilot, handle, theirs)
        await pilot.press("Y")
        assert app.clipboard.startswith("rvtop ")


async def test_rows_of_a_showdown_are_compared() -> None:
    app = RvtopApp(
        made.FakeHandle(made.showdown("done")), clock=lambda: 0.0, screens=SHOWDOWN_SCREENS, look=Look(STYLES)
    )
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.hears and app.session_screen is not None)
        await pilot.press("4")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen) and bool(app.screen.snapshot))
        assert "A rac" in text_of(app, ComparePanel)
        assert "B rvc" in text_of(app, ComparePanel)
        await pilot.press("b")
        await until(pilot, lambda: isinstance(app.screen, ChooseSideScreen))
        chooser = app.screen
        assert isinstance(chooser, ChooseSideScreen)
        keys = [one.key for one in chooser.choices]
        await pilot.press(*["down"] * keys.index(row_key("rsc")), "enter")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen))
        assert "B rsc" in text_of(app, ComparePanel)


async def test_stored_runs_are_listed_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    app = RvtopApp(made.FakeHandle(made.watching()), clock=lambda: 0.0)
    async with opened(app) as pilot:
        await pilot.press("4", "R")
        await until(pilot, lambda: "No runs in runs/" in screen_text(app))
        await pilot.press("enter", "escape")
        for age, name in enumerate(("one", "two")):
            run(tmp_path / "runs" / name, 100 - 50 * age, topology=("rac", "rvc")[age])
            os.utime(tmp_path / "runs" / name / "summary.json", (1e9 - age, 1e9 - age))
        await pilot.press("R")
        await until(pilot, lambda: isinstance(app.screen, ChooseSideScreen) and len(app.screen.choices) == 2)
        assert "2026-01-01 00:00" in screen_text(app)
        assert "p99 109 ms" in screen_text(app)
        await pilot.press("enter")
        await until(pilot, lambda: app.sides.a == run_key("runs/one"))
        (tmp_path / "runs" / "two" / "summary.json").write_text("{")
        await pilot.press("R")
        await until(pilot, lambda: isinstance(app.screen, ChooseSideScreen) and len(app.screen.choices) == 1)
        await pilot.press("b")
        await until(pilot, lambda: "B one" in screen_text(app))
        found = app.sides.comparison(made.live(), None)
        assert found is not None
        assert {row.word for row in found.parts[ALL] if row.a is not None} == {TOO_FEW}


async def test_the_screen_draws_in_every_size() -> None:
    app = app_at("censored")
    async with opened(app) as pilot:
        await compared(pilot)
        for width, height in ((40, 12), (20, 5), (300, 100), (80, 8), (10, 3)):
            await pilot.resize_terminal(width, height)
            await pilot.pause()
            assert isinstance(app.screen, CompareScreen)
