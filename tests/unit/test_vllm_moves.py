"""Engines that leave a node, and what becomes of one that retires meanwhile; without Ray."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from backends.cluster import vllm_moves
from backends.cluster.vllm_fleet import Replica
from backends.process.notices import Notices


class Engine(Replica):
    """One whose moving is all that it does; it has the state ``then`` when it has moved."""

    def __init__(self, then: str = "ready") -> None:
        self.engine, self.status, self.then = "vllm-0", "ready", then
        self.served = cast("Any", SimpleNamespace(info=SimpleNamespace(node_id="n", node="h")))
        self.group: Any = "left"
        self.moves = 0

    @property
    def needs(self) -> dict[str, float]:
        return {"CPU": 1.0}

    async def move(self, options: Any) -> Any:
        self.moves += 1
        self.status = self.then
        return "before"

    def take_place(self, group: Any) -> Any:
        left, self.group = self.group, group
        return left


class Fleet:
    def __init__(self, engine: Engine) -> None:
        self.members = [engine]
        self.up: list[str] = []

    def set_up(self, engine: str, up: bool) -> None:
        assert up
        self.up.append(engine)

    async def placed(self) -> None: ...


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The engines that were ended and the groups that were freed."""
    ended: list[str] = []

    async def elsewhere(needs: Any) -> Any:
        return "new", {}

    async def end(actor: Any, grace_s: float) -> None:
        ended.append(actor)

    async def free(group: Any) -> None:
        ended.append(group)

    monkeypatch.setattr(vllm_moves, "_elsewhere", elsewhere)
    monkeypatch.setattr(vllm_moves, "_end", end)
    monkeypatch.setattr(vllm_moves, "free", free)
    monkeypatch.setattr(vllm_moves, "_HANDED_OVER_S", 0.0)
    return ended


async def moved(engine: Engine) -> Fleet:
    fleet = Fleet(engine)
    moves = vllm_moves.Moves(cast("Any", fleet), Notices())
    moves.begin("n", None)
    await asyncio.gather(*moves._tasks)
    return fleet


@pytest.mark.parametrize(("then", "up"), [("ready", ["vllm-0"]), ("draining", []), ("stopping", [])])
async def test_only_one_that_serves_comes_back_into_the_router(
    ended: list[str], then: str, up: list[str]
) -> None:
    engine = Engine(then)
    fleet = await moved(engine)
    assert fleet.up == up
    assert engine.group == "new"
    assert ended == ["before", "left"]


@pytest.mark.parametrize("status", ["draining", "stopping", "restarting"])
async def test_one_that_does_not_serve_is_not_moved(ended: list[str], status: str) -> None:
    engine = Engine()
    engine.status = status
    fleet = await moved(engine)
    assert (engine.moves, fleet.up, ended) == (0, [], [])
