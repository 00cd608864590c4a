"""The mouse: a click on a chart or an event goes there, the wheel moves windows and lists."""

from __future__ import annotations

from dataclasses import replace

import made
import pytest
from driven import opened, text_of, until
from textual.events import MouseScrollDown, MouseScrollUp
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widget import Widget

from rvtop.contract.command import NextPhase, Record
from rvtop.contract.snapshot import Event
from rvtop.ui.app import RvtopApp
from rvtop.ui.screens.help import PanelHelpScreen
from rvtop.ui.screens.map import MapPanel, MapScreen
from rvtop.ui.screens.slo import SloScreen
from rvtop.ui.screens.switch import SwitchScreen
from rvtop.ui.sharing import READ_ONLY, Sharing
from rvtop.ui.widgets.events import EventsPanel
from rvtop.ui.widgets.footer import Footer
from rvtop.ui.widgets.gpu_use import GpuUsePanel
from rvtop.ui.widgets.header import Header
from rvtop.ui.widgets.inflight import InFlightPanel
from rvtop.ui.widgets.latency_time import LatencyTimePanel
from rvtop.ui.widgets.panel import Panel
from rvtop.ui.widgets.time_chart import GUTTER
from rvtop.ui.widgets.ttft import TtftPanel


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


async def click_on(pilot: Pilot[int], kind: type[Panel], words: str) -> None:
    """Clicks where ``words`` stand in a panel."""
    lines = pilot.app.screen.query_one(kind).plain_text()
    y = next(y for y, line in enumerate(lines) if words in line)
    await pilot.click(kind, offset=(lines[y].index(words) + 1, y))


@pytest.mark.parametrize(
    ("panel", "entry", "sign"),
    [
        (TtftPanel, "last 10 s", "█"),
        (TtftPanel, "phase", "▒"),
        (LatencyTimePanel, "p50", "█"),
        (LatencyTimePanel, "p99", "▒"),
        (InFlightPanel, "wait", "▓"),
        (InFlightPanel, "batch", "█"),
        (GpuUsePanel, "most", "▒"),
    ],
)
async def test_a_click_on_a_legend_hides_its_line_and_shows_it_again(
    panel: type[Panel], entry: str, sign: str
) -> None:
    s = replace(made.live(), load=replace(made.live().load, in_flight=90), target_down_s=None)
    app = RvtopApp(made.FakeHandle(s))
    async with opened(app, 200, 60) as pilot:

        def drawn() -> int:
            return sum(line.count(sign) for line in app.screen.query_one(panel).plain_text()[1:])

        before = drawn()
        assert before > 1
        await click_on(pilot, panel, entry)
        await until(pilot, lambda: drawn() < before)
        assert (
            sign
            not in next(line for line in app.screen.query_one(panel).plain_text() if entry in line).partition(
                entry
            )[2][:6]
        )
        await click_on(pilot, panel, entry)
        await until(pilot, lambda: drawn() == before)


async def test_capital_h_hides_the_lines_of_the_panel_in_focus_one_by_one() -> None:
    app = RvtopApp(made.FakeHandle(made.live()))
    async with opened(app) as pilot:
        live = app.live
        assert live is not None
        await pilot.press("H")
        await until(pilot, lambda: "choose a panel with a legend" in text_of(app, Footer))
        live.set_focus(live.query_one(LatencyTimePanel))
        seen = []
        for _ in range(3):
            await pilot.press("H")
            seen.append(set(live.view.hidden))
        assert seen == [{("latency_time", "p50")}, {("latency_time", "p99")}, set()]


@pytest.mark.parametrize(
    ("panel", "words", "opens"),
    [
        (TtftPanel, "SLO 200", SloScreen),
        (LatencyTimePanel, "SLO┤", SloScreen),
        (Header, "rvtop", SwitchScreen),
        (Header, "client ok", PanelHelpScreen),
    ],
)
async def test_a_click_opens_what_its_key_opens(
    panel: type[Panel], words: str, opens: type[Screen[object]]
) -> None:
    app = RvtopApp(made.FakeHandle(made.live()))
    async with opened(app) as pilot:
        await click_on(pilot, panel, words)
        await until(pilot, lambda: isinstance(app.screen, opens))


async def test_a_click_on_phase_and_recording_does_what_their_keys_do() -> None:
    handle = made.FakeHandle(replace(made.live(), recording_s=12.0))
    app = RvtopApp(handle)
    async with opened(app, 160, 40) as pilot:
        await click_on(pilot, Header, "climb")
        await until(pilot, lambda: handle.sent == [NextPhase()])
        await click_on(pilot, Header, "REC")
        await until(pilot, lambda: handle.sent[1:] == [Record(on=False)])


async def test_where_nothing_is_steered_a_click_does_not_either() -> None:
    handle = made.FakeHandle(made.live())
    app = RvtopApp(handle, sharing=Sharing(readonly=True))
    async with opened(app) as pilot:
        await click_on(pilot, Header, "climb")
        await until(pilot, lambda: READ_ONLY in text_of(app, Footer))
        assert handle.sent == []


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
