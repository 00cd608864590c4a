"""The dial: the memory of rates, the needle, a click on it; and the figures beside it."""

from __future__ import annotations

from dataclasses import replace

import made
import pytest
from test_ui_app import opened, screen_text, text_of
from waiting import until

from rvtop.contract.command import SetRate
from rvtop.contract.snapshot import Snapshot
from rvtop.ui.app import RvtopApp
from rvtop.ui.format import rate as shown_rate
from rvtop.ui.rate_dial import RateDial
from rvtop.ui.rate_memory import Fared, RateMemory, RateScale
from rvtop.ui.screens.map import MapScreen
from rvtop.ui.screens.rate import RateScreen
from rvtop.ui.theme import DARK, Styles
from rvtop.ui.widgets.load import LoadPanel

STYLES = Styles(DARK)


def dial(rate: float | None, width: int = 48, *, taken: bool = True, judged: bool = True) -> RateDial:
    memory = RateMemory()
    memory._remember(10.0, Fared.HELD)
    memory._remember(100.0, Fared.MISSED)
    return RateDial(RateScale(width, 50.0, None), memory, rate, taken, judged)


def test_the_dial_shows_what_held_what_missed_and_the_needle() -> None:
    made_of = dial(48.0)
    labels, dots, below = (line.text for line in made_of.rows(STYLES))
    assert labels.split() == ["1", "2", "5", "10", "20", "50", "100", "200"]
    scale = made_of.scale
    assert dots[scale.column(10.0)] == "●"
    assert dots[scale.column(100.0)] == "○"
    assert dots.count("·") == 46
    assert below.index("▲") == scale.column(48.0)
    assert "▲ 48.0" in below
    assert "● held" in below


@pytest.mark.parametrize("width", [12, 20, 33, 72])
@pytest.mark.parametrize("rate", [None, 0.0, 0.5, 1.0, 7.0, 48.0, 199.0, 5000.0])
def test_the_needle_stands_over_its_rate_and_the_legend_never_touches_it(
    width: int, rate: float | None
) -> None:
    made_of = dial(rate, width)
    rows = made_of.rows(STYLES)
    assert [line.width for line in rows] == [width] * 3
    assert made_of.one_row(STYLES).width == width
    if rate:
        below = rows[2].text
        assert below[made_of.scale.column(rate)] == "▲"
        assert below.count("▲") == 1
        figure = shown_rate(rate)
        assert f"▲ {figure}" in below or f"{figure} ▲" in below
    else:
        assert "▲" not in rows[2].text


def test_without_an_slo_the_legend_says_so() -> None:
    assert "no SLO" in dial(5.0, judged=False).rows(STYLES)[2].text


def test_a_rate_that_the_load_has_not_taken_is_underlined() -> None:
    def underlined(made_of: RateDial) -> bool:
        return any(
            style is not None and style.underline and "▲" in text
            for text, style in made_of.rows(STYLES)[2].runs
        )

    assert underlined(dial(48.0, taken=False))
    assert not underlined(dial(48.0))


class Moving(made.FakeHandle):
    """A session whose load runs on by itself, a tenth of a second at each look, at the rate it was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.rate, self.base = 20.0, made.live()
        self.done = 0.0

    def snapshot(self) -> Snapshot | None:
        self.looks += 1
        self.rate = next((c.rps for c in reversed(self.sent) if isinstance(c, SetRate)), self.rate)
        self.done += self.rate / 10
        t, n = 92 + self.looks / 10, int(self.done)
        load = replace(self.base.load, target_rps=self.rate, due=n, ok=n, sent=n, errors=())
        return replace(self.base, seq=self.looks, t_s=t, load=load)


async def test_rates_are_means_since_the_last_command_also_while_another_screen_is_on_top() -> None:
    handle = Moving()
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: isinstance(app.screen, MapScreen))
        for _ in range(120):
            app.poll()
        await pilot.press("1")
        await until(pilot, lambda: "±1.41" in text_of(app, LoadPanel))  # √200 / 10 s
        assert "20.0" in text_of(app, LoadPanel)


async def test_a_click_on_the_dial_opens_the_box_with_that_rate() -> None:
    handle = made.FakeHandle(made.live())
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        panel = app.screen.query_one(LoadPanel)
        assert panel._dial_at is not None
        first, scale = panel._dial_at
        await pilot.click(LoadPanel, offset=(first + scale.column(10.0), 2))
        await until(pilot, lambda: isinstance(app.screen, RateScreen))
        await pilot.press("enter")
        await until(pilot, lambda: bool(handle.sent))
        (command,) = handle.sent
        assert isinstance(command, SetRate)
        assert scale.column(command.rps) == scale.column(10.0)


async def test_the_wheel_over_the_strip_turns_the_rate() -> None:
    handle = made.FakeHandle(made.live())
    app = RvtopApp(handle)
    async with opened(app):
        panel = app.screen.query_one(LoadPanel)
        await panel.on_mouse_scroll_up()
        await panel.on_mouse_scroll_down()
        await panel.on_mouse_scroll_down()
    assert [round(c.rps) for c in handle.sent if isinstance(c, SetRate)] == [49, 48, 47]


async def test_a_closed_loop_has_no_dial() -> None:
    app = RvtopApp(made.FakeHandle(made.closed()))
    async with opened(app):
        shown = text_of(app, LoadPanel)
        assert "at once" in shown
        assert "closed loop" in shown or "sends the next" in shown
        assert "▲" not in shown


async def test_while_watching_the_servers_figures_stand_in_the_strip() -> None:
    app = RvtopApp(made.FakeHandle(made.watching()))
    async with opened(app):
        shown = text_of(app, LoadPanel)
        assert "SERVER" in shown
        assert "running      19" in shown
        assert "↑ sends" in shown


async def test_classes_of_errors_stand_in_the_rule() -> None:
    app = RvtopApp(made.FakeHandle(made.live()))
    async with opened(app):
        assert "http_429 9  reset 3" in screen_text(app)
