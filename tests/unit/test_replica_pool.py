"""The replicas of a model, several of which start and retire at once."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from backends.cluster.cluster import ResourceShare
from backends.cluster.vllm_replicas import PlacedReplica, ReplicaPool
from backends.errors import StartFailure
from backends.process.events import Steps
from backends.process.notices import Notices
from backends.router.fleet import Fleet, Member
from backends.router.membership import Membership


class Made:
    """A replica that only has a state."""

    def __init__(self, slot: int) -> None:
        self.engine, self.status, self.served = f"e{slot}", "ready", None


class Members:
    def __init__(self) -> None:
        self.retired: list[str] = []
        self.go = asyncio.Event()

    async def retire(self, member: Made, grace_s: float) -> float:
        self.retired.append(member.engine)
        await self.go.wait()
        return 0.0


async def test_several_that_retire_at_once_are_several() -> None:
    pool = ReplicaPool("m", [cast("Any", lambda slot=slot: Made(slot)) for slot in range(6)])
    pool.members = members = cast("Any", Members())
    pool.first(6)
    for _ in range(4):
        pool.retire()
    counts = pool.counts()
    assert (counts.wanted, counts.healthy, counts.draining) == (2, 2, 4)
    await asyncio.sleep(0)
    assert members.retired == ["e5", "e4", "e3", "e2"]
    members.go.set()
    while pool.counts().draining:
        await asyncio.sleep(0)
    assert pool.counts().wanted == 2


async def test_one_that_is_closed_but_not_gone_yet_is_not_counted_nor_retired_again() -> None:
    pool = ReplicaPool("m", [cast("Any", lambda slot=slot: Made(slot)) for slot in range(3)])
    pool.members = members = cast("Any", Members())
    _, _, last = pool.first(3)
    pool.retire()
    await asyncio.sleep(0)
    last.status = "stopped"  # as Replica.close says, before Ray has ended it
    assert (pool.counts().wanted, pool.moving) == (2, 1)
    pool.retire()
    await asyncio.sleep(0)
    assert members.retired == ["e2", "e1"]
    tasks = list(pool._retires.values())
    members.go.set()
    await asyncio.gather(*tasks)
    assert (pool.counts().wanted, pool.moving) == (1, 0)


async def test_why_one_more_does_not_start_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    notices = Notices()
    monkeypatch.setattr("backends.cluster.vllm_replicas.NOTICES", notices)
    failures: list[StartFailure | None] = [StartFailure("cut short"), StartFailure("cut short"), None]

    class Adding:
        async def add(self, replica: Made) -> None:
            if (failure := failures.pop(0)) is not None:
                replica.status = "stopped"
                raise failure

    pool = ReplicaPool("m", [cast("Any", lambda: Made(0))])
    pool.members = cast("Any", Adding())
    for healthy in (0, 0, 1):
        pool.add()
        await asyncio.gather(*pool._starts.values())
        await asyncio.sleep(0)
        assert pool.counts().healthy == healthy
    rows = [(row["text"], row["level"]) for row in notices.rows()]
    assert rows == [("m: one more replica did not start: cut short", "error")]


async def test_one_that_died_and_starts_again_does_not_move() -> None:
    pool = ReplicaPool("m", [cast("Any", lambda: Made(0))])
    [only] = pool.first(1)
    only.status = "restarting"
    assert (pool.counts().starting, pool.moving) == (1, 0)


def test_a_place_elsewhere_has_all_that_the_first_one_has() -> None:
    replica = PlacedReplica.__new__(PlacedReplica)
    replica._share = ResourceShare("m", 0.5, 0.25, 1, (("slot", 2.0),))
    assert replica.needs == {"CPU": 0.5, "GPU": 0.25, "slot": 2.0}


class Router:
    def __init__(self) -> None:
        self.placed: list[tuple[str, Any]] = []

    async def place(self, slot: str, address: Any) -> None:
        self.placed.append((slot, address))
        if address is not None:
            await asyncio.Event().wait()


class Served(Member):
    closed = False

    async def start(self, steps: Steps | None = None) -> None:
        self.came_up(cast("Any", SimpleNamespace(address=("h", 1), further=(), path="p", info=Info())))

    async def close(self) -> None:
        self.closed = True


class Info:
    engine, max_model_len = "e0", 1


async def test_one_that_is_cancelled_while_the_router_is_told_is_taken_out_again() -> None:
    router = cast("Any", Router())
    fleet = Fleet([], router)
    member = Served("e0", "m", asyncio.Semaphore(1))
    adding = asyncio.create_task(Membership(fleet, router).add(member))
    while not router.placed:
        await asyncio.sleep(0)
    adding.cancel()
    await asyncio.gather(adding, return_exceptions=True)
    assert router.placed == [("e0", ("h", 1)), ("e0", None)]
    assert member.closed
    assert fleet.members == []
