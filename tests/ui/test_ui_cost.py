"""What is not done twice: rows, strips and parts of panels that stay are kept."""

from __future__ import annotations

from dataclasses import replace

import made
import pytest
from driven import opened, show
from textual.pilot import Pilot
from textual.strip import Strip

import rvtop.ui.widgets.footer
import rvtop.ui.widgets.load
from rvtop.stats.distribution import Distribution
from rvtop.ui.app import RvtopApp
from rvtop.ui.axis import LogAxis
from rvtop.ui.draw import Cells, Line
from rvtop.ui.rate_dial import RateDial
from rvtop.ui.widgets.panel import Panel


def strips(app: RvtopApp) -> dict[str, list[Strip]]:
    """The strips of each panel that is drawn."""
    panels = [panel for panel in app.screen.query(Panel) if panel.region.area and panel.placed]
    assert len(panels) > 5
    return {panel.name_in_layout: list(panel.render_lines(panel.size.region)) for panel in panels}


async def settled(app: RvtopApp, pilot: Pilot[int], handle: made.FakeHandle) -> None:
    """The live screen after its first pictures: the layout and the footer have found their places."""
    assert handle.now is not None
    for _ in range(3):
        await show(app, pilot, handle, handle.now)


async def test_rows_that_stay_are_the_same_strips() -> None:
    handle = made.FakeHandle(made.live())
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await settled(app, pilot, handle)
        before = strips(app)
        s = made.live()
        await show(app, pilot, handle, replace(s, load=replace(s.load, in_flight=s.load.in_flight + 1)))
        after = strips(app)
        made_anew = sum(
            old is not new for name in before for old, new in zip(before[name], after[name], strict=True)
        )
        assert 1 <= made_anew <= 4  # those rows that hold the figure


async def test_a_picture_that_stays_is_neither_drawn_nor_composed() -> None:
    handle = made.FakeHandle(made.live())
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await settled(app, pilot, handle)
        composed = []
        compositor = app.screen._compositor
        update = compositor.render_update
        compositor.render_update = lambda **kw: composed.append(kw) or update(**kw)  # type: ignore[method-assign, func-returns-value]
        await show(app, pilot, handle, made.live())
        await pilot.pause(0.3)
        assert composed == []


async def test_what_a_dialog_covers_and_uncovers_is_drawn_from_the_same_strips() -> None:
    handle = made.FakeHandle(made.live())
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await settled(app, pilot, handle)
        before = strips(app)
        await pilot.press("g")
        await pilot.pause()
        await pilot.press("escape")
        await pilot.pause()
        assert {name: [strip.text for strip in kept] for name, kept in strips(app).items()} == {
            name: [strip.text for strip in kept] for name, kept in before.items()
        }


async def test_keys_and_the_dial_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def counted(name: str, function: object) -> object:
        def call(*args: object, **more: object) -> object:
            calls.append(name)
            return function(*args, **more)  # type: ignore[operator]

        return call

    handle = made.FakeHandle(made.live())
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await settled(app, pilot, handle)
        monkeypatch.setattr(RateDial, "rows", counted("dial", RateDial.rows))
        for module, name in ((rvtop.ui.widgets.footer, "hints"), (rvtop.ui.widgets.load, "load_hints")):
            monkeypatch.setattr(module, name, counted(name, getattr(module, name)))
        s = made.live()
        for n in range(1, 6):
            load = replace(s.load, in_flight=s.load.in_flight + n)
            await show(app, pilot, handle, replace(s, t_s=s.t_s + n / 10, load=load))
        assert calls == []
        paused = replace(s, state="paused")
        await show(app, pilot, handle, paused)
        assert set(calls) >= {"hints", "load_hints"}


def test_a_kept_part_is_made_again_when_its_key_changes() -> None:
    panel, made_of = Panel(), list[int]()

    def make(n: int) -> int:
        made_of.append(n)
        return n

    for n in (1, 1, 2, 1):
        panel.once((n,), lambda n=n: make(n))  # type: ignore[misc]
        panel.once((n,), lambda n=n: make(10 * n), "other")  # type: ignore[misc]
    assert made_of == [1, 10, 2, 20, 1, 10]
    panel.forget()
    panel.once((1,), lambda: make(3))
    assert made_of[-1] == 3


def test_an_axis_computes_its_ticks_once_and_hands_out_copies() -> None:
    axis = LogAxis()
    axis.include(12.0, 900.0)
    ticks, edges = axis.ticks(80), axis.edges(80)
    ticks.clear()
    edges.clear()
    assert axis.ticks(80)
    assert len(axis.edges(80)) == 81


def test_cells_join_neighbours_of_one_style_and_nothing_else() -> None:
    cells = Cells(6, 1)
    cells.write(1, 0, "abc", None)
    style = made_style()
    cells.set(2, 0, "B", style)
    (line,) = cells.lines()
    assert line.runs == [(" a", None), ("B", style), ("c  ", None)]
    assert Cells(0, 2).lines()[0].runs == []


def made_style() -> object:
    from rich.style import Style

    return Style(bold=True)


@pytest.mark.parametrize(("text", "width"), [("abc", 3), ("", 0), ("é", 1), ("日本", 4), ("a\x1bb", 2)])
def test_a_line_counts_cells(text: str, width: int) -> None:
    assert Line(text).width == width


def test_events_between_edges_are_all_there_and_in_order() -> None:
    found = Distribution(((10, 5), (11, 7), (300, 1)), 0, 0, 0)
    edges = [0.0, 1000.0 * 1.02**10, 1000.0 * 1.02**10.5, 1e12, 1e13]
    assert found.rebin(edges) == pytest.approx([5.0, 3.5, 4.5, 0.0])
