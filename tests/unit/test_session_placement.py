"""The plan of a target's models: what of its answer is taken, what is said of it, what the timeline has."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvtop.contract.placement import PlacedModel, Placement, placement_of
from rvtop.contract.snapshot import Event
from rvtop.session import placement_watch
from rvtop.session.events import EventFeed
from rvtop.session.placement_watch import PlacementWatch
from rvtop.target.probe import TargetInfo, with_engines

ROW = {"model": "a", "replicas": 6, "slots": 1, "headroom": 1.2, "reason": "6 of 8 slots"}
FACTS = {"placement": {"number": 1, "moving": 2, "free": 0, "models": [ROW, {**ROW, "headroom": None}]}}
json_like = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*FACTS["placement"], *ROW]), inner),
)


def test_a_plan_is_read() -> None:
    a, b = PlacedModel("a", 6, 1.2, "6 of 8 slots"), PlacedModel("a", 6, None, "6 of 8 slots")
    assert placement_of(FACTS) == Placement(1, 2, (a, b))


@given(json_like)
def test_what_makes_no_sense_is_no_plan(said: Any) -> None:
    made = placement_of({"placement": said})
    assert made is None or all(isinstance(model.replicas, int) for model in made.models)


def test_what_a_server_says_is_made_printable() -> None:
    row = {**ROW, "model": "a\x1b[2J", "reason": "b\x9b" + "x" * 1000}
    made = placement_of({"placement": {"number": 1, "moving": 0, "models": [row]}})
    assert made is not None
    assert made.models[0].name == "a\\x1b[2J"
    assert made.models[0].reason.startswith("b\\x9b")
    assert len(made.models[0].reason) <= 400


def watch(topology: str | None) -> tuple[PlacementWatch, list[Event]]:
    events: list[Event] = []
    info = TargetInfo("http://host:1", ("a",), topology, None)
    target = cast("Any", SimpleNamespace(info=info, transport=None))
    target.learn_engines = lambda facts: setattr(target, "info", with_engines(target.info, facts))
    return PlacementWatch(target, EventFeed(events.append)), events


async def test_each_plan_is_said_once_and_noted_each_second(monkeypatch: pytest.MonkeyPatch) -> None:
    made, events = watch("rvc")
    answers = [json.dumps(FACTS).encode()]
    asked: list[str] = []

    def ask(url: str, *_: object) -> tuple[int, bytes]:
        asked.append(url)
        return 200, answers[-1]

    monkeypatch.setattr(placement_watch, "ask", ask)

    async def seconds(count: int) -> dict[str, Any]:
        row: dict[str, Any] = {"engines": []}
        for _ in range(count):
            row = {"engines": []}
            made.look(row)
            while made._asked is not None and not made._asked.done():
                await asyncio.sleep(0)
        return row

    assert (await seconds(4))["placement"] == {"a": 6}
    assert asked == ["http://host:1/rvtop/topology"] * 2
    assert [event.text for event in events] == ["plan 1: a gets 6 of 8 slots"] * 2
    assert {event.kind for event in events} == {"placement"}
    moved = {"placement": {"number": 2, "moving": 0, "models": [{**ROW, "replicas": 2}]}}
    answers.append(json.dumps(moved).encode())
    assert (await seconds(4))["placement"] == {"a": 2}
    assert events[-1].text == "plan 2: a gets 6 of 8 slots"


@pytest.mark.parametrize("topology", ["rac", None, "rvc"])
async def test_a_server_without_a_plan_is_left_alone(
    topology: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, events = watch(topology)
    asked: list[str] = []

    def ask(url: str, *_: object) -> tuple[int, bytes]:
        asked.append(url)
        return 200, b'{"topology": "rvc"}'

    monkeypatch.setattr(placement_watch, "ask", ask)
    for _ in range(9):
        row: dict[str, Any] = {"engines": []}
        made.look(row)
        while made._asked is not None and not made._asked.done():
            await asyncio.sleep(0)
        assert row == {"engines": []}
    assert len(asked) == (1 if topology == "rvc" else 0)
    assert events == []


async def test_the_stages_of_a_graph_are_noted_each_second(monkeypatch: pytest.MonkeyPatch) -> None:
    made, events = watch("graph")
    stage = {"stage": "embed", "ready": 1, "wanted": 1, "in_flight": 2, "requests": 4, "total_ms": 8.0}
    answers = [stage, stage | {"requests": 6, "total_ms": 18.0}]

    def ask(*_: object) -> tuple[int, bytes]:
        return 200, json.dumps({"stages": [answers.pop(0) if len(answers) > 1 else answers[0]]}).encode()

    monkeypatch.setattr(placement_watch, "ask", ask)
    for _ in range(7):  # asked for every two seconds, without a plan too
        row: dict[str, Any] = {"engines": []}
        made.look(row)
        while made._asked is not None and not made._asked.done():
            await asyncio.sleep(0)
        if made.stages and made.stages[0].ms is not None:
            assert made.stages[0].ms == 5.0
            break
    else:
        raise AssertionError(made.stages)
    row = {"engines": []}
    made.look(row)
    assert row["stages"]["embed"][:2] == [1, 2]
    assert events == []


async def test_engines_that_come_or_go_are_learned_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = watch("rsc")
    up = {"model": "a", "state": "ready", "concurrency": 4, "devices": ["gpu 0"]}
    engines = [{**up, "engine": "rsc-a-1"}]
    asked: list[str] = []

    def ask(url: str, *_: object) -> tuple[int, bytes]:
        asked.append(url)
        return 200, json.dumps({"topology": "rsc", "engines": engines}).encode()

    monkeypatch.setattr(placement_watch, "ask", ask)
    made._target.learn_engines({"engines": engines})

    async def seconds(count: int, *names: str) -> None:
        for _ in range(count):
            made.look({"engines": [{"name": name} for name in names]})
            while made._asked is not None and not made._asked.done():
                await asyncio.sleep(0)

    await seconds(5, "rsc-a-1")
    await seconds(5)  # it tells no figures: it may be down
    assert asked == []
    engines += [{**up, "engine": "rsc-a-2"}, {"engine": "rsc-a-3", "model": "a", "state": "starting"}]
    await seconds(9, "rsc-a-1", "rsc-a-2")
    info = made._target.info
    assert info is not None
    assert dict(info.places) == {"rsc-a-1": 4, "rsc-a-2": 4}
    assert [knob["devices"] for knob in info.knobs] == [1, 1]
    assert len(asked) == 2  # and then no more
    del engines[0]
    await seconds(9, "rsc-a-2")
    assert made._target.info is not None
    assert dict(made._target.info.places) == {"rsc-a-2": 4}


async def test_an_engine_that_cannot_be_reached_for_a_moment_is_what_it_said_before() -> None:
    """Else the verdict would begin anew and its GPUs cost nothing for that moment."""
    up = {"model": "a", "state": "ready", "concurrency": 4, "devices": ["gpu 0"]}
    both = {"engines": [{**up, "engine": "rsc-a-1"}, {**up, "engine": "rsc-a-2"}]}
    info = with_engines(TargetInfo("http://host:1", ("a",), "rsc", None), both)
    away = {"engine": "rsc-a-2", "model": "a", "state": "unreachable"}
    for _ in range(2):
        info = with_engines(info, {"engines": [both["engines"][0], away]})
        assert dict(info.places) == {"rsc-a-1": 4, "rsc-a-2": 4}
        assert [knob["devices"] for knob in info.knobs] == [1, 1]
    assert with_engines(info, {"error": "busy"}) == info
    # Another one of that name, which starts, is not the one before.
    anew = with_engines(info, {"engines": [both["engines"][0], {**away, "state": "starting"}]})
    assert dict(anew.places) == {"rsc-a-1": 4}
    assert with_engines(info, {"engines": []}).knobs == ()


async def test_what_a_server_says_after_the_load_left_it_is_not_taken_for_the_next_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, _ = watch("rsc")
    up = {"model": "a", "state": "ready", "devices": ["gpu 0"], "engine": "rsc-a-1"}
    made._target.learn_engines({"engines": [{**up, "concurrency": 4}]})
    other = replace(made._target.info or TargetInfo("", (), None, None), url="http://host:2")

    def ask(url: str, *_: object) -> tuple[int, bytes]:
        made._target.info = with_engines(other, {"engines": [{**up, "concurrency": 64}]})
        return 200, json.dumps({"engines": [{**up, "concurrency": 4}]}).encode()

    monkeypatch.setattr(placement_watch, "ask", ask)
    made.look({"engines": [{"name": "rsc-a-1"}, {"name": "rsc-a-2"}]})
    assert made._asked is not None
    await made._asked
    assert made._target.info is not None
    assert dict(made._target.info.places) == {"rsc-a-1": 64}


async def test_engines_that_came_are_asked_for_until_the_server_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, _ = watch("rsc")
    up = {"model": "a", "state": "ready", "concurrency": 4, "devices": ["gpu 0"]}
    asked: list[str] = []

    def ask(url: str, *_: object) -> tuple[int, bytes]:
        asked.append(url)
        if len(asked) < 4:
            raise OSError("busy")
        return 200, json.dumps({"engines": [{**up, "engine": "rsc-a-1"}]}).encode()

    monkeypatch.setattr(placement_watch, "ask", ask)
    for _ in range(20):
        made.look({"engines": [{"name": "rsc-a-1"}]})
        while made._asked is not None and not made._asked.done():
            await asyncio.sleep(0)
    assert made._target.info is not None
    assert dict(made._target.info.places) == {"rsc-a-1": 4}
    assert len(asked) == 5
