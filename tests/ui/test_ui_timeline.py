"""The plan over time: columns, what comes next, and what it says in one row."""

from __future__ import annotations

from dataclasses import replace

import made
import pytest
from driven import opened, text_of, until

from rvtop.contract.snapshot import Event, Phase, Plan, PlannedPhase, Series, Snapshot
from rvtop.ui.app import RvtopApp
from rvtop.ui.widgets.timeline import TimelinePanel, column_of, next_text, planned_columns, served_columns


@pytest.mark.parametrize(
    ("at_s", "width", "said"),
    [
        (10.0, 60, "next: climb 2.0 → 48.0 rps in 00:40"),
        (92.0, 60, "next: hold 48.0 rps in 00:18"),
        (92.0, 20, "next: hold in 00:18"),
        (92.0, 14, "hold in 00:18"),
        (92.0, 5, ""),
        (200.0, 60, "ends in 00:30"),
        (231.0, 60, ""),
    ],
)
def test_what_comes_next(at_s: float, width: int, said: str) -> None:
    assert next_text(replace(made.planned(), plan_s=at_s), width) == said


def test_a_closed_loop_has_no_rate_to_tell() -> None:
    plan = Plan(20.0, 0.0, (PlannedPhase("a", 0, 10, 1, 1), PlannedPhase("b", 10, 10)), (1.0, None))
    assert next_text(replace(made.live(), plan=plan, plan_s=5.0), 60) == "next: b in 00:05"
    assert planned_columns(plan, 4) == [1.0, 1.0, None, None]


def test_a_short_spike_is_in_its_column() -> None:
    plan = Plan(100.0, 0.0, (), tuple(80.0 if part == 47 else 8.0 for part in range(100)))
    assert planned_columns(plan, 10) == [8, 8, 8, 8, 80, 8, 8, 8, 8, 8]


def test_what_was_served_stands_where_it_was() -> None:
    seconds = tuple(float(second) for second in range(5, 25))
    series = Series(t_s=seconds, completed_rps=tuple(None if t == 14 else t for t in seconds))
    series = replace(series, **{name: (None,) * 20 for name in series.__slots__ if not getattr(series, name)})
    plan = Plan(40.0, 5.0, (), (1.0,))
    s = replace(made.live(), series=series, plan=plan, plan_s=20.0)
    assert served_columns(s, plan, 8) == [7.0, 11.5, 17.0, 22.0, None, None, None, None]


async def test_a_session_without_a_plan_has_no_timeline() -> None:
    async with opened(app := RvtopApp(made.FakeHandle(made.live()))):
        assert not app.screen.query_one(TimelinePanel).region.area


async def test_it_goes_once_an_endless_phase_follows_the_plan() -> None:
    s = replace(made.planned(), plan_s=240.0, phase=Phase("live", 4, 5, 10.0, None))
    async with opened(app := RvtopApp(made.FakeHandle(s)), 120, 44):
        assert not app.screen.query_one(TimelinePanel).region.area


async def test_one_row_has_names_progress_and_what_comes() -> None:
    async with opened(app := RvtopApp(made.FakeHandle(made.planned())), 80, 24):
        (line,) = text_of(app, TimelinePanel).splitlines()
    assert "warm" in line
    assert "│climb █" in line
    assert "│hold ·" in line
    assert line.rstrip().endswith("in 00:18")


def marked(t: float, *at_s: float) -> Snapshot:
    """``made.planned`` with marks."""
    s = made.planned(t)
    return replace(s, events=tuple(Event(s.unix_s, "here", kind="mark", t_s=at) for at in at_s))


async def test_marks_stand_on_the_plan_where_they_were_set() -> None:
    async with opened(app := RvtopApp(made.FakeHandle(marked(92.0, 46.0, 69.0, 500.0))), 120, 44):
        panel = app.screen.query_one(TimelinePanel)
        upper = panel.plain_text()[1]
        inner = panel.size.width - 4
        assert [x - 2 for x, char in enumerate(upper) if char == "◆"] == [
            column_of(at, made.planned().plan, inner)  # type: ignore[arg-type]
            for at in (46.0, 69.0)
        ]


async def test_the_plans_cursor_is_at_the_second_that_a_frozen_screen_shows() -> None:
    s = made.planned()
    assert s.plan is not None
    plan = s.plan
    async with opened(app := RvtopApp(made.FakeHandle(s)), 120, 44) as pilot:
        panel = app.screen.query_one(TimelinePanel)
        inner = panel.size.width - 4

        def cursor() -> int:
            return panel.plain_text()[1].index("┃") - 2

        assert cursor() == column_of(92.0, plan, inner)
        await pilot.press("shift+left", "shift+left", "shift+left", "shift+left", "shift+left")
        await until(pilot, lambda: cursor() == column_of(42.0, plan, inner))
        assert "in 00:08" in panel.plain_text()[0], "what comes next is told as of then"
        await pilot.press("f")
        await until(pilot, lambda: cursor() == column_of(92.0, plan, inner))
        await pilot.click(TimelinePanel, offset=(2 + column_of(69.0, plan, inner), 2))
        await until(pilot, lambda: cursor() == column_of(69.0, plan, inner))
        await pilot.click(TimelinePanel, offset=(2 + inner - 1, 2))
        await pilot.pause()
        assert cursor() == column_of(69.0, plan, inner), "what is to come can't be shown"
