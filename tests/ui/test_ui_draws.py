"""A panel that says what of a snapshot it shows is drawn anew when that changes, and only then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import made
import pytest
from driven import opened, show, text_of

from rvtop.contract.snapshot import Plan, Series, Snapshot
from rvtop.ui.app import RvtopApp
from rvtop.ui.widgets.engines import EnginesPanel
from rvtop.ui.widgets.panel import Panel
from rvtop.ui.widgets.requests import RequestList
from rvtop.ui.widgets.time_chart import TimeChart

SIZES, ROW_SIZES = ((96, 9), (110, 1)), ((130, 1), (60, 1))


def base() -> Snapshot:
    """A snapshot that every panel of the session's screens has something of."""
    whole, s = made.full(), made.planned()
    listed, server = made.listing().requests, made.cluster()
    return replace(
        s,
        requests=listed,
        gpus=whole.gpus,
        engines=whole.engines,
        figures=whole.figures,
        deployments=server.deployments,
        nodes=server.nodes,
    )


def variants(s: Snapshot, other: Snapshot) -> Iterator[tuple[str, Snapshot]]:
    """``s`` with each of its fields, and each field of its parts, as ``other`` has it."""
    for field in fields(Snapshot):
        mine, theirs = getattr(s, field.name), getattr(other, field.name)
        if mine == theirs:
            continue
        yield field.name, replace(s, **{field.name: theirs})
        if is_dataclass(mine) and type(mine) is type(theirs) and not isinstance(mine, Series | Plan):
            for part in fields(mine):
                value: Any = replace(mine, **{part.name: getattr(theirs, part.name)})  # type: ignore[type-var]
                yield f"{field.name}.{part.name}", replace(s, **{field.name: value})


def picture(panel: Panel, s: Snapshot) -> tuple[object, list[object]]:
    """What ``panel`` says that it shows of ``s``, and how that looks."""
    panel._kept.clear()
    panel.snapshot = s
    panel.observe(s)
    told = panel.draws(s)
    looks: list[object] = []
    for width, height in ROW_SIZES if panel.region.height == 1 else SIZES:
        looks += [line.runs for line in panel._lines(width, height)]
    return told, looks


@pytest.mark.parametrize("key", ["1", "2", "3"])
async def test_what_a_panel_says_that_it_shows_is_all_that_it_shows(key: str) -> None:
    s, others = base(), (made.stale(), made.switching(), made.listing_estimate(), made.watching())
    app = RvtopApp(made.FakeHandle(s))
    tried = set()
    async with opened(app, 300, 100) as pilot:
        await pilot.press(key)
        await pilot.pause()
        for panel in app.screen.query(Panel):
            if panel.snapshot is None or not panel.wants(s) or panel.draws(s) is None:
                continue
            before = picture(panel, s)
            for other in others:
                for name, variant in variants(s, other):
                    if not panel.wants(variant):
                        continue
                    told, looks = picture(panel, variant)
                    if told == before[0]:
                        assert looks == before[1], f"{type(panel).__name__} does not say that it shows {name}"
                    tried.add(type(panel).__name__)
            picture(panel, s)
    assert tried >= {"1": {"EnginesPanel", "Header", "SlowestPanel", "TimelinePanel"}}.get(key, {"Header"})


async def test_it_is_drawn_anew_only_then(monkeypatch: pytest.MonkeyPatch) -> None:
    s = made.listing()
    handle = made.FakeHandle(s)
    app = RvtopApp(handle)
    drawn: list[str] = []
    paint = Panel._paint

    def counted(panel: Panel, size: Any) -> list[int]:
        drawn.append(type(panel).__name__)
        return paint(panel, size)

    async with opened(app) as pilot:
        await show(app, pilot, handle, s)
        monkeypatch.setattr(Panel, "_paint", counted)
        await show(app, pilot, handle, replace(s, load=replace(s.load, ok=s.load.ok + 1)))
        assert "LoadPanel" in drawn
        assert not {"EnginesPanel", "GpuPanel", "KvQueuePanel", "EventsPanel"} & set(drawn)
        engines = tuple(replace(engine, running=37) for engine in s.engines)
        await show(app, pilot, handle, replace(s, engines=engines))
        assert "37" in text_of(app, EnginesPanel)
        await pilot.press("W")  # what the screen's view changes is drawn at once
        await pilot.pause()
        charts = [
            chart for chart in app.screen.query(TimeChart) if chart.region.area and chart.size.width > 50
        ]
        assert any("· 5 min" in "\n".join(chart.plain_text()) for chart in charts)
        await pilot.press("3", "e")
        await pilot.pause()
        assert "errors, newest first" in text_of(app, RequestList)
