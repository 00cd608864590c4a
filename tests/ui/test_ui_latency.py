"""The table of percentiles: the client's and the server's on one row, each under its column's name."""

from __future__ import annotations

import re
from dataclasses import replace

import made
import pytest
from driven import opened, screen_text, text_of

from rvtop.contract.snapshot import Dist
from rvtop.stats.distribution import EMPTY
from rvtop.ui.app import RvtopApp
from rvtop.ui.widgets.latency import LatencyPanel
from rvtop.ui.widgets.latency_time import LatencyTimePanel, short_ms
from rvtop.ui.widgets.ttft import TtftPanel


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


async def test_the_latency_of_answers_in_one_piece_stands_where_the_ttft_would() -> None:
    s = made.live()
    latency, series = s.latency, s.series
    whole = replace(
        s,
        latency=replace(
            latency,
            ttft=Dist(),
            itl=Dist(),
            e2e=latency.ttft,
            ttft_recent=EMPTY,
            ttft_phase=EMPTY,
            whole_recent=latency.ttft_recent,
            whole_phase=latency.ttft_phase,
        ),
        series=replace(
            series,
            ttft_p50_ms=(None,) * len(series.t_s),
            ttft_p99_ms=(None,) * len(series.t_s),
            whole_p50_ms=series.ttft_p50_ms,
            whole_p99_ms=series.ttft_p99_ms,
        ),
        slo_ttft_ms=None,
        slo_e2e_ms=s.slo_ttft_ms,
    )
    pictures = []
    for shown in (s, whole):
        app = RvtopApp(made.FakeHandle(shown))
        async with opened(app, 200, 60):
            pictures.append([text_of(app, panel) for panel in (TtftPanel, LatencyTimePanel)])
            rows = text_of(app, LatencyPanel).splitlines()
    assert [row.split()[:2] for row in rows[1:3]] == [["TTFT", "--"], ["ITL", "--"]]
    (ttft, over_time), (e2e, e2e_over_time) = pictures
    assert ttft.splitlines()[1:-1] == e2e.splitlines()[1:-1]  # the same picture under another name
    assert over_time.splitlines()[1:-1] == e2e_over_time.splitlines()[1:-1]
    assert "TTFT" not in e2e + e2e_over_time
    assert "E2E" in e2e
    assert "E2E" in e2e_over_time
    assert "SLO" in e2e


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0.5, "0.5"), (50, "50"), (2e3, "2 s"), (50e3, "50 s"), (1e5, "100s"), (5e5, "500s"), (2e6, "2ks")],
)
def test_the_ends_of_an_axis_have_four_cells_and_their_unit(ms: float, text: str) -> None:
    assert short_ms(ms) == text
    assert len(text) <= 4


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)], ids=lambda size: f"{size[0]}x{size[1]}")
async def test_figures_of_an_overloaded_server_touch_nothing(size: tuple[int, int]) -> None:
    s = made.live()
    slow = made.dist([70_400_000_000] * 9, [119_000_000_000] * 9)
    latency = replace(s.latency, ttft=slow, server_ttft=slow)
    app = RvtopApp(made.FakeHandle(replace(s, latency=latency, load=replace(s.load, in_flight=12_548))))
    async with opened(app, *size):
        assert re.search(r"in flight +12 548", screen_text(app))
        ttft = text_of(app, LatencyPanel).splitlines()[1]
        assert re.search(r" ~\S[\S ]* ~\S", ttft), ttft
        assert not re.search(r"[^ ]~", ttft), ttft
