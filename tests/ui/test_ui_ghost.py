"""The ghost: when there is one, what it shows where, and what changed since."""

from __future__ import annotations

from dataclasses import replace

import made
import pytest

from rvtop.contract.snapshot import Dist, Phase, Series, Snapshot
from rvtop.stats.histogram import Histogram
from rvtop.ui.axis import LogAxis
from rvtop.ui.dashes import put_dash
from rvtop.ui.draw import Cells
from rvtop.ui.ghost import Change, Ghost, GhostKeeper, censored, changes, completion
from rvtop.ui.histogram_cells import DOTS_BELOW, Layers, dot_columns, outline
from rvtop.ui.span import Span
from rvtop.ui.theme import DARK, Styles
from rvtop.ui.widgets.change import completed, signed

STYLES = Styles(DARK)


def on(topology: str, t: float, **more: object) -> Snapshot:
    s = made.live(t)
    return replace(s, target=replace(s.target, topology=topology), **more)  # type: ignore[arg-type]


def flat(end: int, value: float) -> Series:
    t_s = tuple(float(t) for t in range(end + 1))
    return Series(t_s=t_s, ttft_p50_ms=tuple(value for _ in t_s), tokens_per_s=tuple(value for _ in t_s))


def test_another_target_makes_the_last_one_under_load_the_ghost() -> None:
    keeper = GhostKeeper()
    last = on("rac", 80.0)
    for s in (on("rac", 70.0), last, on("rac", 81.0, state="paused")):
        keeper.observe(s)
        assert keeper.shown is None
    keeper.observe(on("rac", 82.0, latency=replace(last.latency, ttft_recent=Histogram().distribution())))
    keeper.observe(on("rvc", 90.0))
    assert keeper.shown is not None
    assert keeper.shown.snapshot is last
    assert keeper.shown.name(on("rvc", 90.0)) == "rac"
    assert keeper.shown.name(last) == "08:54:40"
    keeper.observe(on("rvc", 91.0))
    assert keeper.shown.snapshot is last  # until the next switch
    keeper.observe(on("rvc", 3.0))  # another session
    assert keeper.shown is None


def test_what_is_now_is_kept_if_there_is_anything_and_is_hidden_and_shown() -> None:
    keeper = GhostKeeper()
    assert not keeper.keep(made.watching())
    assert keeper.keep(made.live())
    keeper.hidden = True
    assert keeper.shown is None
    assert keeper.keep(made.live(93.0))
    assert keeper.shown is not None


def test_a_ghost_of_this_phase_is_its_level_after_its_end() -> None:
    phase = Phase("live", 0, 1, 60.0, None)
    ghost = Ghost(replace(made.live(60.0), t_s=60.0, phase=phase, series=flat(60, 50.0)))
    now = replace(made.live(90.0), t_s=90.0, phase=replace(phase, elapsed_s=90.0), series=flat(90, 9.0))
    values = ghost.values(now, Span.of(now.series.t_s, 60, 60), "ttft_p50_ms")
    assert values == [None] * 30 + [50.0] * 30  # before its end it is what the chart shows


def test_a_ghost_of_another_phase_begins_where_the_phase_does() -> None:
    t_s = tuple(float(t) for t in range(41))
    before = Series(t_s=t_s, ttft_p50_ms=tuple(10.0 + t for t in t_s))
    ghost = Ghost(replace(made.live(40.0), t_s=40.0, phase=Phase("hold", 0, 1, 30.0, 60.0), series=before))
    now = replace(made.live(99.0), t_s=99.0, phase=Phase("hold", 0, 1, 19.0, 60.0), series=flat(99, 9.0))
    values = ghost.values(now, Span.of(now.series.t_s, 60, 60), "ttft_p50_ms")
    # The phases began at 10 and at 80 s: what the ghost was at 0 … 29 s stands at 70 … 99 s.
    assert values == [None] * 30 + [10.0 + t for t in range(30)]
    later = replace(now, t_s=139.0, phase=Phase("hold", 0, 1, 59.0, 60.0), series=flat(139, 9.0))
    values = ghost.values(later, Span.of(later.series.t_s, 60, 60), "ttft_p50_ms")
    level = sum(10.0 + t for t in range(31, 41)) / 10
    assert values == [*(20.0 + t for t in range(31)), *[level] * 29]


def test_changes_are_shares_and_unknown_without_both_sides() -> None:
    now, before = made.live(), made.live()
    latency = replace(before.latency, ttft=replace(before.latency.ttft, p50=76.0), e2e=Dist())
    now = replace(now, latency=replace(now.latency, ttft=replace(now.latency.ttft, p50=38.0)))
    found = changes(now, replace(before, latency=latency))
    assert found[0] == Change("TTFT p50", -0.5)
    assert [change.name for change in found] == ["TTFT p50", "TTFT p99", "tokens/s", "ITL p50", "E2E p50"]
    assert found[-1].share is None
    chunks = replace(now, latency=replace(now.latency, itl_is_chunks=True))
    assert "ITL p50" not in [change.name for change in changes(chunks, before)]
    assert [signed(x) for x in (None, 0.001, 0.12, -0.4, 8.99, 9.999, 40.0)] == [
        "--", "0 %", "+12 %", "−40 %", "+899 %", "×11", "×41",
    ]  # fmt: skip


@pytest.mark.parametrize(("errors", "says"), [(0, False), (4, False), (12, True)])
def test_latencies_are_censored_where_many_more_fail(errors: int, says: bool) -> None:
    before = made.live(60.0)
    now = replace(before, load=replace(before.load, errors_recent=errors))
    assert before.load.errors_recent == 0
    assert completion(before) == 1.0
    assert censored(now, before) is says
    assert censored(before, now) is says
    assert completion(replace(now, load=replace(now.load, errors_recent=0), latency=made.Latency())) is None
    assert [completed(x) for x in (None, 1.0, 0.9999, 0.5)] == ["--", "100 %", "99.9 %", "50.0 %"]


def test_few_requests_are_dots_as_many_as_there_are() -> None:
    axis = LogAxis(10.0, 1000.0)
    few = Histogram.of([int(ms * 1e6) for ms in (20, 20, 45, 300, 5000)]).distribution()
    assert sum(dot_columns(few, axis, 40)) == 4  # one lies beyond the axis
    layers = Layers.of(few, few, None, axis, 40, 5)
    cells = layers.cells(1.0, 5, STYLES)
    assert sum(row.count("●") for row in cells.chars) == 4
    many = Histogram.of([20_000_000] * DOTS_BELOW).distribution()
    assert Layers.of(many, many, None, axis, 40, 5).dots is None
    tall = Histogram.of([20_000_000] * 6).distribution()
    assert Layers.of(tall, tall, None, axis, 40, 5).dots is None
    assert Layers.of(tall, tall, None, axis, 40, 6).dots is not None


def test_an_outline_is_closed_and_leaves_a_column_that_agrees_alone() -> None:
    cells = Cells(5, 4)
    outline(cells, [0, 4, 25, 8, 0], STYLES)
    assert ["".join(row) for row in cells.chars] == ["  ╌  ", "  ╎  ", "  ╎  ", " ╌ ╌ "]
    cells.set(0, 0, "▅", STYLES.client)
    cells.set(1, 0, "█", STYLES.client)
    for x in (0, 1, 2, 9):
        put_dash(cells, x, 0, STYLES)
    assert "".join(cells.chars[0]) == "▅╌╌  "
    assert cells.styles[0][1] is STYLES.ghost_on_client
