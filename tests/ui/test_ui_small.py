"""Small terminals, silent servers and long messages: what matters is on the screen, and nothing breaks."""

from __future__ import annotations

from dataclasses import replace

import made
import pytest
from driven import opened, screen_text, text_of

from rvtop.cli.options import no_screen
from rvtop.contract.snapshot import ServeDeployment
from rvtop.ui.app import RvtopApp
from rvtop.ui.draw import Line, fitting
from rvtop.ui.format import first_that_fits
from rvtop.ui.widgets.banner import Banner
from rvtop.ui.widgets.deployments import DeploymentsPanel, columns
from rvtop.ui.widgets.engines import EnginesPanel
from rvtop.ui.widgets.gpu import GpuPanel
from rvtop.ui.widgets.header import Header
from rvtop.ui.widgets.inflight import InFlightPanel
from rvtop.ui.widgets.nodes import NodesPanel
from rvtop.ui.widgets.ttft import TtftPanel


def test_what_fits_has_always_a_last_resort() -> None:
    ways = ("phase p99", "ph.p99", "phase")
    assert [first_that_fits(ways, width) for width in (9, 8, 5, 4, 1, 0, -3)] == [
        "phase p99", "ph.p99", "phase", "pha…", "…", "", "",
    ]  # fmt: skip


def test_parts_of_the_highest_rank_are_left_out_first() -> None:
    parts = ((1, Line("TARGET ")), (0, Line("48 rps")), (2, Line(" served")))
    assert [fitting(parts, width).text for width in (20, 19, 13, 12, 3, 0)] == [
        "TARGET 48 rps served", "TARGET 48 rps", "TARGET 48 rps", "48 rps", "48 ", "",
    ]  # fmt: skip
    assert fitting((), 10).text == ""


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((10, 1), ["● running"]),
        ((45, 1), ["● running", "48.0 rps", "TTFT 38.0 ms"]),
        ((20, 5), ["● running", "48.0 rps", "TTFT", "38.0", "q quit"]),
        ((40, 12), ["● running", "48.0 rps", "served", "TTFT", "p99", "tokens/s", "KV cache", "GPU mem"]),
        (
            (55, 20),
            ["● running", "48.0 rps", "served", "errors   12", "ITL", "E2E", "q quit"],
        ),
        ((120, 12), ["● running", "48.0 rps", "TTFT", "ITL", "KV", "GPU mem", "q quit"]),
    ],
    ids=lambda value: f"{value[0]}x{value[1]}" if isinstance(value, tuple) else "",
)
async def test_a_small_screen_says_what_matters(size: tuple[int, int], words: list[str]) -> None:
    app = RvtopApp(made.FakeHandle(made.live()))
    async with opened(app, *size):
        shown = screen_text(app)
        assert [word for word in words if word not in shown] == []


async def test_a_server_that_does_not_answer_is_said_wherever_there_is_room() -> None:
    silent = replace(made.live(), target_down_s=4.3)
    silent = replace(silent, engines=tuple(replace(e, stale_s=4.3) for e in silent.engines))
    app = RvtopApp(made.FakeHandle(silent))
    async with opened(app) as pilot:
        assert "✗ NOT ANSWERING 4 s" in text_of(app, Header)
        assert "running" not in text_of(app, Header)
        assert "STALE 4 s" in text_of(app, TtftPanel)
        assert "STALE 4 s" in text_of(app, EnginesPanel)
        for width, words in ((40, "✗ NOT ANSWERING 4 s"), (13, "✗ no answer"), (3, "✗")):
            await pilot.resize_terminal(width, 10)
            await pilot.pause()
            assert words in text_of(app, Header)


async def test_fragmentation_is_a_column_where_engines_tell_it_and_idle_gpus_show() -> None:
    s = made.live()
    figures = {"running": 3.0, "waiting": 0.0, "fragmentation": 0.3}
    engines = tuple(
        replace(e, kv_usage=None, kv_bytes=310.0 * (1 << 20), figures={"fragmentation": 0.1 * i})
        for i, e in enumerate(s.engines)
    )
    handle = made.FakeHandle(replace(s, engines=engines, figures=figures))
    app = RvtopApp(handle)
    async with opened(app, 150, 50) as pilot:
        await pilot.pause()
        rows = text_of(app, EnginesPanel)
        assert "KV   310 MiB  pre   0  frag  0 %" in rows
        assert "frag 20 %" in rows
        assert "frag 30 %" in rows.splitlines()[4]  # of all together, below
        assert "use   idle" in text_of(app, GpuPanel)
        assert "79 %   12 %" in text_of(app, GpuPanel)
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert "frag 30 %" in text_of(app, EnginesPanel)
        unknown = tuple(replace(gpu, idle_share=None) for gpu in s.gpus)
        handle.now = replace(s, gpus=unknown, seq=10**6)
        app.poll()
        await pilot.pause()
        assert "idle" not in text_of(app, GpuPanel)
        assert "frag" not in text_of(app, EnginesPanel)


async def test_panels_of_a_cluster_are_drawn_where_there_is_one() -> None:
    handle = made.FakeHandle(made.live())
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        panels = [app.screen.query_one(kind) for kind in (DeploymentsPanel, NodesPanel)]
        assert [panel.region.height for panel in panels] == [0, 0]
        handle.now = replace(made.cluster(), seq=10**6)
        app.poll()
        await pilot.pause()
        await pilot.resize_terminal(200, 60)
        await pilot.pause()
        assert "batch █  66  wait ▓   6  outside ░   0" in text_of(app, InFlightPanel)
        shown = text_of(app, DeploymentsPanel)
        assert "●●     2/2       45      0   56.1" in shown
        assert "●●●○     3/4       43      7     --" in shown
        nodes = text_of(app, NodesPanel)
        assert "38 %     96/512 GiB" in nodes
        assert "80/-- GiB" in nodes
        assert "nodes · 2  http://10.0.0.7:8265" in nodes
        assert "starts" in shown
        assert "●●●○     3/4       43      7     --       5" in shown
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert "LLMServer:q3b 3/4  ongoing 43  queue 7" in text_of(app, DeploymentsPanel)
        assert "n1 cpu  38 %  n2 cpu  31 %" in text_of(app, NodesPanel)
        gone = replace(made.cluster(), seq=10**6 + 1, nodes=made.cluster().nodes[:1], deployments=())
        handle.now = gone  # one machine with GPUs: their panel says it all
        app.poll()
        await pilot.pause()
        await pilot.pause()
        assert [panel.region.height for panel in panels] == [0, 0]


@pytest.mark.parametrize("words", [3, 900])
async def test_an_outcome_message_of_any_length_wraps_and_breaks_nothing(words: int) -> None:
    message = "worker " * words + "x" * 500
    app = RvtopApp(made.FakeHandle(replace(made.lost(), message=message.strip())))
    async with opened(app, 20, 24) as pilot:
        for width, height in ((20, 24), (20, 6), (20, 2), (6, 12), (1, 1), (80, 24)):
            await pilot.resize_terminal(width, height)
            await pilot.pause()
            assert app.is_running
        assert "worker worker" in text_of(app, Banner)
        assert "…" in text_of(app, Banner)
        assert "results" in text_of(app, Banner)


@pytest.mark.parametrize(
    ("term", "why"),
    [("dumb", "TERM=dumb"), ("", "TERM is not set"), (None, "TERM is not set"), ("xterm", "")],
)
def test_a_terminal_that_can_not_be_drawn_on_gets_plain_lines(
    monkeypatch: pytest.MonkeyPatch, term: str | None, why: str
) -> None:
    for stream in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(f"sys.{stream}.isatty", lambda: True, raising=False)
    if term is None:
        monkeypatch.delenv("TERM", raising=False)
    else:
        monkeypatch.setenv("TERM", term)
    assert no_screen().startswith(why)
    assert bool(no_screen()) == bool(why)


async def test_gpus_that_tell_of_no_memory_at_all_show_dashes() -> None:
    s = made.live()
    empty = tuple(replace(gpu, memory_used=0.0, memory_total=0.0) for gpu in s.gpus)
    app = RvtopApp(made.FakeHandle(replace(s, gpus=empty)))
    async with opened(app, 80, 24):
        assert "--" in text_of(app, GpuPanel)


@pytest.mark.parametrize("width", [100, 120, 160, 200])
async def test_a_single_engine_says_each_figure_once(width: int) -> None:
    s = made.live()
    engines = made.engines(s.t_s, 1)
    app = RvtopApp(made.FakeHandle(replace(s, engines=engines, figures=made.together(engines))))
    async with opened(app, width, 50):
        assert text_of(app, EnginesPanel).count("pre ") == 1


async def test_while_only_watching_an_idle_server_the_panel_says_how_to_begin() -> None:
    s = made.watching()
    hist = s.latency.server_ttft
    assert hist is not None
    idle = replace(hist, counts=(0.0,) * len(hist.counts), p50=None, p90=None, p99=None, mean=None)
    app = RvtopApp(made.FakeHandle(replace(s, latency=replace(s.latency, server_ttft=idle))))
    async with opened(app):
        assert "Watching: no load of ours yet." in text_of(app, TtftPanel)


def test_serve_s_batches_and_starts_have_columns_where_there_is_room() -> None:
    plain = made.cluster().deployments
    batching = (*plain, ServeDeployment("rag/Embedder", 1.0, 1.0, 9.0, 2.0, 31.0, 1.0, 6.5, 9.8))
    assert [column.head for column in columns(plain, 56)] == []
    assert [column.head for column in columns(plain, 57)] == ["starts"]
    assert [column.head for column in columns(batching, 65)] == ["batch", "fill ms"]
    assert [column.head for column in columns(batching, 73)] == ["batch", "fill ms", "starts"]
    told = {column.head: column.text(column.of(batching[2])) for column in columns(batching, 73)}
    assert told == {"batch": "6.50", "fill ms": "9.80", "starts": "1"}
