"""The KV map's screen: figures and cells equal the snapshot, in every size; it says why there is none."""

from __future__ import annotations

from dataclasses import replace

import made
import pytest
from driven import opened, screen_text, show, text_of

from rvtop.contract.kv_lines import now_line
from rvtop.contract.snapshot import Snapshot
from rvtop.plain import figures_line
from rvtop.stats.block_map import BlockMap
from rvtop.stats.kv_map import AGE_EDGES_S, SHARE_EDGES, EngineMap, KvMap, Locality
from rvtop.ui.app import RvtopApp
from rvtop.ui.kv_lines import heat_lines, locality, prefix_lines, rows_of_engines
from rvtop.ui.screens.kv import KvScreen
from rvtop.ui.theme import DARK, Styles
from rvtop.ui.widgets.kv_map import HeatPanel, KvEnginesPanel, PrefixPanel

STYLES = Styles(DARK)


def cache(name: str = "vllm-0") -> EngineMap:
    """A system prompt of four blocks, two questions behind it, one of them asked three times more."""
    blocks = BlockMap()
    blocks.store([b"s0", b"s1", b"s2", b"s3"], None, 16, 0.0)
    for question in range(3):
        blocks.store([f"q{question}".encode()], b"s3", 16, 100.0)
    for answer in range(4):
        blocks.store([f"q1a{answer}".encode()], b"q1", 16, 400.0)
    return replace(blocks.picture(name, 401.0), complete=True)


def snapshot(*engines: EngineMap, where: Locality | None = None, note: str = "") -> Snapshot:
    return replace(made.live(), kv_map=KvMap(engines or (cache(),), where, note))


async def test_why_there_is_no_map_is_said_in_full_on_a_small_screen() -> None:
    async with opened(app := RvtopApp(made.FakeHandle(made.live())), 80, 24) as pilot:
        await pilot.press("6")
        await pilot.pause()
        said = " ".join(screen_text(app).replace("│", " ").split())
        assert "does with --kv-events; a server of others" in said
        assert said.count("--kv-events-url tcp://host:5557 says where.") == 1


def test_the_tree_of_shared_beginnings() -> None:
    first, second = (line.text for line in prefix_lines(cache(), STYLES, 110, 5))
    assert first.startswith("64 tokens")
    assert "6 requests" in first
    assert "3 branches" in first
    assert "83 %" in first  # of 6 requests seen to begin, 5 went on from it
    assert second.startswith("  └ 80 tokens")
    assert "4 requests" in second


def test_the_heat_map_says_each_number() -> None:
    engine = cache()
    head, *rows = heat_lines(engine, STYLES, 118)
    assert head.text.split()[:3] == ["requests", "<1", "s"]
    assert len(rows) == len(SHARE_EDGES)
    cells = [
        [int(cell) for cell in line.text[14:].translate(dict.fromkeys(map(ord, "░▒▓█·"), " ")).split()]
        for line in rows
    ]
    assert cells == [[n for n in row if n] for row in reversed(engine.heat)]
    assert rows[0].text.startswith("17 and more")
    assert all(line.width == head.width for line in rows)
    assert heat_lines(engine, STYLES, 14 + 3 * (len(AGE_EDGES_S) + 1)) == []  # no room for a number


def test_what_is_missing_and_a_storm_stand_in_the_engines_row() -> None:
    sound, torn = cache(), replace(cache("vllm-1"), storm=True, lost=3, complete=False, why="3 batches lost")
    head, first, second = (line.text for line in rows_of_engines(KvMap((sound, torn)), STYLES, 140, 1))
    assert head.split()[0] == "cached"
    assert "!" not in first
    assert second.startswith("▸ vllm-1")
    assert "✗ EVICTION STORM" in second
    assert "! 3 batches lost" in second


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, ""),
        (Locality(5, 5, False), "locality -- (no block in two engines)"),
        (Locality(4, 3, True), "locality taken 75 % of 4 offered"),
    ],
)
def test_locality_is_told_only_where_hashes_can_be_compared(found: Locality | None, said: str) -> None:
    assert locality(KvMap((), found), STYLES).text == said


def test_plain_lines() -> None:
    assert now_line(KvMap()) == now_line(KvMap(note="why")) == ""
    said = "cached 11 blocks, 5 shared, evicted --/s"
    assert now_line(KvMap((cache(),))) == said
    torn = replace(cache(), storm=True, complete=False)
    assert now_line(KvMap((torn,))) == f"{said}, EVICTION STORM, map incomplete"
    assert said in figures_line(snapshot())
    assert "cached" not in figures_line(made.live())


async def test_key_6_shows_it_and_j_chooses_an_engine() -> None:
    handle = made.FakeHandle(snapshot(cache(), replace(cache("vllm-1"), cached=7)))
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await pilot.press("6")
        await pilot.pause()
        assert isinstance(app.screen, KvScreen)
        assert "▸ vllm-0" in text_of(app, KvEnginesPanel)
        assert "11 blocks of 16 tokens" in text_of(app, HeatPanel)
        await pilot.press("j", "j")
        assert "vllm-1  7 blocks" in text_of(app, HeatPanel)
        assert "64 tokens" in text_of(app, PrefixPanel)
        await pilot.press("up")
        assert [type(command).__name__ for command in handle.sent] == ["SetRate"]


async def test_why_there_is_no_map() -> None:
    handle = made.FakeHandle(made.live())
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await pilot.press("6")
        await pilot.pause()
        assert "--kv-events-url tcp://host:5557" in screen_text(app)
        await show(app, pilot, handle, replace(made.live(), kv_map=KvMap(note="pyzmq not installed")))
        assert "! pyzmq not installed" in screen_text(app)


@pytest.mark.parametrize("size", [(40, 12), (60, 14), (80, 24), (120, 40), (300, 100)])
async def test_it_fits(size: tuple[int, int]) -> None:
    engines = [replace(cache(f"vllm-{n}"), why="4 batches lost" if n % 2 else "") for n in range(40)]
    app = RvtopApp(made.FakeHandle(snapshot(*engines, where=Locality(4, 3, True))))
    async with opened(app, *size) as pilot:
        await pilot.press("6")
        await pilot.pause()
        lines = screen_text(app).split("\n")
        assert len(lines) == size[1]
        assert "KV map" in screen_text(app)
        for _ in range(39):
            await pilot.press("j")
        assert "▸ vllm-39" in text_of(app, KvEnginesPanel)
