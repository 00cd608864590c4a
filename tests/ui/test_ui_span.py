"""The time that charts share, and the shapes that they draw."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.style import Style

from rvtop.contract.snapshot import Event, Series
from rvtop.ui.bands import bands, differing, log_eighths, stack
from rvtop.ui.span import WINDOWS_S, Span, point_at, preempted, signs, window_of
from rvtop.ui.widgets.inflight import outside
from rvtop.ui.widgets.latency_time import log_ends

PLAIN = Style()
ends_s = st.integers(0, 4_000_000).map(lambda ms: ms / 1000)
figures = st.one_of(st.none(), st.floats(0, 1e7, allow_nan=False))


def drawn(cells: object) -> list[str]:
    return [line.text for line in cells.lines()]  # type: ignore[attr-defined]


@given(ends_s, st.integers(1, 300), st.sampled_from(WINDOWS_S), st.integers(-700_000, 10_000))
def test_every_second_of_the_window_has_its_column_and_no_other(
    end_s: float, columns: int, window_s: int, back_ms: int
) -> None:
    span = Span.of([end_s], columns, window_s)
    t_s = round(end_s + back_ms / 1000, 3)
    x = span.column(t_s)
    begin = span.first * span.length_s
    assert (x is not None) == (begin <= t_s < (span.last + 1) * span.length_s)
    if x is not None:
        assert 0 <= x < columns
        assert span.begin_s(x) <= t_s + 1e-6 < span.begin_s(x) + span.length_s + 1e-6
    assert span.column(end_s) is not None


def test_two_charts_of_as_many_columns_show_a_second_in_the_same_one() -> None:
    t_s = tuple(float(i) for i in range(300))
    series = [tuple(1.0 if t == at else 0.0 for t in t_s) for at in (180.0, 240.0, 299.0)]
    span = Span.of(t_s, 52, 120)
    for at, values in zip((180.0, 240.0, 299.0), series, strict=True):
        means = span.means(t_s, values)
        x = span.column(at)
        if at == 180.0:
            assert x == 0
        assert x is not None
        assert means[x]
        assert sum(1 for mean in means if mean) in (1, 2)  # a bin takes one cell or two


def test_a_gap_stays_a_gap_and_what_an_older_session_does_not_tell_is_one() -> None:
    t_s = tuple(float(i) for i in range(120))
    values = tuple(None if 60 <= i < 90 else 1.0 for i in range(120))
    means = Span.of(t_s, 60, 120).means(t_s, values)
    assert means == [1.0] * 30 + [None] * 15 + [1.0] * 15
    assert Span.of(t_s, 60, 120).means(t_s, ()) == [None] * 60
    assert Span.of((), 10, 60).means((), ()) == [None] * 10


def test_the_window_grows_with_the_run() -> None:
    assert [window_of(t) for t in (0, 59, 60, 61, 119, 500, 5000)] == [60, 60, 60, 120, 120, 120, 120]


def test_marks_phases_and_preemptions_have_their_columns() -> None:
    t_s = tuple(float(i) for i in range(120))
    series = Series(t_s=t_s, preemptions=tuple(0.0 if t < 50 else 3.0 for t in t_s))
    events = (
        Event(0.0, "phase hold begins", kind="phase", t_s=20.2),
        Event(0.0, "now Serve", kind="mark", t_s=20.9),
        Event(0.0, "rate 4 → 8 rps", kind="rate", t_s=80.0),
        Event(0.0, "long ago", kind="phase", t_s=-300.0),
        Event(0.0, "of an older rvtop", kind="phase"),
    )
    assert preempted(series) == [50.0]
    assert signs(events, series, Span.of(t_s, 120, 120)) == {20: ("◆", "now Serve"), 50: ("▼", "")}


def test_the_point_at_a_second_is_the_newest_that_is_not_later() -> None:
    series = Series(t_s=(1.0, 2.0, 4.0))
    assert [point_at(series, t) for t in (0.5, 1.0, 3.9, 4.0, 99.0)] == [None, 0, 1, 2, 2]


def test_bands_are_solid_up_to_the_front_and_shade_above() -> None:
    cells = bands([4, 8, 0, 16], [16, 11, 0, 3], 2, style=PLAIN)
    assert drawn(cells) == ["▒  █", "▄█ █"]


def test_a_stack_shows_where_requests_are() -> None:
    layers = [
        ([2.0, 4.0, None, 0.0], "█", PLAIN),
        ([1.0, 9.0, None, 0.1], "▓", PLAIN),
        ([1.0, 0.0, 4.0, 0.0], "░", PLAIN),
    ]
    assert drawn(stack(layers, 4.0, 4)) == ["░█░ ", "▓█░ ", "██░ ", "██░▓"]
    assert drawn(stack(layers, 0.0, 1)) == ["    "]
    assert outside(5.0, 7.0, 1.0) == 0.0
    assert outside(5.0, None, None) is None
    assert outside(5.0, 3.0, None) == 2.0


def test_the_servers_tokens_are_a_line_only_where_they_differ_for_five_seconds() -> None:
    ours = [100.0] * 12
    theirs = [104.0, 120.0, 120.0, 120.0, 120.0, 100.0, 80.0, 80.0, 80.0, 80.0, 80.0, None]
    assert differing(ours, theirs) == [None] * 6 + [80.0] * 5 + [None]
    assert differing([], [1.0]) == [None]


@given(st.lists(figures, max_size=60), st.lists(figures, max_size=60), st.integers(1, 30))
def test_any_figures_are_drawn_inside_the_chart(
    p50: list[float | None], p99: list[float | None], rows: int
) -> None:
    low, high = log_ends(p50, p99, 200.0)
    assert 0 < low < high
    assert high / low >= 4.99
    columns = max(len(p50), len(p99))
    a, b = (values + [None] * (columns - len(values)) for values in (p50, p99))
    front, behind = log_eighths(a, low, high, rows), log_eighths(b, low, high, rows)
    assert all(0 <= height <= 8 * rows for height in front + behind)
    assert [height > 0 for height in front] == [bool(value) for value in a]
    for made in (
        bands(front, behind, rows, style=PLAIN),
        stack([(a, "█", PLAIN), (b, "▓", PLAIN)], high, rows),
    ):
        assert (made.width, made.height) == (columns, rows)
        for x in range(columns):  # nothing hangs in the air, a gap is blank
            filled = [made.chars[y][x] != " " for y in range(rows)]
            assert filled == sorted(filled)
            assert any(filled) or not a[x]
