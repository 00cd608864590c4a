"""Live pairs on the screens: their lines in every size, A against A, words, swapping, copying."""

from __future__ import annotations

from dataclasses import replace

import made
import pytest
from driven import opened, screen_text, show, text_of, until

from rvtop.contract.pairs import ALIKE, CENSORED, HIGHER, LOWER, NOT_YET, Pairs
from rvtop.ui.app import RvtopApp
from rvtop.ui.look import Look
from rvtop.ui.pair_lines import mirrored, notes, point_lines, table_lines
from rvtop.ui.sides import PAIR_A, PAIR_B
from rvtop.ui.theme import DARK, Styles
from rvtop.ui.widgets.compare import ComparePanel, OverlayPanel
from rvtop.ui.widgets.pairs import PairsPanel, PairsRow

STYLES = Styles(DARK)


def pairs_of(**more: float) -> Pairs:
    found = made.pairs(**more).pairs  # type: ignore[arg-type]
    assert found is not None
    return found


def app_with(handle: made.FakeHandle) -> RvtopApp:
    return RvtopApp(handle, clock=lambda: 0.0, look=Look(STYLES))


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)], ids=lambda size: f"{size[0]}x{size[1]}")
async def test_the_compare_screen_shows_them(size: tuple[int, int]) -> None:
    app = app_with(made.FakeHandle(made.pairs()))
    async with opened(app, *size) as pilot:
        assert "TTFT: B −11.9" in text_of(app, PairsRow)
        await pilot.press("4")
        await until(pilot, lambda: app.screen.query(PairsPanel))
        await pilot.pause()
        text = text_of(app, PairsPanel)
        row = next(line for line in text.splitlines() if line.strip().startswith("TTFT mean"))
        assert row.rstrip().endswith(LOWER)
        assert " … −1" in row
        assert "no difference in 60 pairs" in text
        assert not app.screen.query_one(ComparePanel).display
        assert app.screen.query_one(OverlayPanel).display
        if size[1] >= 40:
            assert "240 pairs" in text
            assert "├" in text


async def test_it_begins_with_a_against_a_and_the_interval_closes() -> None:
    handle = made.FakeHandle(made.pairs(count=0, same=40))
    app = app_with(handle)
    async with opened(app) as pilot:
        await pilot.press("4")
        await until(pilot, lambda: app.screen.query(PairsPanel))
        assert "A against A" in text_of(app, PairsPanel)
        assert "40 pairs" in text_of(app, PairsPanel)
        assert "B lower" not in screen_text(app)
        await show(app, pilot, handle, made.pairs(count=30))
        await show(app, pilot, handle, made.pairs(count=300))
        assert "300 pairs" in text_of(app, PairsPanel)


async def test_swapped_b_is_the_reference_and_a_row_can_be_copied() -> None:
    app = app_with(made.FakeHandle(made.pairs()))
    copied: list[str] = []
    async with opened(app) as pilot:
        await pilot.press("4")
        await until(pilot, lambda: app.screen.query(PairsPanel))
        app.screen.copy = lambda text, what: copied.append(text)  # type: ignore[attr-defined]
        await pilot.press("y")
        await pilot.press("c")
        await pilot.pause()
        assert app.screen.sides.a == PAIR_B  # type: ignore[attr-defined]
        assert HIGHER in text_of(app, PairsPanel)
        await pilot.press("j", "y")
        await pilot.press("c")
        await pilot.pause()
        assert app.screen.sides.a == PAIR_A  # type: ignore[attr-defined]
        assert LOWER in text_of(app, PairsPanel)
    assert "TTFT: B −11.9" in copied[0]
    assert copied[0].endswith(LOWER)
    assert "TPOT: B" in copied[1]


def test_words_follow_interval_and_floor() -> None:
    assert [row.word for row in pairs_of().rows] == [LOWER, ALIKE, LOWER]
    assert pairs_of(count=5).rows[0].word == NOT_YET
    assert pairs_of(count=200, delta_ms=0.0).rows[0].word in (ALIKE, NOT_YET)
    assert pairs_of(count=60, delta_ms=12.0).rows[0].word == HIGHER


def test_mirrored_twice_is_what_it_was() -> None:
    found = pairs_of()
    there = mirrored(found)
    assert there.rows[0].difference == -(found.rows[0].difference or 0)
    assert (there.rows[0].low, there.rows[0].high) == (-(found.rows[0].high or 0), -(found.rows[0].low or 0))
    assert mirrored(there) == found


def test_lines_fit_every_width() -> None:
    found = pairs_of()
    found = replace(found, rows=(replace(found.rows[0], word=CENSORED), *found.rows[1:]), waiting=3, lost=7)
    for width in range(20, 220, 7):
        for line in (*table_lines(found, 0, STYLES, width), *point_lines(found, STYLES, width, 6)):
            assert line.width <= width
    told = notes(found)
    assert any(line.startswith(CENSORED) for line in told)
    assert any("7 lost" in line for line in told)
    assert any(line.startswith("3 pairs wait") for line in told)


def test_points_stand_on_one_axis_that_holds_0() -> None:
    lines = [line.text for line in point_lines(pairs_of(), STYLES, 90, 20)]
    assert [int(line.split()[0]) for line in lines] == [15, 30, 60, 120, 240]
    widths = [line.index("┤") - line.index("├") for line in lines]
    assert widths == sorted(widths, reverse=True)
    assert len({line.rindex("│") for line in lines[1:]}) == 1  # 0, which the first interval holds
