"""Where panels stand: nothing overlaps, everything fits, and panels are folded in their order."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvtop.ui.layout import GAP, PLACES, Ask, Place, arrange, column_widths

HEADER, FOOTER = Ask("header", "top"), Ask("footer", "bottom")
LOAD = Ask("load", "top", 2, 4, 7)
NOTICE = Ask("notice", "top")
TTFT = Ask("ttft", "left", 5, 9, 16, chart=True)
LATENCY = Ask("latency", "left", 2, 4, 4)
TOKENS = Ask("tokens", "left", 4, 6, 9, chart=True)
ENGINES = Ask("engines", "right", 2, 4, 4)
GPU = Ask("gpu", "right", 2, 5, 5)
SERVE = Ask("deployments", "right", 2, 3, 3)
NODES = Ask("nodes", "right", 2, 3, 3)
KV = Ask("kvqueue", "right", 4, 6, 9, chart=True)
IN_FLIGHT = Ask("inflight", "right", 4, 6, 9, chart=True)
EVENTS = Ask("events", "bottom", 2, 3, 3)
PLAN = Ask("plan", "bottom", 3, 4, 4)
#: A session on a cluster of GPUs, of which everything is known.
ALL = (
    *(HEADER, LOAD, NOTICE, TTFT, LATENCY, TOKENS, ENGINES, GPU, SERVE, NODES, KV, IN_FLIGHT, PLAN, EVENTS),
    FOOTER,
)


def rows(asks: tuple[Ask, ...], width: int, height: int, zoomed: str | None = None) -> dict[str, int]:
    return {place.name: place.height for place in arrange(asks, width, height, zoomed)}


def check(places: list[Place], width: int, height: int) -> None:
    taken: set[tuple[int, int]] = set()
    for p in places:
        assert p.width > 0
        assert p.height > 0
        assert 0 <= p.x <= p.x + p.width <= width, p
        assert 0 <= p.y <= p.y + p.height <= height, p
        cells = {(x, y) for x in range(p.x, p.x + p.width) for y in range(p.y, p.y + p.height)}
        assert not cells & taken, p
        taken |= cells


@st.composite
def ask_lists(draw: st.DrawFn) -> tuple[Ask, ...]:
    known = [ask for ask in ALL if ask in (HEADER, FOOTER) or draw(st.booleans())]
    made = []
    for ask in known:
        if ask.best > 1:
            best = draw(st.integers(1, 60))
            good = draw(st.integers(1, best))
            ask = replace(
                ask, least=draw(st.integers(1, good)), good=good, best=best, folded=draw(st.booleans())
            )
        made.append(ask)
    if draw(st.booleans()):
        made.append(Ask("someone's", draw(st.sampled_from(PLACES)), 3, 8, 20, chart=draw(st.booleans())))
    return tuple(made)


@settings(max_examples=300, deadline=None)
@given(asks=ask_lists(), width=st.integers(1, 320), height=st.integers(1, 110), zoom=st.booleans())
def test_nothing_overlaps_and_everything_fits(
    asks: tuple[Ask, ...], width: int, height: int, zoom: bool
) -> None:
    zoomed = asks[len(asks) // 2].name if zoom else None
    places = arrange(asks, width, height, zoomed)
    check(places, width, height)
    names = [place.name for place in places]
    assert len(set(names)) == len(names)
    assert set(names) <= {ask.name for ask in asks}
    if zoomed is None:
        assert "header" in names, "the state is said wherever there is a row"
    else:
        assert zoomed in names


@settings(max_examples=200, deadline=None)
@given(width=st.integers(40, 300), height=st.integers(12, 100))
def test_what_matters_most_is_there_at_every_size(width: int, height: int) -> None:
    shown = rows(ALL, width, height)
    assert {"header", "load", "notice", "ttft", "footer"} <= set(shown)
    assert shown["footer"] == 1
    check(arrange(ALL, width, height), width, height)


@pytest.mark.parametrize("width", [80, 120, 200])
def test_tables_and_the_histogram_shrink_after_the_time_line_is_gone(width: int) -> None:
    for height in range(12, 101):
        shown = rows(ALL, width, height)
        if shown["ttft"] < TTFT.good:
            assert "plan" not in shown, (width, height)
            assert shown.get("events", 0) <= 1
        if shown["ttft"] < TTFT.least:
            assert shown.get("latency", 0) <= 1
        if width < 100 and shown.get("latency", 0) < 4:
            assert shown["events"] == 1 if "events" in shown else height < 20


def test_the_histogram_goes_last_and_the_time_line_first() -> None:
    gone_at: dict[str, int] = {}
    folded_at: dict[str, int] = {}
    for height in range(100, 3, -1):
        shown = rows(ALL, 80, height)
        for ask in ALL:
            if ask.name not in shown:
                gone_at.setdefault(ask.name, height)
            if shown.get(ask.name, 0) < min(2, ask.best):
                folded_at.setdefault(ask.name, height)
    charts = ["kvqueue", "inflight", "tokens", "ttft"]
    assert [folded_at[name] for name in charts] == sorted((folded_at[n] for n in charts), reverse=True)
    assert folded_at["nodes"] >= folded_at["deployments"] >= folded_at["gpu"] >= folded_at["engines"]
    assert gone_at["plan"] > gone_at["nodes"] >= gone_at["deployments"] >= gone_at["gpu"] >= gone_at["tokens"]
    assert gone_at.get("ttft", 0) < gone_at["latency"] <= folded_at["ttft"]
    assert "header" not in gone_at


def test_the_drawing_at_80x24() -> None:
    asks = tuple(ask for ask in ALL if ask.name not in ("deployments", "kvqueue"))
    asks = tuple(Ask("load", "top") if ask is LOAD else ask for ask in asks)  # a row where it is narrow
    shown = rows(asks, 80, 24)
    assert shown.pop("ttft") == 9
    assert shown == {
        "header": 1, "load": 1, "notice": 1, "latency": 4, "tokens": 1, "inflight": 1, "engines": 1,
        "gpu": 1, "nodes": 1, "plan": 1, "events": 1, "footer": 1,
    }  # fmt: skip


def test_below_100_columns_the_right_goes_under_the_left_and_columns_are_equally_wide() -> None:
    for width in range(40, 301):
        places = {p.name: p for p in arrange(ALL, width, 60)}
        left, right = places["ttft"], places["engines"]
        if width < 100:
            assert (left.x, right.x) == (0, 0)
            assert right.y > left.y
        else:
            assert left.width == right.width
            assert right.x >= left.width + GAP
            assert right.y == left.y
            assert right.x + right.width == width
    assert column_widths(160, {"left", "right"}) == [79, 79]


def test_a_third_column_comes_only_with_something_for_it() -> None:
    assert len({p.x for p in arrange(ALL, 200, 60)}) == 2
    why = (*ALL, Ask("parts", "third", 3, 6, 6))
    assert len({p.x for p in arrange(why, 200, 60)}) == 3
    assert len({p.x for p in arrange(why, 159, 60)}) == 2
    alone = (HEADER, Ask("steps", "left", 3, 6, 30), FOOTER)
    assert {p.width for p in arrange(alone, 200, 60)} == {200}


def test_spare_rows_go_to_tables_then_to_charts_that_stand_beside_each_other() -> None:
    many = tuple(replace(ask, best=40) if ask.name == "engines" else ask for ask in ALL)
    assert rows(many, 120, 90)["engines"] > rows(ALL, 120, 90)["engines"]
    places = {p.name: p for p in arrange(ALL, 120, 60)}
    tokens, in_flight = places["tokens"], places["inflight"]
    assert tokens.y + tokens.height == in_flight.y + in_flight.height
    assert tokens.height == in_flight.height
    assert rows(ALL, 300, 100)["load"] == 7
    assert rows(ALL, 300, 79)["load"] == 4


def test_a_panel_with_nothing_to_say_is_a_line_and_gives_its_rows_away() -> None:
    quiet = tuple(replace(ask, folded=ask.name == "kvqueue") for ask in ALL)
    assert rows(quiet, 120, 60)["kvqueue"] == 1
    assert rows(quiet, 120, 60)["inflight"] > rows(ALL, 120, 60)["inflight"]


def test_zoom_leaves_the_first_and_the_last_row() -> None:
    assert rows(ALL, 120, 40, zoomed="gpu") == {"header": 1, "gpu": 38, "footer": 1}
    assert rows(ALL, 10, 3, zoomed="gpu") == {"gpu": 3}


def test_a_place_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="nodes: no such place: middle; one of top, left"):
        arrange((Ask("nodes", "middle"),), 80, 24)


WIDE = (
    *(HEADER, LOAD, TTFT, LATENCY, replace(TOKENS, time=True), ENGINES, GPU, replace(KV, time=True)),
    *(replace(IN_FLIGHT, time=True), Ask("knee", "third", 4, 5, 9, chart=True, time=True)),
    *(Ask("slowest", "fourth", 4, 20, 40), EVENTS, FOOTER),
)


@pytest.mark.parametrize(("width", "columns"), [(120, 2), (160, 3), (239, 3), (240, 4), (300, 4)])
def test_charts_over_time_stand_in_rows_across_all_columns(width: int, columns: int) -> None:
    asks = tuple(ask for ask in WIDE if columns > 2 or ask.place not in ("third", "fourth"))
    for height in range(50, 101):
        places = {p.name: p for p in arrange(asks, width, height)}
        assert len({p.x for p in places.values()}) == columns
        across = [places["tokens"], places["inflight"], *([places["knee"]] if columns > 2 else [])]
        assert len({(p.y, p.height, p.width) for p in across}) == 1, (width, height)
        assert across[0].width <= 120


def test_a_chart_that_is_folded_stands_above_the_rows_of_charts() -> None:
    folded = tuple(replace(ask, folded=ask.name == "inflight") for ask in WIDE)
    places = {p.name: p for p in arrange(folded, 240, 36)}
    assert places["inflight"].height == 1
    assert (places["kvqueue"].y, places["kvqueue"].height) == (places["tokens"].y, places["tokens"].height)


#: Charts over time, two beside two, and servers that have little to say.
TIMED = tuple(
    Ask(name, place, 4, 5, 9, chart=True, time=True)
    for name, place in (
        ("latency_time", "left"),
        ("tokens", "left"),
        ("inflight", "right"),
        ("gpu_use", "right"),
    )
)


def test_a_chart_that_stands_alone_leaves_its_rows_where_a_column_would_stay_blank() -> None:
    few = (HEADER, TTFT, LATENCY, *TIMED, replace(ENGINES, good=2, best=2), FOOTER)
    found = rows(few, 200, 50)
    assert found["latency_time"] == found["tokens"] == found["inflight"] == found["gpu_use"]
    assert found["ttft"] + 2 * found["tokens"] == 44
    assert found["tokens"] > 9, "at its best there are blank rows at the right still"
    assert found["ttft"] >= 9
    many = (*few[:-1], replace(GPU, good=20, best=20), FOOTER)
    assert rows(many, 200, 50)["tokens"] < found["tokens"]


def test_a_chart_without_anything_to_say_is_unfolded_where_rows_would_stay_blank() -> None:
    quiet = Ask("kvqueue", "right", 4, 5, 9, chart=True, time=True, folded=True)
    asks = (HEADER, TTFT, LATENCY, *TIMED, quiet, ENGINES, FOOTER)
    assert rows(asks, 200, 60)["kvqueue"] == 9
    assert rows(asks, 200, 100)["kvqueue"] > 9, "a tall screen has room for more than the best"
    for height, gpus in ((60, 40), (100, 60)):
        full = (*asks[:-1], replace(GPU, good=gpus, best=gpus), FOOTER)
        assert rows(full, 200, height)["kvqueue"] == 1
