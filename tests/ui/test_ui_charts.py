"""The charts on the screen: marks, gaps, ghost, the second under the cursor, against the rate."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import made
import pytest
from driven import opened, screen_text, show, text_of, until
from test_ui_snapshots import Compare, drawn
from textual.pilot import Pilot

from rvtop.contract.command import SetRate
from rvtop.contract.requests import RequestRow, Requests
from rvtop.contract.snapshot import Dist, Event, Node, Series, Snapshot
from rvtop.stats.histogram import Histogram
from rvtop.ui.app import RvtopApp
from rvtop.ui.look import Look
from rvtop.ui.past import Past, moved, next_mark
from rvtop.ui.rate_span import RateSpan, standing
from rvtop.ui.theme import DARK, Styles
from rvtop.ui.widgets.change import ChangePanel
from rvtop.ui.widgets.engine_charts import EngineChartsPanel
from rvtop.ui.widgets.footer import Footer
from rvtop.ui.widgets.gpu_use import GpuUsePanel
from rvtop.ui.widgets.inflight import InFlightPanel
from rvtop.ui.widgets.latency import LatencyPanel
from rvtop.ui.widgets.latency_time import LatencyTimePanel
from rvtop.ui.widgets.load import LoadPanel
from rvtop.ui.widgets.served import ServedBesidePanel
from rvtop.ui.widgets.tokens import TokensPanel
from rvtop.ui.widgets.ttft import TtftPanel

CHARTS = (LatencyTimePanel, TokensPanel, InFlightPanel, GpuUsePanel)


def eventful(t: float = 180.0, topology: str = "rvc") -> Snapshot:
    """Two minutes with a phase, a mark, preempted requests, and 20 s of which nothing is known."""
    s = made.live(t)
    points = range(len(s.series.t_s))

    def gap(values: tuple[float | None, ...]) -> tuple[float | None, ...]:
        return tuple(None if 100 <= i < 120 else value for i, value in enumerate(values))

    names = (
        "ttft_p50_ms",
        "ttft_p99_ms",
        "tokens_per_s",
        "running",
        "waiting",
        "gpu_util_min",
        "gpu_util_max",
    )
    held = {name: gap(getattr(s.series, name)) for name in names}
    held["in_flight"] = gap(
        tuple((r or 0) + (w or 0) + 6.0 for r, w in zip(s.series.running, s.series.waiting, strict=True))
    )
    held["preemptions"] = tuple(0.0 if i < 150 else 2.0 for i in points)
    events = (
        Event(made.START + 70, "phase hold begins", kind="phase", t_s=70.2),
        Event(made.START + 130, "more users now", kind="mark", t_s=130.4),
    )
    target = replace(s.target, topology=topology)
    return replace(s, target=target, series=replace(s.series, **held), events=events)


def few(n: int) -> Snapshot:
    """The first requests of a session."""
    s = made.live(12.0)
    ns = made.lognormal_ns(38.0, 0.5, n)
    latency = replace(s.latency, ttft=made.dist(ns, ns), ttft_recent=Histogram.of(ns).distribution())
    return replace(s, latency=replace(latency, ttft_phase=latency.ttft_recent))


def app_of(s: Snapshot, **look: bool) -> RvtopApp:
    return RvtopApp(made.FakeHandle(s), look=Look(Styles(DARK), **look), clock=lambda: 0.0)


def pressing(*keys: str) -> Callable[[Pilot[int]], Awaitable[None]]:
    async def run(pilot: Pilot[int]) -> None:
        await drawn(pilot)
        for key in keys:
            await pilot.press(key)
            await pilot.pause()

    return run


async def after_a_switch(pilot: Pilot[int]) -> None:
    """The same load on two targets, the first one slower."""
    await drawn(pilot)
    handle = pilot.app.handle  # type: ignore[attr-defined]
    await show(pilot.app, pilot, handle, eventful(180.0))  # type: ignore[arg-type]


def slower(t: float = 150.0) -> Snapshot:
    s = eventful(t, "rac")
    recent = made.lognormal_ns(140.0, 0.3, 400)
    latency = replace(
        s.latency, ttft=made.dist(recent, recent), ttft_recent=Histogram.of(recent).distribution()
    )
    p50 = tuple(None if v is None else 4 * v for v in s.series.ttft_p50_ms)
    p99 = tuple(None if v is None else 3 * v for v in s.series.ttft_p99_ms)
    tokens = tuple(None if v is None else 0.6 * v for v in s.series.tokens_per_s)
    series = replace(s.series, ttft_p50_ms=p50, ttft_p99_ms=p99, tokens_per_s=tokens)
    return replace(s, latency=latency, series=series, phase=replace(s.phase, elapsed_s=70.0))  # type: ignore[type-var]


# -- pictures ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "size"),
    [("eventful", (120, 44)), ("eventful", (80, 24)), ("dots", (80, 24)), ("fifty", (120, 40))],
)
def test_charts(snap_compare: Compare, name: str, size: tuple[int, int]) -> None:
    s = {"eventful": eventful, "dots": lambda: few(12), "fifty": lambda: few(50)}[name]()
    assert snap_compare(app_of(s), terminal_size=size, run_before=drawn)


@pytest.mark.parametrize(("size", "ascii"), [((120, 44), True), ((200, 60), False)])
def test_ghost(snap_compare: Compare, size: tuple[int, int], ascii: bool) -> None:
    assert snap_compare(app_of(slower(), ascii=ascii), terminal_size=size, run_before=after_a_switch)


def test_charts_against_the_rate(snap_compare: Compare) -> None:
    assert snap_compare(app_of(made.live(180.0)), terminal_size=(120, 44), run_before=pressing("x"))


def test_frozen(snap_compare: Compare) -> None:
    async def back(pilot: Pilot[int]) -> None:
        await drawn(pilot)
        for t in (177.0, 178.0, 179.0, 180.0):
            await show(pilot.app, pilot, pilot.app.handle, eventful(t))  # type: ignore[attr-defined, arg-type]
        await pressing("left", "left", "left")(pilot)

    assert snap_compare(app_of(eventful(176.0)), terminal_size=(100, 50), run_before=back)


# -- time cursor ------------------------------------------------------------------------------


def column_of(app: RvtopApp, panel: type, sign: str) -> set[int]:
    """The columns in which a chart has ``sign``, from its own edge on."""
    return {line.index(sign) for line in text_of(app, panel).splitlines() if sign in line}


async def test_the_cursor_stands_in_one_column_of_all_charts_and_figures_are_those_of_its_second() -> None:
    handle = made.FakeHandle()
    app = RvtopApp(handle, clock=lambda: 0.0)
    handle.now = replace(made.live(80.0), seq=1)
    async with opened(app, 120, 60) as pilot:
        for t in range(81, 93):
            s = made.live(float(t))
            await show(
                app,
                pilot,
                handle,
                replace(s, load=replace(s.load, ok=7000 + t), tokens=replace(s.tokens, per_s=100.0 + t)),
            )
        assert "7 092" in text_of(app, LoadPanel)
        await pilot.press("left")
        await pilot.pause()
        assert "‖ FROZEN" in text_of(app, Footer)
        assert "7 091" in text_of(app, LoadPanel)
        await pilot.press("left", "left")
        await pilot.pause()
        assert "7 089" in text_of(app, LoadPanel)
        assert "~189 now" in text_of(app, TokensPanel)
        found = {panel: column_of(app, panel, "┃") for panel in CHARTS}
        assert all(len(columns) == 1 for columns in found.values())
        assert len(set(map(frozenset, found.values()))) == 1
        for panel in CHARTS:
            assert text_of(app, panel).count("┃") == app.screen.query_one(panel).size.height - 1
        await show(app, pilot, handle, replace(made.live(95.0), load=replace(s.load, ok=9999)))
        assert "9 999" not in screen_text(app)
        assert found == {panel: column_of(app, panel, "┃") for panel in CHARTS}
        await pilot.press("shift+right")
        await pilot.pause()
        assert "7 092" in text_of(app, LoadPanel)  # where it was frozen
        await pilot.press("shift+left", "shift+left")  # before the first snapshot that came
        await pilot.pause()
        assert "only what the charts show" in text_of(app, Footer)
        await pilot.press("f")
        await pilot.pause()
        assert "9 999" in text_of(app, LoadPanel)
        assert "┃" not in text_of(app, TokensPanel)


async def test_a_picture_that_stands_keeps_the_rate_of_its_second() -> None:
    handle = made.FakeHandle()
    app = RvtopApp(handle, clock=lambda: 0.0)
    handle.now = at_rate(80.0, 5.0)
    async with opened(app, 120, 60) as pilot:
        for t, rps in ((81.0, 6.0), (82.0, 7.0), (83.0, 8.0), (84.0, 8.0)):
            await show(app, pilot, handle, at_rate(t, rps))
        load = app.screen.query_one(LoadPanel)

        def stands(rps: float) -> bool:
            load.repaint()  # as a resize or a new theme does
            return load.target == rps and load.taken and f"▲ {rps:g}" in text_of(app, LoadPanel)

        await until(pilot, lambda: stands(8.0))
        means = load.means
        await pilot.press("f", "up")
        await until(pilot, lambda: handle.sent == [SetRate(9.0)])
        assert "9.0 rps asked for; the picture stands" in text_of(app, Footer)
        await show(app, pilot, handle, at_rate(90.0, 9.0))
        assert stands(8.0)
        assert load.means == means
        await pilot.press("shift+left", "right", "right")
        await until(pilot, lambda: app.live is not None and app.live.view.cursor_s == 76.0)
        await pilot.press(*["right"] * 5)
        await until(pilot, lambda: stands(6.0))
        assert load.means is None, "that second's own figures"
        await pilot.press("f")
        await until(pilot, lambda: stands(9.0))


def at_rate(t: float, rps: float) -> Snapshot:
    s = made.live(t)
    return replace(s, load=replace(s.load, target_rps=rps, due=int(100 * t)))


async def test_another_slo_and_other_nodes_are_drawn_at_once() -> None:
    s = made.live()
    handle = made.FakeHandle(s)
    app = RvtopApp(handle, clock=lambda: 0.0)
    async with opened(app, 120, 60) as pilot:
        assert "SLO" in text_of(app, LatencyTimePanel)
        await show(app, pilot, handle, replace(s, slo_ttft_ms=None))
        assert "SLO" not in text_of(app, LatencyTimePanel)
        use = text_of(app, GpuUsePanel).splitlines()[1:]
        node = Node("n1", cpu=0.1)
        await show(app, pilot, handle, replace(s, gpus=(), nodes=(node,), slo_ttft_ms=None))
        panel = app.screen.query_one(GpuUsePanel)
        assert panel.wants(handle.now or s)
        assert text_of(app, GpuUsePanel).splitlines()[1:] != use


async def test_marks_stand_in_one_column_of_all_charts_and_the_cursor_goes_to_them() -> None:
    app = RvtopApp(made.FakeHandle(eventful()), clock=lambda: 0.0)
    async with opened(app, 120, 60) as pilot:
        for sign in "◆▼":
            assert len({frozenset(column_of(app, panel, sign)) for panel in CHARTS}) == 1
        assert "phase hold begins" in text_of(app, LatencyTimePanel)
        seconds = []
        for _ in range(4):
            await pilot.press("apostrophe")
            seconds.append(app.live.view.cursor_s)  # type: ignore[union-attr]
        assert seconds == [70.0, 130.0, 150.0, 70.0]


def test_the_past_keeps_ten_minutes_of_seconds_and_starts_anew_with_another_session() -> None:
    past = Past()
    s = made.live(20.0)
    for tenth in range(7000):
        past.observe(replace(s, t_s=tenth / 10, seq=tenth))
    held = replace(s, t_s=699.9)
    assert len(past._kept) == 600
    assert all(kept.series == Series() and not kept.events for kept in past._kept)
    second = past.at(500.0, held)
    assert second is not None
    assert (second.t_s, second.seq, second.series) == (500.9, 5009, held.series)
    assert past.at(699.0, held) is held
    assert past.at(98.0, held) is None
    past.observe(replace(s, t_s=0.5))
    assert not past._kept


def test_the_past_lists_the_requests_of_its_second_each_kept_once() -> None:
    """As rows come from another process: equal ones, and each time made anew."""
    past, s = Past(), made.live(20.0)
    rows = [RequestRow(number, 0.0, "p", "q", number, ttft_ms=100.0 + number) for number in range(12)]
    failed = RequestRow(99, 0.0, "p", "q", 99, error="reset")
    for t in range(10):
        listed = Requests(tuple(replace(row) for row in rows[t : t + 3]), (replace(failed),))
        past.observe(replace(s, t_s=float(t), requests=listed))
    held = replace(s, t_s=9.0)
    shown = [past.at(float(t), held) for t in range(9)]
    lists = [second.requests.slowest for second in shown if second is not None]
    assert [[row.id for row in listed] for listed in lists] == [[t, t + 1, t + 2] for t in range(9)]
    assert len({id(row) for listed in lists for row in listed}) == 11
    assert len({id(row) for second in shown if second is not None for row in second.requests.errors}) == 1


def test_the_cursor_stays_in_the_window() -> None:
    held = eventful()
    assert [moved(held, None, by, 120) for by in (0, -1, -10, -500, 5)] == [180.0, 179.0, 170.0, 61.0, 180.0]
    assert moved(held, 100.0, 10, 120) == 110.0
    assert next_mark(held, 130.0, 120) == 150.0
    assert next_mark(held, None, 60) == 130.0
    assert next_mark(replace(held, events=(), series=made.live().series), None, 120) is None


# -- ghost ------------------------------------------------------------------------------------


async def test_a_switch_keeps_the_one_before_and_b_hides_it() -> None:
    handle = made.FakeHandle(slower())
    app = RvtopApp(handle, clock=lambda: 0.0)
    async with opened(app, 120, 60) as pilot:
        assert "vs rac" not in screen_text(app)
        await show(app, pilot, handle, eventful(180.0))
        change = text_of(app, ChangePanel)
        assert "vs rac ╌" in change
        assert "TTFT p50 −" in change
        assert "done 99.6 %" in change
        assert "rac ╌" in text_of(app, TtftPanel).splitlines()[0]
        for panel in (TtftPanel, LatencyTimePanel, TokensPanel):
            assert text_of(app, panel).count("╌") > 10
        await pilot.press("b")
        await pilot.pause()
        assert "╌" not in screen_text(app)
        await pilot.press("b")
        await pilot.pause()
        assert "vs rac ╌" in text_of(app, ChangePanel)
        failing = eventful(181.0)
        await show(app, pilot, handle, replace(failing, load=replace(failing.load, errors_recent=100)))
        assert "CENSORED 82.8 %, was 99.6 %" in text_of(app, ChangePanel)


async def test_the_present_is_kept_and_nothing_without_requests() -> None:
    handle = made.FakeHandle(made.watching())
    app = RvtopApp(handle, clock=lambda: 0.0)
    async with opened(app) as pilot:
        await pilot.press("b")
        assert "no ghost yet" in text_of(app, Footer)
        await pilot.press("B")
        assert "nothing to keep" in text_of(app, Footer)
        await show(app, pilot, handle, made.live())
        await pilot.press("B")
        await pilot.pause()
        assert "vs 08:54:52 ╌" in text_of(app, ChangePanel)
        assert "TTFT p50 0 %" in text_of(app, ChangePanel)


# -- against the rate -------------------------------------------------------------------------


def test_a_second_counts_for_a_rate_that_has_stood() -> None:
    t_s = tuple(float(t) for t in range(40))
    rates = tuple(10.0 if t < 20 else 80.0 for t in t_s)
    series = Series(t_s=t_s, target_rps=rates, ttft_p50_ms=tuple(5.0 if t < 20 else 50.0 for t in t_s))
    assert standing(series) == [None] * 9 + [10.0] * 11 + [None] * 9 + [80.0] * 11
    span = RateSpan.of(series, 60)
    assert span is not None
    means = span.means(series.t_s, series.ttft_p50_ms)
    assert [means[span.column(rps)] for rps in (10.0, 30.0, 80.0)] == [5.0, None, 50.0]
    assert span.labels().split() == ["10", "20", "50", "rps"]
    assert len(span.labels()) == 60
    assert RateSpan.of(Series(t_s=t_s, target_rps=(None,) * 40), 60) is None


async def test_x_turns_the_charts_against_the_rate_where_there_is_one() -> None:
    handle = made.FakeHandle(made.live(180.0))
    app = RvtopApp(handle, clock=lambda: 0.0)
    async with opened(app, 120, 60) as pilot:
        await pilot.press("x")
        await pilot.pause()
        for panel in CHARTS:
            assert text_of(app, panel).splitlines()[-1].rstrip().endswith("rps")
        assert "by rate" in text_of(app, LatencyTimePanel)
        await pilot.press("x")
        await pilot.pause()
        assert "rps" not in text_of(app, TokensPanel)
        await show(app, pilot, handle, made.watching(200.0))
        await pilot.press("x")
        assert "no rate has stood" in text_of(app, Footer)


# -- what is not there ------------------------------------------------------------------------


async def test_what_nobody_tells_is_dashes_and_not_drawn() -> None:
    s = made.live()
    silent = replace(s, figures={}, engines=(), gpus=(), latency=replace(s.latency, ttft=Dist()))
    silent = replace(
        silent, series=replace(s.series, running=(), waiting=(), ttft_p50_ms=(None,) * len(s.series.t_s))
    )
    app = RvtopApp(made.FakeHandle(silent))
    async with opened(app, 120, 60):
        assert "▓" not in text_of(app, InFlightPanel)
        assert "p50 █    --" in text_of(app, LatencyTimePanel)
        assert "--" in text_of(app, LatencyPanel)
        assert app.screen.query_one(GpuUsePanel).region.height == 0


async def test_without_gpus_the_machines_cores_are_shown() -> None:
    s = made.cluster()
    series = replace(s.series, node_cpu_min=(0.31,) * 93, node_cpu_max=(0.38,) * 93)
    app = RvtopApp(made.FakeHandle(replace(s, gpus=(), series=series)))
    async with opened(app, 120, 60):
        assert "CPU use" in text_of(app, GpuUsePanel)
        assert "31…38 %" in text_of(app, GpuUsePanel)


async def test_where_the_server_tells_little_the_rate_stands_beside_the_latency() -> None:
    s = replace(made.live(), gpus=(), nodes=())
    handle = made.FakeHandle(s)
    app = RvtopApp(handle, clock=lambda: 0.0)
    async with opened(app, 120, 40) as pilot:
        panel = app.screen.query_one(ServedBesidePanel)
        assert panel.region.y == app.screen.query_one(LatencyTimePanel).region.y
        assert "requests/s" in text_of(app, ServedBesidePanel)
        await show(app, pilot, handle, made.live())
        await until(pilot, lambda: not panel.region.area)
        assert app.screen.query_one(GpuUsePanel).region.area


async def test_each_engine_has_charts_of_its_cache_and_its_ttft_where_there_are_four_columns() -> None:
    handle = made.FakeHandle(made.live(60.0))
    app = RvtopApp(handle, clock=lambda: 0.0)
    async with opened(app, 300, 100) as pilot:
        for t in range(61, 93):
            await show(app, pilot, handle, made.live(float(t)))
        panel = app.screen.query_one(EngineChartsPanel)
        last = made.live(92.0)
        lines = panel.plain_text()
        for engine in last.engines:
            line = next(line for line in lines if line.strip().startswith(engine.name))
            assert line.endswith(f"{engine.ttft_ms:.1f}")
            charts = [sum(char in "▁▂▃▄▅▆▇█" for char in half) for half in (line[14:32], line[34:52])]
            assert charts == [6, 6], "33 s, 7 s a column"
        stale = replace(last.engines[0], stale_s=5.0, ttft_ms=None)
        await show(app, pilot, handle, replace(made.live(93.0), engines=(stale, *last.engines[1:])))
        line = next(line for line in panel.plain_text() if line.strip().startswith("e0"))
        assert line.endswith("--")
