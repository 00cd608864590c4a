"""The showdown's screen: its rows in every size, its pictures and its keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import made
import pytest
from driven import screen_text, until
from hypothesis import given, settings
from hypothesis import strategies as st
from textual.pilot import Pilot

from rvtop.contract.showdown import COMPARED, HEADS, Score, Showdown
from rvtop.contract.snapshot import Snapshot
from rvtop.ui.app import RvtopApp
from rvtop.ui.axis import LogAxis
from rvtop.ui.look import Look
from rvtop.ui.screens.live import LiveScreen
from rvtop.ui.screens.showdown import ShowdownScreen
from rvtop.ui.screens.table import SHOWDOWN_SCREENS
from rvtop.ui.showdown_lines import change_text, places_for, showdown_lines, span
from rvtop.ui.theme import DARK, Styles

Compare = Callable[..., bool]
STYLES = Styles(DARK)
MOMENTS = ("first", "third", "failed", "done", "censored")
SIZES = [(80, 24), (120, 40), (200, 60)]


class Controls:
    """Notes what the keys ask for."""

    def __init__(self, skips: bool = True, reference: str = "rac") -> None:
        self.asked: list[str] = []
        self._skips, self._reference = skips, reference

    def skip(self) -> bool:
        self.asked.append("skip")
        return self._skips

    def next_reference(self) -> str:
        self.asked.append("reference")
        return self._reference


def screen(snapshot: Snapshot, controls: Controls | None = None, look: Look | None = None) -> RvtopApp:
    handle = made.FakeHandle(snapshot)
    return RvtopApp(
        handle,
        clock=lambda: 0.0,
        look=look or Look(STYLES),
        screens=SHOWDOWN_SCREENS,
        showdown=controls or Controls(),
    )


async def drawn(pilot: Pilot[int]) -> None:
    """Waits for the first picture."""
    app = pilot.app
    assert isinstance(app, RvtopApp)
    await until(pilot, lambda: app.hears and isinstance(app.screen, ShowdownScreen) and app.screen.snapshot)
    await pilot.pause()


@asynccontextmanager
async def opened(app: RvtopApp, width: int, height: int) -> AsyncIterator[Pilot[int]]:
    """The app running at a size, its first picture drawn."""
    async with app.run_test(size=(width, height)) as pilot:
        await drawn(pilot)
        yield pilot


# -- pictures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("moment", MOMENTS)
def test_showdown(snap_compare: Compare, moment: str, size: tuple[int, int]) -> None:
    assert snap_compare(screen(made.showdown(moment)), terminal_size=size, run_before=drawn)


def test_showdown_ascii(snap_compare: Compare) -> None:
    app = screen(made.showdown("third"), look=Look(STYLES, ascii=True))
    assert snap_compare(app, terminal_size=(100, 30), run_before=drawn)


# -- the lines ---------------------------------------------------------------------------------

figure = st.none() | st.floats(0, 1e7)
names = st.text("abc-é", min_size=1, max_size=24)


@st.composite
def scores(draw: st.DrawFn) -> Score:
    state = draw(st.sampled_from(["wait", "run", "done", "failed", "skipped"]))
    repeats = draw(st.integers(0, 3))
    median = draw(st.sampled_from([0.05, 4.0, 900.0, 60_000.0]))
    return Score(
        draw(names),
        state,
        figures={key: draw(figure) for key in HEADS} if repeats else {},
        ranges={"ttft_ms": (1.0, 2e6)} if repeats > 1 else {},
        change_pct={key: draw(st.none() | st.floats(-100, 1e7)) for key in COMPARED} if repeats else {},
        censored=draw(st.booleans()),
        repeats=repeats,
        start_s=draw(figure),
        expected_start_s=draw(figure),
        reason="it did not start " * 9,
        ttft=made.score("x", ttft_ms=median).ttft if repeats else Score("", "wait").ttft,
    )


@settings(deadline=None, max_examples=60)
@given(st.lists(scores(), max_size=12), st.integers(8, 300), st.integers(1, 70), st.sampled_from(MOMENTS))
def test_every_showdown_fits_every_size(found: list[Score], width: int, height: int, moment: str) -> None:
    reference = found[0].name if found else ""
    s = replace(made.showdown(moment), showdown=Showdown("demo", tuple(found), reference))
    axis = LogAxis()
    if (told := span(s, found)) is not None:
        axis.include(*told)
    lines = showdown_lines(s, STYLES, axis, width, height)
    assert len(lines) <= height
    assert all(line.width <= width for line in lines)


@given(st.lists(scores(), min_size=1, max_size=6), st.integers(30, 300))
def test_columns_give_way_in_their_order(found: list[Score], width: int) -> None:
    places = places_for(found, width)
    kept = {column.rank for column in places.columns}
    assert kept == set(range(len(kept))), "those of the highest rank go first"
    assert places.name + places.chart + 2 * places.bar + sum(c.width for c in places.columns) <= width


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (6.24, "+6.2 %"),
        (-99.66, "−99.7 %"),
        (5300.0, "× 54.0"),
        (591.3, "+591 %"),
        (None, "--"),
        (0.0, "+0.0 %"),
    ],
)
def test_a_change_is_percent_or_a_multiple(change: float | None, text: str) -> None:
    assert change_text(change) == text


async def test_the_table_says_what_the_scores_hold() -> None:
    snapshot = made.showdown("done")
    assert snapshot.showdown is not None
    async with opened(screen(snapshot), 200, 60) as pilot:
        text = screen_text(pilot.app)  # type: ignore[arg-type]
    for score in snapshot.showdown.scores:
        assert score.name in text
        assert f"{score.figures['completed_pct']:.1f} %" in text
        for change in score.change_pct.values():
            assert change_text(change) in text


async def test_a_censored_row_says_so_and_gives_no_change() -> None:
    async with opened(screen(made.showdown("censored")), 120, 40) as pilot:
        rows = screen_text(pilot.app).splitlines()  # type: ignore[arg-type]
    at = next(i for i, row in enumerate(rows) if "✓ baseline" in row)
    assert "61.0 %" in rows[at]
    assert rows[at + 1].count("CENSORED") == len(COMPARED)


# -- keys --------------------------------------------------------------------------------------


async def test_keys_skip_and_choose_the_reference() -> None:
    controls = Controls()
    app = screen(made.showdown("third"), controls)
    async with opened(app, 120, 40) as pilot:
        await pilot.press("n")
        assert "skipped: it ends" in screen_text(app)
        await pilot.press("c")
        assert "changes are told against rac" in screen_text(app)
        assert controls.asked == ["skip", "reference"]


async def test_keys_say_why_nothing_happens() -> None:
    app = screen(made.showdown("done"), Controls(skips=False, reference=""))
    async with opened(app, 120, 40) as pilot:
        await pilot.press("n")
        assert "nothing runs that could be skipped" in screen_text(app)
        await pilot.press("c")
        assert "no other topology has figures yet" in screen_text(app)


async def test_1_shows_the_live_screen_of_the_one_that_runs_and_5_comes_back() -> None:
    app = screen(made.showdown("third"))
    async with opened(app, 120, 40) as pilot:
        await pilot.press("1")
        await pilot.pause()
        assert isinstance(app.screen, LiveScreen)
        await pilot.press("5")
        await pilot.pause()
        assert isinstance(app.screen, ShowdownScreen)


async def test_q_ends_it() -> None:
    app = screen(made.showdown("third"))
    handle = app.handle
    async with opened(app, 120, 40) as pilot:
        assert "end, keep results" in screen_text(app)
        await pilot.press("q")
        await until(pilot, lambda: handle.closed)  # type: ignore[union-attr]
    assert handle.closed  # type: ignore[union-attr]
    assert app.exit_code == 0


def test_what_stands_below_a_short_name_is_not_cut() -> None:
    scores = made.compared([made.score("rac", ttft_ms=900.0), made.score("rsc", ttft_ms=700.0)], "rac")
    s = made.showdown("third")
    assert s.showdown is not None
    s = replace(s, slo_ttft_ms=None, showdown=replace(s.showdown, scores=scores, reference="rac"))
    lines = [line.text for line in showdown_lines(s, STYLES, LogAxis(), 118, 20)]
    assert any(line.startswith("  reference ") for line in lines)
    assert any("  start 00:" in line and "…" not in line for line in lines)


def test_a_change_that_is_not_significant_stands_in_brackets() -> None:
    s = made.showdown("done")
    assert s.showdown is not None
    scores = [
        replace(one, verdicts={"ttft_ms": "not significant", "tps": "significant"})
        if one.name == "rsc"
        else one
        for one in s.showdown.scores
    ]
    told = replace(s, showdown=replace(s.showdown, scores=tuple(scores)))
    text = "\n".join(line.text for line in showdown_lines(told, STYLES, LogAxis(), 160, 40))
    change = change_text(next(one for one in scores if one.name == "rsc").change_pct["ttft_ms"])
    assert f"({change})" in text
    assert text.count("(") == 1
