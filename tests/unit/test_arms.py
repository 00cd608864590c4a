"""Arms of a split: what a session sees of them and does to them, and what a run's summary says of each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter_ns
from types import SimpleNamespace
from typing import Any

import pytest

from rvtop.cli.split import shares_from
from rvtop.contract.arms import steered
from rvtop.contract.command import CommandError, SetSplit
from rvtop.errors import UserError
from rvtop.results import summary
from rvtop.results.arms import arm_lines
from rvtop.results.html.page import run_page
from rvtop.scenario.schema import Slo
from rvtop.session import arms_watch
from rvtop.session.arms_watch import ArmsWatch
from rvtop.target.probe import TargetInfo
from rvtop.target.splits import ArmShare, SplitInfo, read_splits
from tests.unit import run_folder
from tests.unit.run_folder import request

CHAT = SplitInfo("chat", (ArmShare("v1", 90.0, True), ArmShare("v2", 10.0, True)))


class World:
    """An ArmsWatch with what it says, what it writes down, and a server that takes what it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.said: list[tuple[str, str]] = []
        self.notes: list[dict[str, Any]] = []
        feed = SimpleNamespace(say=lambda text, level="info", kind="": self.said.append((text, level)))
        self.target = target = SimpleNamespace(
            info=TargetInfo("http://x", ("a",), "rvc", None), transport=None, models=("a",), shares=()
        )
        recorder = SimpleNamespace(note=self.notes.append)
        self.watch = ArmsWatch(target, feed, recorder)  # type: ignore[arg-type]
        self.asked: list[tuple[str, dict[str, float]]] = []

        async def change(_: str, __: Any, alias: str, shares: dict[str, float]) -> tuple[SplitInfo, ...]:
            self.asked.append((alias, shares))
            (name, share), *_rest = shares.items()
            other = {"v1": "v2", "v2": "v1"}[name]
            arms = {name: ArmShare(name, share, True), other: ArmShare(other, 100 - share, True)}
            return (SplitInfo("chat", (arms["v1"], arms["v2"])),)

        monkeypatch.setattr(arms_watch, "change_shares", change)

    def tell(self, *splits: SplitInfo) -> None:
        self.watch._told(splits)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def lines(*rows: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows)


def test_there_is_nothing_where_nothing_is_split(world: World) -> None:
    world.watch.take(lines(request(0, "p", 0.0, first=10, last=20)))
    world.watch.look(perf_counter_ns())
    assert world.watch.shown == ()


def test_several_models_are_shown_where_no_arm_is(world: World) -> None:
    world.target.models, world.target.shares = ("a", "lora-1"), (0.75, 0.25)
    rows = [request(n, "p", 0.0, first=10, last=20) for n in range(3)]
    world.watch.take(lines(*rows, request(3, "p", 0.0, first=30, last=50) | {"model": "lora-1"}))
    world.watch.look(perf_counter_ns())
    a, adapter = world.watch.shown
    assert [(one.kind, one.name, one.asked, one.got) for one in (a, adapter)] == [
        ("model", "a", 0.75, 0.75),
        ("model", "lora-1", 0.25, 0.25),
    ]
    assert (adapter.ok, adapter.errors, adapter.ttft_p50, adapter.e2e_mean) == (1, 0, 30.0, 50.0)
    assert steered(world.watch.shown) is None  # no key changes what a scenario sends
    world.target.models = ("a", "b", "c")  # the load goes over to another server, whose models go in turn
    world.watch.look(perf_counter_ns())
    assert [one.asked for one in world.watch.shown[:3]] == [pytest.approx(1 / 3)] * 3
    world.tell(CHAT)
    world.watch.look(perf_counter_ns())
    assert {arm.kind for arm in world.watch.shown} == {"arm"}


def test_each_arm_has_its_share_and_its_figures(world: World) -> None:
    world.tell(CHAT)
    world.watch.attach(SimpleNamespace(on_lines=[], observers=[]), lambda: Slo(ttft_ms=25.0))  # type: ignore[arg-type]
    rows = [request(n, "p", 0.0, first=10 * (n + 1), last=100, arm="v1") for n in range(3)]
    rows += [request(3, "p", 0.0, arm="v2", error="http_503"), request(4, "p", 0.0, error="reset")]
    world.watch.take(lines(*rows))
    world.watch.look(perf_counter_ns())
    v1, v2, none = world.watch.shown
    assert (v1.name, v1.alias, v1.asked, v1.got, v1.up) == ("v1", "chat", 0.9, 0.6, True)
    assert (v1.ok, v1.errors, v1.ttft_p50, v1.e2e_mean) == (3, 0, 20.0, 100.0)
    assert v1.goodput_rps is not None
    assert v1.goodput_rps > 0
    assert (v2.ok, v2.errors, v2.errors_recent, v2.got, v2.ttft_p99) == (0, 1, 1, 0.2, None)
    assert (none.name, none.asked, none.errors) == ("(none)", None, 1)
    assert sum(arm.ok + arm.errors for arm in world.watch.shown) == len(rows)


def test_a_model_behind_two_names_is_an_arm_of_each(world: World) -> None:
    code = SplitInfo("code", (ArmShare("v2", 75.0, True), ArmShare("v3", 25.0, True)))
    world.tell(CHAT, code)
    for n, (alias, arm, count) in enumerate((("chat", "v1", 8), ("chat", "v2", 2), ("code", "v2", 5))):
        rows = [request(n, "p", 0.0, first=10 * (n + 1), last=100, arm=arm) | {"model": alias}] * count
        world.watch.take(lines(*rows))
    world.watch.take(lines(request(9, "p", 0.0, error="reset") | {"model": "code"}))
    world.watch.look(perf_counter_ns())
    shown = [(arm.alias, arm.name, arm.asked, arm.got, arm.ok) for arm in world.watch.shown]
    assert shown == [
        ("chat", "v1", 0.9, pytest.approx(0.8), 8),
        ("chat", "v2", 0.1, pytest.approx(0.2), 2),
        ("code", "v2", 0.75, 1.0, 5),
        ("code", "v3", 0.25, 0.0, 0),
        ("", "(none)", None, pytest.approx(1 / 16), 0),
    ]
    assert [arm.ttft_p50 for arm in world.watch.shown[1:3]] == [20.0, 30.0]
    moved = steered(world.watch.shown)
    assert moved is not None
    assert (moved.alias, moved.name) == ("code", "v3")


def test_what_ended_before_an_arm_s_names_were_told_has_a_row_for_ten_seconds(world: World) -> None:
    world.watch.take(lines(request(0, "p", 0.0, first=10, last=100, arm="v2") | {"model": "chat"}))
    code = SplitInfo("code", (ArmShare("v2", 75.0, True), ArmShare("v3", 25.0, True)))
    world.tell(CHAT, code)
    four = [("chat", "v1"), ("chat", "v2"), ("code", "v2"), ("code", "v3")]
    for later_s, rows in ((0, [*four, ("", "v2")]), (20, four)):
        world.watch.look(perf_counter_ns() + later_s * 10**9)
        assert [(arm.alias, arm.name) for arm in world.watch.shown] == rows
    world.watch.take(lines(request(1, "p", 0.0, first=10, last=100, arm="v2") | {"model": "chat"}))
    world.tell(CHAT)  # the load goes over to a server with one name
    world.watch.look(perf_counter_ns() + 40 * 10**9)
    assert [(arm.alias, arm.name) for arm in world.watch.shown] == four[:2]


def test_what_happens_to_an_arm_is_said(world: World) -> None:
    world.tell(CHAT)
    down = SplitInfo("chat", (CHAT.arms[0], ArmShare("v2", 10.0, False)))
    world.tell(down)
    world.tell(SplitInfo("chat", down.arms, fallback=True))
    world.tell(CHAT)
    world.tell(SplitInfo("chat", (*CHAT.arms[:1], ArmShare("v2", 10.0, False)), fallback=True))
    world.tell(SplitInfo("chat", (ArmShare("v1", 50.0, True), ArmShare("v2", 50.0, False))))
    assert world.said == [
        ("split chat: v1 90 %, v2 10 %", "info"),
        ("arm v2 of chat is down: its requests wait for it or get 503", "error"),
        ("arm v2 of chat is up again", "info"),
        ("arm v2 of chat is down: its requests go to v1", "warn"),
        ("split chat: v1 50 %, v2 50 % (changed elsewhere)", "info"),
    ]


async def test_a_share_is_changed_noted_and_taken_back(world: World) -> None:
    world.tell(CHAT)
    done = world.watch.follow(SetSplit("v2", 50.0), "control")
    assert done.later is not None
    done = await done.later
    assert (done.text, done.inverse) == ("split chat: v2 10 → 50 %", SetSplit("v2", 10.0, "chat"))
    assert world.asked == [("chat", {"v2": 50.0})]
    told = {"cmd": "split", "alias": "chat", "arm": "v2", "share": 50.0, "before": 10.0, "by": "control"}
    assert world.notes == [told]
    assert [arm.asked for arm in world.watch.shown] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (SetSplit("v3", 1.0), "no one arm 'v3'; there are v1 of chat, v2 of chat"),
        (SetSplit("v2", 1.0, "other"), "no one arm"),
        (SetSplit("v2", 101.0), "from 0 to 100"),
        (SetSplit("v2", float("nan")), "from 0 to 100"),
    ],
)
def test_what_can_not_be_is_refused(world: World, command: SetSplit, says: str) -> None:
    with pytest.raises(CommandError, match="splits no name"):
        world.watch.follow(command, "control")
    world.tell(CHAT)
    with pytest.raises(CommandError, match=says):
        world.watch.follow(command, "control")


async def test_what_the_server_has_against_it_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: Any) -> Any:
        raise UserError("split: the shares add up to 120")

    monkeypatch.setattr(arms_watch, "change_shares", refuse)
    world.tell(CHAT)
    done = world.watch.follow(SetSplit("v2", 50.0), "keyboard")
    assert done.later is not None
    with pytest.raises(CommandError, match="add up to 120"):
        await done.later
    assert world.notes == []


async def test_the_server_is_asked_until_it_says_that_it_splits_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Callable[[], Awaitable[tuple[SplitInfo, ...]]]] = []
    asked = asyncio.Event()

    async def splits_of(*_: Any) -> tuple[SplitInfo, ...]:
        answers.append(splits_of)  # type: ignore[arg-type]
        asked.set()
        if len(answers) == 1:
            raise UserError("refused")
        return ()

    monkeypatch.setattr(arms_watch, "splits_of", splits_of)
    monkeypatch.setattr(arms_watch, "LOOK_S", 0.001)
    world.watch.start()
    async with asyncio.timeout(60):
        while len(answers) < 2:
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.05)
    await world.watch.stop()
    assert len(answers) == 2


async def test_arms_go_with_a_target_that_is_not_ours(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arms_watch, "LOOK_S", 0.001)
    world.tell(CHAT)
    world.watch.look(perf_counter_ns())
    assert [arm.name for arm in world.watch.shown] == ["v1", "v2"]
    world.target.info = replace(world.target.info, topology=None)
    world.watch.start()
    await asyncio.sleep(0)
    await world.watch.stop()
    world.watch.look(perf_counter_ns())
    assert not world.watch.shown
    with pytest.raises(CommandError, match="splits no name"):
        world.watch.follow(SetSplit("v2", 50.0), "control")


def test_answers_of_any_kind_are_read() -> None:
    good = b'{"splits":[{"alias":"c","fallback":true,"arms":[{"arm":"a\\u001b","share":250,"up":1}]}]}'
    (split,) = read_splits(good)
    assert split.fallback
    assert (split.arms[0].share, split.arms[0].up, "\x1b" in split.arms[0].name) == (100.0, True, False)
    huge = good.replace(b"250", b"9" * 400)
    for bad in (huge, b"", b"[]", b'{"splits":5}', b'{"splits":[{"alias":"c"}]}', b'{"splits":[5]}', b"\xff"):
        assert read_splits(bad) == ()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], ("", {})),
        (["chat"], ("chat", {})),
        (["chat", "v2=50"], ("chat", {"v2": 50.0})),
        (["v1=40%", "v2=60"], ("", {"v1": 40.0, "v2": 60.0})),
        (["chat", "org/a=b=1"], ("chat", {"org/a=b": 1.0})),
    ],
)
def test_words_of_the_command(words: list[str], found: tuple[str, dict[str, float]]) -> None:
    assert shares_from(words) == found


@pytest.mark.parametrize("words", [["a", "b"], ["v2=50", "chat"], ["v2=x"], ["v2=-1"], ["v2=nan"], ["v2="]])
def test_words_that_are_none(words: list[str]) -> None:
    with pytest.raises(UserError, match=f"^split {words[-1]}"):
        shares_from(words)


def of_two_arms(folder: Path) -> Path:
    rows = [
        request(n, "p", 100.0 * n, lag=0, first=10, last=30, arm="v1", itl_hist=[[300, 4]]) for n in range(9)
    ]
    rows.append(request(9, "p", 900.0, lag=0, first=40, last=90, arm="v2", itl_hist=[[400, 4]]))
    rows.append(request(10, "p", 950.0, lag=0, arm="v2", error="http_503", error_text="down"))
    rows.append(request(11, "p", 990.0, lag=0, error="reset", error_text="gone"))
    change = {"alias": "chat", "arm": "v2", "share": 50.0, "before": 10.0, "by": "control"}
    commands = [run_folder.phase("p", 0.0, 1.0), run_folder.command(0.5, "split", **change)]
    commands.append(run_folder.command(1.0, "stop"))
    return run_folder.make(folder, rows, commands, slo={"ttft_ms": 20.0})


def test_the_arms_of_a_summary_add_up(tmp_path: Path) -> None:
    s = summary.summarise(of_two_arms(tmp_path / "run"))
    arms = s["by_arm"]
    assert list(arms) == ["v1", "v2", "(none)"]
    assert [arm["requests"]["planned"] for arm in arms.values()] == [9, 2, 1]
    assert [arm["share"] for arm in arms.values()] == pytest.approx([9 / 12, 2 / 12, 1 / 12])
    for key in ("planned", "sent", "ok"):
        assert sum(arm["requests"][key] for arm in arms.values()) == s["requests"][key]
    errors = [arm["requests"]["errors"] for arm in arms.values()]
    assert errors == [{}, {"http_503": 1}, {"reset": 1}]
    assert sum(arm["goodput_rps"] or 0 for arm in arms.values()) == pytest.approx(s["goodput_rps"])
    assert (arms["v1"]["kpm"]["ttft_ms"], arms["v2"]["kpm"]["ttft_ms"]) == pytest.approx((10, 40))
    assert sum(arm["itl_ms"]["count"] for arm in arms.values()) == s["itl_ms"]["count"] == 40
    assert arms["v1"]["itl_ms"]["p50"] < arms["v2"]["itl_ms"]["p50"]
    assert s["unread"] == []


def test_the_arms_are_printed_and_on_the_page(tmp_path: Path) -> None:
    folder = of_two_arms(tmp_path / "run")
    s = summary.summarise(folder)
    assert arm_lines(s)[0].startswith("arm v1: 75.0 % of the requests (9), 0 errors; TTFT p50 10")
    assert "<h2>Arms</h2>" in run_page(folder, s)
    assert "v2 (16.7 %)" in run_page(folder, s)


def test_a_run_without_arms_says_nothing_of_them(tmp_path: Path) -> None:
    rows = [request(0, "p", 0.0, lag=0, first=10, last=30)]
    commands = [run_folder.phase("p", 0.0, 1.0), run_folder.command(1.0, "stop")]
    folder = run_folder.make(tmp_path / "run", rows, commands)
    s = summary.summarise(folder)
    assert s["by_arm"] == {}
    assert arm_lines(s) == []
    rows.append(request(1, "p", 0.0, lag=0, first=10, last=30) | {"model": "b"})
    told = arm_lines(summary.summarise(run_folder.make(tmp_path / "two", rows, commands)))
    assert [line.partition(";")[0] for line in told] == [
        f"model {name}: 50.0 % of the requests (1), 0 errors" for name in "ab"
    ]
    assert "<h2>Arms</h2>" not in run_page(folder, s)
