"""The mouse: a click on a chart or an event goes there, the wheel moves windows and lists."""

from __future__ import annotations

from dataclasses import replace

import made
import pytest
from driven import opened, until
from textual.events import MouseScrollDown, MouseScrollUp
from textual.pilot import Pilot
from textual.widget import Widget

from rvtop.contract.snapshot import Event
from rvtop.ui.app import RvtopApp
from rvtop.ui.screens.map import MapPanel, MapScreen
from rvtop.ui.widgets.events import EventsPanel
from rvtop.ui.widgets.latency_time import LatencyTimePanel
from rvtop.ui.widgets.time_chart import GUTTER


async def wheel(pilot: Pilot[int], widget: Widget, *, down: bool) -> None:
    kind = MouseScrollDown if down else MouseScrollUp
    x, y = widget.region.x + 2, widget.region.y + 1
    pilot.app.post_message(kind(None, x, y, 0, 1 if down else -1, 0, False, False, False, x, y))
    await pilot.pause()


async def test_a_click_on_a_chart_freezes_at_that_second() -> None:
    app = RvtopApp(made.FakeHandle(made.live()))
    async with opened(app) as pilot:
        live = app.live
        assert live is not None
        chart = live.query_one(LatencyTimePanel)
        x = chart.size.width - 4
        await pilot.click(LatencyTimePanel, offset=(x, 2))
        await until(pilot, lambda: live._frozen)
        assert live.view.cursor_s == chart.second_at(x)
        assert chart.second_at(GUTTER) is None, "the axis is no second"
        await pilot.press("f")
        await pilot.click(LatencyTimePanel, offset=(x, 0))
        assert not live._frozen, "a click on the rule chooses the panel"


async def test_a_click_on_an_event_goes_there_where_the_charts_show_it() -> None:
    s = made.live()
    old = Event(s.events[-1].unix_s, "long ago", t_s=-900.0)
    late = Event(s.events[-1].unix_s, "just now", "warn", "mark", t_s=s.t_s - 5)
    app = RvtopApp(made.FakeHandle(replace(s, events=(old, late))))
    async with opened(app) as pilot:
        live = app.live
        assert live is not None
        panel = live.query_one(EventsPanel)
        text = panel.plain_text()
        y = next(i for i, line in enumerate(text) if "just now" in line)
        assert panel.event_at(text[y].index("just now"), y) == late
        assert panel.event_at(0, y) is None
        y_old = next(i for i, line in enumerate(text) if "long ago" in line)
        await pilot.click(EventsPanel, offset=(text[y_old].index("long ago"), y_old))
        await pilot.pause()
        assert not live._frozen
        await pilot.click(EventsPanel, offset=(text[y].index("just now"), y))
        await until(pilot, lambda: live._frozen)
        assert live.view.cursor_s == int(s.t_s - 5)


async def test_the_wheel_changes_the_window_over_a_chart() -> None:
    app = RvtopApp(made.FakeHandle(made.live()))
    async with opened(app) as pilot:
        live = app.live
        assert live is not None
        assert live.snapshot is not None
        before = live.view.window(live.snapshot)
        await wheel(pilot, live.query_one(LatencyTimePanel), down=True)
        await until(pilot, lambda: (live.view.window_s or 0) > before)
        await wheel(pilot, live.query_one(LatencyTimePanel), down=False)
        await until(pilot, lambda: live.view.window_s == before)


@pytest.mark.parametrize("down", [True, False])
async def test_the_wheel_moves_the_cursor_of_a_list(down: bool) -> None:
    app = RvtopApp(made.FakeHandle(made.mapped()))
    async with opened(app) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: isinstance(app.screen, MapScreen) and app.screen.snapshot is not None)
        screen = app.screen
        assert isinstance(screen, MapScreen)
        screen.chosen.row = 1
        await wheel(pilot, screen.query_one(MapPanel), down=down)
        await until(pilot, lambda: screen.chosen.row != 1)
        assert screen.chosen.row == (2 if down else 0)
