"""The table of percentiles: the client's and the server's on one row, each under its column's name."""

from __future__ import annotations

from dataclasses import replace

import made
import pytest
from driven import opened, text_of

from rvtop.ui.app import RvtopApp
from rvtop.ui.widgets.latency import LatencyPanel


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)], ids=lambda size: f"{size[0]}x{size[1]}")
async def test_the_servers_percentiles_stand_on_the_clients_row(size: tuple[int, int]) -> None:
    app = RvtopApp(made.FakeHandle(made.live()))
    async with opened(app, *size):
        rule, ttft, itl, *_ = text_of(app, LatencyPanel).splitlines()
        assert ttft.split() == ["TTFT", "38.0", "64.8", "100", "94.4", "~26.0", "~69.1"]
        assert itl.split()[-2:] == ["--", "--"]
        for name, figure in (("p50", "38.0"), ("SERVER ~p50", "~26.0"), ("~p99 ", "~69.1 ")):
            assert 0 <= ttft.index(figure) + len(figure) - rule.index(name) - len(name) + 2 <= 3


async def test_without_a_server_that_tells_there_are_no_such_columns() -> None:
    s = made.live()
    app = RvtopApp(made.FakeHandle(replace(s, latency=replace(s.latency, server_ttft=None))))
    async with opened(app):
        assert "SERVER" not in text_of(app, LatencyPanel)


async def test_gaps_of_the_servers_tokens_are_named_beside_gaps_of_chunks() -> None:
    s = made.live()
    gaps = made.watching().latency.server_itl
    app = RvtopApp(
        made.FakeHandle(replace(s, latency=replace(s.latency, itl_is_chunks=True, server_itl=gaps)))
    )
    async with opened(app):
        row = next(line for line in text_of(app, LatencyPanel).splitlines() if "ICL" in line)
        assert "ITL ~2.60" in row


async def test_while_watching_the_table_holds_the_servers_figures() -> None:
    app = RvtopApp(made.FakeHandle(made.watching()))
    async with opened(app):
        ttft = text_of(app, LatencyPanel).splitlines()[1]
        assert ttft.split() == ["TTFT", "--", "--", "--", "--", "~31.0", "~99.2"]
