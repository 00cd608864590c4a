"""Replicas as cells over time: drawn where their number changes, and each state in its place."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import made
import pytest
from driven import opened, text_of

from rvtop.plain import figures_line
from rvtop.ui.app import RvtopApp
from rvtop.ui.widgets.replicas import ReplicasPanel


async def test_a_cell_a_replica() -> None:
    app = RvtopApp(made.FakeHandle(made.scaled()))
    async with opened(app, 200, 60):
        text = text_of(app, ReplicasPanel)
        assert "2 of 2, 1 draining" in text
        rows = [line.partition("┤")[2] or line.partition("│")[2] for line in text.splitlines()[1:]]
        columns = [Counter(row[x] for row in rows if x < len(row)) for x in range(max(map(len, rows)))]
        found = [(c["●"], c["◐"], c["○"], c["◌"]) for c in columns if c["●"]]
        course = [now for before, now in zip([None, *found], found, strict=False) if now != before]
        assert course == [(1, 0, 0, 0), (1, 1, 1, 0), (2, 1, 0, 0), (3, 0, 0, 0), (2, 0, 0, 1)]
        assert app.live is not None
        assert app.live.query_one(ReplicasPanel).region.area


async def test_of_a_fixed_number_there_is_nothing_to_say() -> None:
    app = RvtopApp(made.FakeHandle(made.cluster()))
    async with opened(app, 200, 60):
        assert app.live is not None
        assert not app.live.query_one(ReplicasPanel).region.area


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (160, 50)])
async def test_it_finds_room_or_goes(size: tuple[int, int]) -> None:
    app = RvtopApp(made.FakeHandle(made.scaled()))
    async with opened(app, *size):
        assert app.live is not None
        panel = app.live.query_one(ReplicasPanel)
        assert not panel.region.area or "replicas" in text_of(app, ReplicasPanel)


def test_the_plain_line_says_it() -> None:
    assert "replicas 2 of 2, 1 draining" in figures_line(made.scaled())
    fixed = replace(made.scaled(), series=made.live().series)
    assert "replicas" not in figures_line(fixed)
