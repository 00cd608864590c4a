"""The arms' panel: what it says of each, where it is drawn, and the keys that change a share."""

from __future__ import annotations

from dataclasses import replace

import made
import pytest
from driven import opened, screen_text, text_of, until

from rvtop.contract.arms import Arm, next_share, steered
from rvtop.contract.command import SetSplit
from rvtop.contract.snapshot import Snapshot
from rvtop.ui.app import RvtopApp
from rvtop.ui.widgets.arms import ArmsPanel


async def test_each_arm_has_a_row_with_its_share_and_its_figures() -> None:
    app = RvtopApp(made.FakeHandle(made.split()))
    async with opened(app, 200, 60):
        lines = text_of(app, ArmsPanel).splitlines()
    assert "arms of chat" in lines[0]
    assert lines[1].split()[0] == "v1"
    assert {"90", "89", "41.2", "158", "0"} <= set(lines[1].split())
    assert lines[2].split()[0] == "▸v2"
    assert {"10", "11", "39.8", "310", "12"} <= set(lines[2].split())


async def test_models_of_a_load_have_rows_that_no_key_changes() -> None:
    models = tuple(
        Arm(name, kind="model", asked=asked, got=asked, ok=9, ttft_p50=41.2, ttft_p99=158.0)
        for name, asked in (("base", 0.5), ("lora-1", 0.25), ("lora-2", 0.25))
    )
    handle = made.FakeHandle(replace(made.split(), arms=models))
    app = RvtopApp(handle)
    async with opened(app, 200, 60) as pilot:
        lines = text_of(app, ArmsPanel).splitlines()
        await pilot.press("<", ">")
        assert handle.sent == []
    assert lines[0].startswith("── models ")
    assert lines[1].split()[0] == "base"
    assert {"50", "41.2", "158", "0"} <= set(lines[1].split())
    assert "▸" not in "".join(lines)


async def test_it_is_there_only_where_there_are_arms() -> None:
    app = RvtopApp(made.FakeHandle(made.live()))
    async with opened(app, 200, 60):
        assert "arms" not in screen_text(app)


@pytest.mark.parametrize("many", [False, True])
async def test_it_fits_every_size(many: bool) -> None:
    s = made.split()
    if many:
        more = tuple(Arm(f"a very long name of an arm, number {n}", "chat", 0.05) for n in range(20))
        s = replace(s, arms=(*s.arms, *more, Arm("(none)", "", None, None, None, 0, 4)))
    app = RvtopApp(made.FakeHandle(s))
    async with opened(app) as pilot:
        for width, height in ((60, 16), (80, 24), (120, 40), (300, 100)):
            await pilot.resize_terminal(width, height)
            await pilot.pause()
            panel = app.screen.query_one(ArmsPanel)
            for rows in (1, 3, 30):
                for cells in (30, 48, 58, 96, 140):
                    assert all(line.width <= cells for line in panel._lines(cells, rows))
            if height > 24 and not many:
                await until(pilot, lambda: "v1" in screen_text(app))


async def test_an_arm_that_is_down_says_so() -> None:
    s = made.split()
    app = RvtopApp(made.FakeHandle(replace(s, arms=(s.arms[0], replace(s.arms[1], up=False)))))
    async with opened(app, 200, 60):
        assert " down " in text_of(app, ArmsPanel).splitlines()[2]


async def test_the_keys_give_the_new_version_more_and_less() -> None:
    handle = made.FakeHandle(made.split())
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await pilot.press("greater_than_sign", "less_than_sign")
        await pilot.pause()
    assert handle.sent == [SetSplit("v2", 25.0, "chat"), SetSplit("v2", 5.0, "chat")]


async def test_without_arms_the_keys_say_why_not() -> None:
    handle = made.FakeHandle(made.live())
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await pilot.press("greater_than_sign")
        await pilot.pause()
        assert "splits no name" in screen_text(app)
    assert handle.sent == []


def test_shares_go_by_steps_to_the_ends() -> None:
    assert [next_share(share, more=True) for share in (0.0, 10.0, 33.3, 100.0)] == [1, 25, 50, 100]
    assert [next_share(share, more=False) for share in (100.0, 33.3, 1.0, 0.0)] == [99, 25, 0, 0]
    assert steered(()) is None
    assert steered((Arm("v1"),)) is None


def test_what_is_not_known_is_a_dash() -> None:
    s: Snapshot = replace(made.live(), arms=(Arm("v1", "chat"), Arm("v2", "chat")))
    panel = ArmsPanel()
    assert panel.wants(s)
    assert panel.heights(s, 90) == (3, 3)


async def test_where_several_names_are_split_each_row_has_its_own() -> None:
    arms = (Arm("v1", "chat", 0.9), Arm("v2", "chat", 0.1), Arm("v2", "code", 0.5), Arm("(none)"))
    app = RvtopApp(made.FakeHandle(replace(made.split(), arms=arms)))
    async with opened(app, 200, 60):
        head, *rows = text_of(app, ArmsPanel).splitlines()
    assert "arms of chat, code" in head
    names = ("chat v1", "chat v2", "▸code v2", "(none)")
    assert [row.strip()[: len(name)] for name, row in zip(names, rows[:4], strict=True)] == [*names]


async def test_long_names_of_several_splits_are_told_apart() -> None:
    arms = tuple(Arm(arm, "a-long-assistant", 0.5) for arm in ("qwen-3b", "qwen-15b"))
    s = replace(made.split(), arms=(*arms, Arm("qwen-3b", "code", 1.0)))
    app = RvtopApp(made.FakeHandle(s))
    async with opened(app, 200, 60):
        panel = app.screen.query_one(ArmsPanel)
        for cells in (56, 60, 64, 80):
            rows = ["".join(text for text, _ in line.runs) for line in panel._lines(cells, 6)[1:4]]
            names = [next(word for word in row.split() if word.startswith("qwen")) for row in rows]
            assert names == ["qwen-3b", "qwen-15b", "qwen-3b"]
            assert [row.strip("▸ ")[:4] for row in rows] == ["a-lo", "a-lo", "code"]
