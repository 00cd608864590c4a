"""The row for what spoils all figures: one message, the worst first, with what to do."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import made
import pytest
from driven import opened, screen_text, text_of

from rvtop.contract.cluster import Cluster
from rvtop.contract.snapshot import Snapshot
from rvtop.contract.spending import Spending
from rvtop.ui.app import RvtopApp
from rvtop.ui.theme import DARK, Styles
from rvtop.ui.widgets.comb import CombPanel
from rvtop.ui.widgets.gpu import GpuPanel
from rvtop.ui.widgets.money import MoneyPanel
from rvtop.ui.widgets.notice import NoticePanel
from rvtop.ui.widgets.probes import ProbesPanel
from rvtop.ui.widgets.saturation import SaturationPanel


def silent(s: Snapshot, seconds: float | None, refused: int, seq: int) -> Snapshot:
    errors = (("http_429", 9), ("refused", refused)) if refused else (("http_429", 9),)
    return replace(s, seq=seq, target_down_s=seconds, load=replace(s.load, errors=errors))


async def test_a_silent_server_is_said_with_the_classes_since_then_and_before_a_limited_client() -> None:
    s = made.live()
    limited = replace(s, load=replace(s.load, client_limited="a load worker uses 97 % of a core"))
    handle = made.FakeHandle(silent(limited, None, 0, 1))
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        notice = text_of(app, NoticePanel)
        assert notice.startswith(" ✗ CLIENT-LIMITED ")
        assert "97 % of a core" in notice
        handle.now = silent(limited, 4.2, 52, 2)
        app.poll()
        await pilot.pause()
        notice = text_of(app, NoticePanel)
        assert notice.startswith(" ✗ NOT ANSWERING 4 s ")
        assert "52 refused" in notice
        assert "http_429" not in notice
        assert "space pauses it" in notice
        assert "CLIENT-LIMITED" not in notice
        handle.now = silent(s, None, 52, 3)
        app.poll()
        await pilot.pause()
        await pilot.pause()
        assert not app.screen.query_one(NoticePanel).region.area


async def test_a_head_that_is_lost_is_said_while_serving_goes_on() -> None:
    s = made.live()
    handle = made.FakeHandle(replace(s, cluster=Cluster(head_lost_s=12.0)))
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        notice = text_of(app, NoticePanel)
        assert notice.startswith(" ✗ DEGRADED   scaling paused, serving continues")
        assert "Ray's head has not answered for 12 s" in notice
        handle.now = replace(s, seq=s.seq + 1, cluster=Cluster(head_lost_s=None))
        app.poll()
        await pilot.pause()
        await pilot.pause()
        assert "DEGRADED" not in screen_text(app)


@pytest.mark.parametrize("size", [(40, 12), (80, 24), (200, 60)], ids=lambda size: f"{size[0]}x{size[1]}")
async def test_the_row_is_there_at_every_size_and_ends_with_the_session(size: tuple[int, int]) -> None:
    handle = made.FakeHandle(silent(made.live(), 4.2, 52, 1))
    app = RvtopApp(handle)
    async with opened(app, *size) as pilot:
        assert screen_text(app).count("NOT ANSWERING 4 s") == 2  # in the header too
        handle.now = replace(made.lost(), seq=2)
        app.poll()
        await pilot.pause()
        await pilot.pause()
        assert "NOT ANSWERING" not in screen_text(app)


async def test_power_and_money_have_a_row_and_a_column() -> None:
    handle = made.FakeHandle(made.powered())
    app = RvtopApp(handle)
    async with opened(app, 200, 60) as pilot:
        row = text_of(app, MoneyPanel)
        assert " ".join(row.split()) == "GPU power 412 W J/token 0.214 $/Mtok in 0.043 out 1.27"
        gpus = text_of(app, GpuPanel).splitlines()
        assert gpus[0].rstrip(" ─").endswith("power")
        assert gpus[1].rstrip().endswith(" 412 W")
        assert gpus[2].rstrip().endswith(" --")
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert "J/token" not in screen_text(app)  # the first to go
        await pilot.resize_terminal(200, 60)
        bare = replace(handle.now, seq=handle.now.seq + 1, spending=None, gpus=made.live().gpus)
        handle.now = bare
        app.poll()
        await pilot.pause()
        await pilot.pause()
        assert "J/token" not in screen_text(app)
        assert "power" not in text_of(app, GpuPanel)


def test_one_without_a_split_or_a_price_says_less() -> None:
    panel = MoneyPanel()
    styled = SimpleNamespace(rich_styles=Styles(DARK))

    def line(found: Spending) -> str:
        s = replace(made.live(), spending=found)
        return MoneyPanel.one_line(cast("MoneyPanel", styled), s, 100).text.strip()

    assert panel.wants(replace(made.live(), spending=Spending()))
    assert not panel.wants(made.live())
    assert line(Spending(50.0, on_cpu=True)) == "CPU power 50.0 W  J/token --  J/request --"
    alike = Spending(50.0, money_per_hour=2.0, money_per_mtok=3.5)
    assert line(alike) == "GPU power 50.0 W  J/token --  $/Mtok 3.50  J/request --  $/h 2.00"
    whole = made.powered().spending
    assert whole is not None
    assert line(whole).endswith("out 1.27  J/request 54.7  idle 71.0 W  $/h 4.40")


async def test_lumps_of_tokens_have_a_row_of_their_own() -> None:
    handle = made.FakeHandle(made.comb())
    app = RvtopApp(handle)
    async with opened(app, 200, 60) as pilot:
        row = text_of(app, CombPanel)
        assert row.startswith("▌comb  lumps of 6.9 tokens every 50.2 ms; 86 % of gaps are 0 │ 0 █")
        assert "--stream-batching-ms 0" in row
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert "lumps of 6.9" in screen_text(app)
        handle.now = replace(handle.now, seq=handle.now.seq + 1, comb=None)
        app.poll()
        await pilot.pause()
        await pilot.pause()
        assert "lumps" not in screen_text(app)


async def test_saturation_and_probes_have_a_row_each_while_there_is_something_to_say() -> None:
    handle = made.FakeHandle(made.saturated())
    app = RvtopApp(handle)
    async with opened(app, 200, 60) as pilot:
        row = text_of(app, SaturationPanel)
        assert row.startswith(
            "▌over saturation since 12 s: in flight +9.8/s ± 2.4 │ TTFT +212 ms/s ± 22; 50 rps"
        )
        assert "40.2 answered" in row
        row = text_of(app, ProbesPanel)
        assert row.startswith("▌probes TTFT p50 1 230  p99 2 400 ms │ 2 failed │ 1 of one token a second")
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert "over saturation since 12 s: in flight +9.8/s ± 2.4" in screen_text(app)
        handle.now = replace(handle.now, seq=handle.now.seq + 1, saturation=None, probes=None)
        app.poll()
        await pilot.pause()
        await pilot.pause()
        assert "saturation" not in screen_text(app)
        assert "probes" not in screen_text(app)
