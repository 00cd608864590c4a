"""The map: dots and places equal the snapshot, in every size."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import made
import pytest
from driven import opened, screen_text, show, until
from hypothesis import given
from hypothesis import strategies as st
from textual.pilot import Pilot

import rvtop.doctor
from rvtop.contract.cluster import Cluster, ClusterNode
from rvtop.contract.placement import PlacedModel, Placement
from rvtop.contract.snapshot import Engine, Snapshot
from rvtop.contract.stages import Stage
from rvtop.ui.app import RvtopApp
from rvtop.ui.describe import describe_server
from rvtop.ui.map_lines import (
    NO_ENGINES,
    batches,
    dots,
    engines_of_row,
    flow,
    machine,
    map_lines,
    outside,
    places_bar,
    scale_of,
    times,
    token_bars,
    tokens_of_one_engine,
    unit,
)
from rvtop.ui.placement_lines import placement_lines
from rvtop.ui.screens.map import MapScreen
from rvtop.ui.screens.text import TextScreen
from rvtop.ui.theme import DARK, Styles
from rvtop.ui.widgets.place_footer import PlaceFooter

STYLES = Styles(DARK)
figure = st.none() | st.floats(0, 1e6)
engine = st.builds(
    Engine,
    name=st.text("abc0", min_size=1, max_size=9),
    node=st.none() | st.sampled_from(["n1", "n1:0", "n2:1", "a-long-name-of-a-node:3"]),
    running=figure,
    waiting=figure,
    kv_usage=st.none() | st.floats(0, 1),
    max_seqs=figure,
    most_running=figure,
    tokens_per_s=figure,
    stale_s=st.none() | st.floats(3, 60),
)


@given(st.lists(engine, max_size=70), st.integers(20, 220), st.integers(1, 60), st.integers(0, 80))
def test_every_map_fits_every_size(engines: list[Engine], width: int, height: int, chosen: int) -> None:
    s = replace(made.live(), engines=tuple(engines))
    lines = map_lines(s, STYLES, width, height, chosen)
    assert len(lines) <= height
    assert all(line.width <= width for line in lines)


@given(figure, figure, st.integers(3, 120))
def test_places_fill_in_proportion(running: float | None, places: float | None, width: int) -> None:
    bar = places_bar(STYLES, running, places, width)
    assert bar.width <= width
    full, known = bar.text.count("■"), running is not None and bool(places)
    assert bool(full) == bool(known and running and round(places or 0)), "above 0 shows at least one"


def test_one_place_a_cell_where_they_fit() -> None:
    assert places_bar(STYLES, 16.0, 20.0, 40).text == "▕■■■■■■■■■■■■■■■■····▏"
    assert places_bar(STYLES, 16.0, 256.0, 22).text == "▕■··················…▏"
    assert places_bar(STYLES, None, 256.0, 22).text == "▕--▏"


@given(st.floats(0, 1e8), st.integers(1, 60))
def test_the_unit_is_a_power_of_ten_that_fits(most: float, room: int) -> None:
    each = unit(most, room)
    assert len(str(each).rstrip("0")) == 1
    assert len(dots(most, each, room)) <= room
    assert each == 1 or most > each / 10 * room, "no larger than it must be"
    assert dots(0.0, each, room) == dots(None, each, room) == ""


def test_arrows_are_as_long_as_their_share() -> None:
    assert (flow(1.0), flow(0.25), flow(0.0), flow(None)) == ("━━━━━━━━▶", "━━▶", "━▶", "┄▶")


def test_outside_is_what_no_engine_tells_of() -> None:
    s = made.mapped()
    held = sum((e.running or 0) + (e.waiting or 0) for e in s.engines if e.stale_s is None)
    assert outside(s) == 150 - held
    assert outside(replace(s, load=replace(s.load, in_flight=1))) == 0.0
    assert outside(replace(s, engines=())) is None


def test_many_engines_are_rows_of_their_machines() -> None:
    rows = batches(made.mapped(n=64).engines)
    assert len(rows) == 16
    first = next(row for row in rows if row.name.startswith("n1 "))
    assert first.name == "n1 ×4 ✗ 1 gone"
    assert first.places == 3 * 64
    assert len(batches(made.mapped(n=12).engines)) == 12


async def test_the_cursor_chooses_an_engine() -> None:
    app = RvtopApp(made.FakeHandle(made.mapped()))
    async with opened(app) as pilot:
        await pilot.press("2")
        await pilot.pause()
        assert isinstance(app.screen, MapScreen)
        text = screen_text(app)
        assert "✗ gone 6 s" in text
        assert "64/64" in text
        assert "▸ e0" in text
        await pilot.press("j", "j", "j", "k", "k")
        assert "▸ e1" in screen_text(app)
        assert "running 64   waiting 23   places 64" in screen_text(app)


@given(st.lists(engine, max_size=70), st.lists(engine, max_size=70), st.integers(20, 220))
def test_both_halves_have_one_scale_and_fit(now: list[Engine], before: list[Engine], width: int) -> None:
    halves = [replace(made.live(), engines=tuple(engines)) for engines in (now, before)]
    scale = scale_of(width, *halves)
    assert scale.each == max(scale_of(width, one).each for one in halves)
    for one in halves:
        lines = map_lines(one, STYLES, width, 20, None, scale, legend=False)
        assert len(lines) <= 20
        assert all(line.width <= width for line in lines)


def test_tokens_of_one_engine_are_a_mean_of_those_that_answer() -> None:
    assert tokens_of_one_engine(made.mapped()) == (3000.0 + 2960.0 + 2880.0) / 3
    assert tokens_of_one_engine(replace(made.live(), engines=())) is None
    assert times(6037.0, 30.0) == "× 201"
    assert times(None, 30.0) == times(30.0, None) == times(30.0, 0.0) == ""
    bars = token_bars(STYLES, [("rac", 50.0), ("rvc", 100.0), ("vllm", None)], 63, 3)
    assert [line.text.count("█") for line in bars] == [25, 50, 0]
    assert "--" in bars[2].text


async def before_and_now(app: RvtopApp, pilot: Pilot[int], handle: made.FakeHandle) -> None:
    """The map, after a switch from rac, where requests waited, to rvc."""
    before, now = made.switched()
    await show(app, pilot, handle, before)
    await show(app, pilot, handle, now)
    await pilot.press("2")
    await until(pilot, lambda: isinstance(app.screen, MapScreen) and app.screen.snapshot is not None)
    await pilot.pause()


async def test_before_stands_above_now_until_the_ghost_is_hidden() -> None:
    handle = made.FakeHandle(made.live())
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await before_and_now(app, pilot, handle)
        parts = ("before: rac", "now: rvc", "ghost of ", "tokens of one engine in one second", "× 100")
        await until(pilot, lambda: all(part in screen_text(app) for part in parts))
        text = screen_text(app)
        assert text.index("before: rac") < text.index("now: rvc")
        await pilot.press("b")
        await until(pilot, lambda: "before: rac" not in screen_text(app))
        await until(pilot, lambda: "tokens of one engine" not in screen_text(app))
        await pilot.press("b")
        await until(pilot, lambda: "before: rac" in screen_text(app))
        await pilot.press("B")
        await until(pilot, lambda: "before: rvc" in screen_text(app))


async def test_without_a_ghost_b_says_how_to_get_one() -> None:
    app = RvtopApp(made.FakeHandle(made.mapped()))
    async with opened(app) as pilot:
        await pilot.press("2", "b")
        await until(pilot, lambda: "no ghost yet" in screen_text(app))


async def opened_map(pilot: Pilot[int], app: RvtopApp) -> None:
    await pilot.press("2")
    await until(pilot, lambda: isinstance(app.screen, MapScreen) and app.screen.snapshot is not None)


async def test_enter_opens_the_engine_at_the_cursor_and_follows_it() -> None:
    s = made.mapped()
    handle = made.FakeHandle(s)
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await opened_map(pilot, app)
        await pilot.press("j", "enter")
        await until(
            pilot, lambda: isinstance(app.screen, TextScreen) and "waiting         23" in screen_text(app)
        )
        assert "engine          e1" in screen_text(app)
        engines = list(s.engines)
        engines[1] = replace(engines[1], waiting=24.0)
        await show(app, pilot, handle, replace(s, engines=tuple(engines)))
        await until(pilot, lambda: "waiting         24" in screen_text(app))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, MapScreen))


async def test_enter_on_a_node_lists_its_engines() -> None:
    app = RvtopApp(made.FakeHandle(made.mapped(n=64)))
    async with opened(app) as pilot:
        await opened_map(pilot, app)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, TextScreen) and "e36 " in screen_text(app))
        await until(pilot, lambda: all(f"n10:{gpu}  0/64" in screen_text(app) for gpu in range(4)))


def test_a_row_stands_for_its_engines() -> None:
    many = made.mapped(n=64).engines
    for row, batch in enumerate(batches(many)):
        assert {machine(e.node or "") for e in engines_of_row(many, row)} == {batch.name.split()[0]}
    assert sum(len(engines_of_row(many, row)) for row in range(16)) == 64
    few = made.mapped().engines
    assert [engines_of_row(few, row)[0].name for row in (0, 3, 9)] == ["e0", "e3", "e3"]


async def test_l_shows_the_log_and_d_what_the_run_knows_of_the_server(tmp_path: Path) -> None:
    s = replace(made.mapped(), out_dir=str(tmp_path))
    (tmp_path / "backend.log").write_text("engine e1 is ready\n")
    environment = {
        "target": s.target.url,
        "target_engines": [{"kind": "vllm", "max_model_len": 4096, "dtype": "bf\x1b[2J16"}],
        "flags": {"backend": {"arguments": ["--num-gpus", "4"]}},
        "versions": {"ray": "2.60.0"},
    }
    (tmp_path / "environment.json").write_text(json.dumps(environment))
    app = RvtopApp(made.FakeHandle(s))
    async with opened(app) as pilot:
        await opened_map(pilot, app)
        await pilot.press("l")
        await until(pilot, lambda: "engine e1 is ready" in screen_text(app))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, MapScreen))
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, TextScreen) and "--num-gpus 4" in screen_text(app))
        text = screen_text(app)
        assert "max_model_len 4096" in text
        assert "ray 2.60.0" in text
        assert "\x1b[2J" not in text


async def test_d_with_shift_shows_what_the_doctor_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rvtop.doctor, "examine", lambda *, deep, out: out("ok    ray dashboard   http://h:1"))
    app = RvtopApp(made.FakeHandle(made.mapped()))
    async with opened(app) as pilot:
        await opened_map(pilot, app)
        await pilot.press("D")
        await until(pilot, lambda: "ok    ray dashboard   http://h:1" in screen_text(app))


def test_a_server_that_the_load_went_over_to_is_described_by_its_own_part() -> None:
    s = made.mapped()
    before = {"target": "http://127.0.0.1:1", "flags": {"backend": {"arguments": ["--old"]}}}
    there = {"url": s.target.url, "topology": "rvc", "arguments": ["--new", "1"]}
    lines = describe_server(s, {**before, "targets": [there]})
    assert any(line.startswith("arguments") and line.endswith("--new 1") for line in lines)
    assert not any("--old" in line for line in lines)


@pytest.mark.parametrize("held", [{}, {"targets": 3, "versions": [1]}, {"flags": "x", "target_engines": 7}])
def test_without_a_run_folder_it_is_described_by_what_it_tells(held: dict[str, object]) -> None:
    s = made.mapped()
    lines = describe_server(s, {**held, "target": s.target.url} if held else held)
    assert any(line.endswith(s.target.url) for line in lines)
    assert lines[-1] == "Of its arguments this server tells no more."


@pytest.mark.parametrize(
    ("snapshot", "said"),
    [(replace(made.live(), engines=()), NO_ENGINES), (replace(made.mapped(), gpus=()), "▸ e0")],
    ids=["no engines", "no gpus"],
)
async def test_what_is_missing_does_not_matter(snapshot: Snapshot, said: str) -> None:
    app = RvtopApp(made.FakeHandle(snapshot))
    async with opened(app, 80, 24) as pilot:
        await pilot.press("2")
        await pilot.press("j")
        await pilot.press("k")
        assert said in screen_text(app)


PLAN = Placement(
    3,
    2,
    (
        PlacedModel("chat", 6, 1.21, "6 of 8 slots: measured 18 rps × 40 tokens, 20 ms a token"),
        PlacedModel("code", 2, 0.94, "2 of 8 slots: measured 7 rps × 40 tokens, 20 ms a token"),
        PlacedModel("idle", 1, None, "1 of 8 slots: nothing arrives"),
    ),
)


async def test_the_map_shows_the_plan_and_why() -> None:
    stages = (Stage("embed", 1, 2, 3, 2.0, 5.25), Stage("llm", 1, 1, 0))
    app = RvtopApp(made.FakeHandle(replace(made.mapped(), placement=PLAN, stages=stages)))
    async with opened(app) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: isinstance(app.screen, MapScreen))
        text = screen_text(app)
    assert "plan 3 replicas of each model" in text
    assert "  embed ×1/2 3 in 5.25 ms ━▶ llm ×1 0 in" in text
    assert "2 on the move" in text
    assert text.index("code    2  ×0.940 2 of 8 slots: measured 7 rps") < text.index("chat    6   ×1.21 6 of")
    assert "idle    1     ×-- 1 of 8 slots: nothing arrives" in text


@given(st.integers(10, 200), st.integers(0, 60))
def test_the_plan_takes_a_third_of_the_map_at_most(width: int, height: int) -> None:
    lines = placement_lines(PLAN, STYLES, width, height)
    assert len(lines) <= max(2, height // 3)
    assert all(line.width <= width for line in lines)
    assert bool(lines) == (height >= 9)


def test_a_node_that_is_to_go_says_so_beside_its_engines() -> None:
    engines = tuple(Engine(f"e{n}", node=f"n{n}", running=1.0, max_seqs=4.0) for n in (1, 2))
    nodes = (
        ClusterNode("n1", engines=("e1",)),
        ClusterNode("n2", "draining", 42.0, None, ("e2",)),
        ClusterNode("n3", "silent", None, 5.0),
        ClusterNode("n4", "dead"),
    )
    s = replace(made.live(), engines=engines, nodes=(), gpus=(), cluster=Cluster(nodes))
    texts = [line.text for line in map_lines(s, STYLES, 100, 30, 0)]
    assert "  n1" in texts
    assert "  n2  draining 42 s" in texts
    assert "  n3  no answer 5 s" in texts
    assert not any("n4" in text for text in texts)


def test_engines_of_several_nodes_of_one_machine_are_told_apart() -> None:
    engines = tuple(Engine(f"e{n}", node="h", running=1.0, max_seqs=4.0) for n in (1, 2))
    nodes = (ClusterNode("h/aa", engines=("e1",)), ClusterNode("h/bb", "draining", 9.0, None, ("e2",)))
    s = replace(made.live(), engines=engines, nodes=(), gpus=(), cluster=Cluster(nodes))
    assert "  h  e2:  draining 9 s" in [line.text for line in map_lines(s, STYLES, 100, 30, 0)]


async def test_the_keys_stand_in_the_last_row_whatever_room_is_left_above() -> None:
    s = made.live()
    async with opened(app := RvtopApp(made.FakeHandle(s)), 160, 60) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: isinstance(app.screen, MapScreen))
        await until(pilot, lambda: app.screen.query_one(PlaceFooter).region.y == 59)
