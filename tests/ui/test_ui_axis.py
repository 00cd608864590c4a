from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvtop.contract.snapshot import ServerHist
from rvtop.stats.distribution import Distribution
from rvtop.stats.histogram import Histogram
from rvtop.ui.axis import LogAxis, StickyMax, bins, history
from rvtop.ui.bands import bands
from rvtop.ui.columns import client_columns, server_columns, shares
from rvtop.ui.draw import Cells, Line, area, bar, eighths, large, over, spread
from rvtop.ui.theme import DARK, Styles

STYLES = Styles(DARK)
latencies_ms = st.lists(st.floats(min_value=0.1, max_value=5e4), min_size=1, max_size=60)


@given(latencies_ms, st.integers(min_value=20, max_value=150))
def test_columns_keep_the_count_of_what_lies_on_the_axis(values: list[float], width: int) -> None:
    axis = LogAxis()
    h = Histogram.of([int(v * 1e6) for v in values]).distribution()
    axis.include(h.min_ns / 1e6, h.max_ns / 1e6)
    columns = client_columns(h, axis, width)
    assert len(columns) == width
    assert sum(columns) == pytest.approx(len(values), rel=1e-6)
    assert sum(shares(columns)) == pytest.approx(1.0)


def test_a_column_holds_what_lies_in_it() -> None:
    axis = LogAxis(10.0, 1000.0)
    columns = client_columns(Histogram.of([int(100e6)] * 7).distribution(), axis, 40)
    assert sum(columns[19:21]) == pytest.approx(7)  # 100 ms is the middle of 10 ms … 1 s
    assert client_columns(Distribution(), axis, 40) == [0.0] * 40
    assert client_columns(Histogram.of([int(5e9)]).distribution(), axis, 40) == [0.0] * 40


def test_server_buckets_keep_their_sum_and_their_edges() -> None:
    axis = LogAxis(1.0, 1000.0)
    server = ServerHist((10.0, 100.0, math.inf), (4.0, 30.0, 6.0))
    columns = server_columns(server, axis, 60)
    assert sum(columns) == pytest.approx(40)
    assert sum(columns[20:40]) == pytest.approx(30)  # 10 … 100 ms is the middle third
    assert columns[0:10] == [0.0] * 10  # below 5 ms: nobody knows, nothing drawn
    assert sum(columns[40:]) == pytest.approx(6)


def test_the_axis_stays_while_the_data_move_on_it() -> None:
    axis = LogAxis()
    assert not axis.include(22.0, 90.0)  # the first placing moves nothing that was drawn
    placed = (axis.low, axis.high)
    assert placed[0] <= 22.0
    assert placed[1] >= 90.0
    for t in range(100):
        assert not axis.include(20.0 + t / 2, min(placed[1], 100.0 + 8 * t), float(t))
    assert (axis.low, axis.high) == placed


def test_the_axis_moves_when_data_leave_it_and_says_so_once() -> None:
    axis = LogAxis()
    axis.include(22.0, 90.0)
    low, high = axis.low, axis.high
    assert axis.include(22.0, high * 1.1)
    assert axis.high > high * 1.1
    assert axis.low == low
    assert not axis.include(22.0, high * 1.1)
    assert axis.include(low / 3, high)
    assert axis.low <= low / 3


def test_one_slow_first_request_does_not_squeeze_the_rest() -> None:
    axis = LogAxis()
    axis.include(3000.0, 3000.0, 0.0)
    axis.include(25.0, 3000.0, 1.0)
    wide = (axis.low, axis.high)
    assert not axis.include(25.0, 90.0, 2.0)  # not at once
    assert (axis.low, axis.high) == wide
    assert axis.include(25.0, 90.0, 2.0 + LogAxis.LOOSE_S)
    assert axis.high / axis.low < wide[1] / wide[0]
    assert axis.low <= 25.0 < 90.0 <= axis.high


def test_a_new_phase_may_place_the_axis_afresh() -> None:
    axis = LogAxis()
    axis.include(200.0, 20_000.0)
    axis.refit()
    assert axis.include(20.0, 60.0)
    assert axis.high < 20_000.0


@given(st.floats(min_value=0.01, max_value=1e4), st.floats(min_value=1, max_value=1e3), st.integers(20, 160))
def test_ticks_do_not_touch_and_stay_on_the_axis(low: float, factor: float, width: int) -> None:
    axis = LogAxis()
    axis.include(low, low * factor)
    ticks = axis.ticks(width)
    assert len(ticks) >= 2
    end = -2
    for column, label in ticks:
        assert column >= end + 2
        end = column + len(label)
        assert end <= width
    edges = axis.edges(width)
    assert edges == sorted(edges)
    assert axis.column(axis.low, width) == 0
    assert axis.column(axis.high * 1.001, width) >= width


def test_a_top_grows_at_once_and_shrinks_late() -> None:
    top = StickyMax(least=10.0)
    assert top.follow(3) == 10.0
    assert top.follow(48) == 50.0
    assert top.follow(51) == 60.0
    assert top.follow(30) == 60.0
    assert top.follow(23) == 25.0
    assert top.follow(0) == 10.0


def test_bins_move_left_without_changing() -> None:
    t = [float(i) for i in range(400)]
    values: list[float | None] = [math.sin(i) + 2 for i in range(400)]
    before = bins(t[:300], values[:300], 2, 60)
    after = bins(t[:302], values[:302], 2, 60)
    assert before[1:] == after[:-1]
    assert before[-1] == pytest.approx((values[298] + values[299]) / 2)  # type: ignore[operator]


def test_a_gap_in_the_history_is_a_gap_in_the_chart() -> None:
    made = bins([0.0, 1.0, 2.0, 3.0], [1.0, None, None, 4.0], 1, 4)
    assert made == [1.0, None, None, 4.0]
    assert bins([], [], 1, 3) == [None, None, None]
    assert bins([0.0], [1.0], 1, 0) == []


@pytest.mark.parametrize("columns", [1, 38, 59, 60, 61, 101, 119, 120, 121, 200])
def test_charts_of_any_width_show_the_same_two_minutes(columns: int) -> None:
    t = [float(i) for i in range(600)]
    shown = history(t, t, columns)
    assert len(shown) == columns
    assert shown == sorted(shown, key=lambda v: v or 0.0)
    assert 480 <= (shown[0] or 0) <= 480 + 120 / columns + 2
    assert history([], [], columns) == [None] * columns
    assert history(t, t, 0) == []


def test_heights_bars_and_areas() -> None:
    assert eighths([None, 0.0, 0.001, 0.5, 1.0, 9.0], 1.0, 2) == [0, 0, 1, 8, 16, 16]
    assert bar(None, 4) == ("", "····")
    assert bar(0.0, 4) == ("", "····")
    assert bar(0.01, 4) == ("■", "···")
    assert bar(0.5, 4) == ("■■", "··")
    assert bar(1.7, 4) == ("■■■■", "")
    assert [line.text for line in area([0, 3, 8, 12, 16], 2, STYLES.client)] == ["   ▄█", " ▃███"]


def test_two_layers_of_a_hill() -> None:
    cells = bands(
        [0, 4, 16, 2],
        [5, 16, 8, 3],
        2,
        style=STYLES.client,
        on_tail=STYLES.client_on_shade,
        low=STYLES.client_shade,
    )
    assert ["".join(row) for row in cells.chars] == [" ▒█ ", "▒▄█▂"]
    assert cells.styles[1] == [STYLES.client, STYLES.client_on_shade, STYLES.client, STYLES.client]
    lonely = bands([0], [3], 2, style=STYLES.client, low=STYLES.client_shade)
    assert (lonely.chars, lonely.styles[1]) == ([[" "], ["▃"]], [STYLES.client_shade])


def test_a_line_over_an_area_shows_where_the_two_differ() -> None:
    cells = Cells(4, 3)
    heights = [8, 20, 24, 0]
    for y, line in enumerate(area(heights, 3, STYLES.client)):
        cells.write(0, y, line.text, STYLES.client)
    over(cells, heights, [20, 21, 4, 0], STYLES.command, STYLES.command_on_client)
    assert cells.chars[0][0] == "─"  # far above the area
    assert cells.chars[0][1] == "▄"  # a match: the area keeps its exact top
    assert (cells.chars[2][2], cells.styles[2][2]) == ("─", STYLES.command_on_client)  # inside it
    assert [row[3] for row in cells.chars] == [" ", " ", " "]  # no line


def test_large_figures_take_three_rows_of_one_width() -> None:
    rows = large("48.0")
    assert len({len(row) for row in rows}) == 1
    assert rows[0] == "█ █ █▀█   █▀█"
    assert large(" 7")[0].endswith("▀▀█")


def test_lines_are_laid_out_from_edge_to_edge() -> None:
    line = spread([Line("ab"), Line("cd"), Line("ef")], 12)
    assert line.text == "ab   cd   ef"
    assert spread([], 5).text == ""
    strip = Line("한글", STYLES.base).strip(6, STYLES.base)
    assert strip.cell_length == 6
    assert Line("too long", STYLES.base).strip(3, STYLES.base).text == "too"
