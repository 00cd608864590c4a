"""Engines added behind the router and retired from it while requests run, and the loop that decides it: real
HAProxy, engines without an engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from backends.cluster.vllm_replicas import ReplicaPool
from backends.engines.protocol import EngineInfo
from backends.errors import StartFailure
from backends.process.events import Steps
from backends.router.fleet import Fleet, Member, Served
from backends.router.membership import Membership
from backends.scaling import scaler as scaling
from backends.scaling.counts import Counts
from backends.scaling.scaler import Scaler
from backends.settings.autoscale import parse
from tests.backends.fake_engine import FakeEngine
from tests.backends.router_bench import CHAT, Bench, bench_of

SLOTS = ["e0", "e1", "e2"]
LIMIT_S = 120


class FakeMember(Member):
    """An engine that starts when ``may_start`` is set, or fails to."""

    def __init__(self, engine: FakeEngine) -> None:
        super().__init__(engine.name, "a", asyncio.Semaphore(1))
        self.fake = engine
        self.may_start = asyncio.Event()
        self.fails = False
        self.closed = False

    async def start(self, steps: Steps | None = None) -> None:
        await self.may_start.wait()
        if self.fails:
            raise StartFailure("no room")
        info = EngineInfo(
            engine=self.engine,
            kind="fake",
            model="a",
            node="n",
            pid=1,
            devices=("cpu",),
            dtype="float32",
            concurrency=2,
            max_model_len=100,
            threads=1,
        )
        self.came_up(Served(self.fake.address, info, ""))

    async def died(self) -> str:
        await asyncio.get_running_loop().create_future()
        return ""

    async def close(self) -> None:
        self.closed, self.status = True, "stopped"

    async def page(self) -> str | None:
        return None

    async def told(self) -> None:
        return None


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async for bench in bench_of([("a", SLOTS)], place=False):
        yield bench


@pytest.fixture
async def members(bench: Bench) -> AsyncIterator[Membership]:
    made = Membership(Fleet([], bench.router), bench.router)
    yield made
    await made.close()


def started(bench: Bench, number: int) -> FakeMember:
    member = FakeMember(bench.engines[number])
    member.may_start.set()
    return member


async def until(true: object) -> None:
    assert callable(true)
    async with asyncio.timeout(LIMIT_S):
        while not true():
            await asyncio.sleep(0.01)


async def test_an_engine_is_added_and_retired_without_a_loss(bench: Bench, members: Membership) -> None:
    first, second = started(bench, 0), started(bench, 1)
    await members.add(first)
    await members.add(second)
    assert {await bench.ask() for _ in range(8)} == {"e0", "e1"}
    bench.engines[1].hold = True
    running = [asyncio.create_task(bench.client.post(CHAT, json={})) for _ in range(8)]
    await until(lambda: bench.engines[1].active >= 2)
    retired = asyncio.create_task(members.retire(second, LIMIT_S))
    await until(lambda: second.status == "draining")
    for _ in range(6):  # new requests go to the other one
        assert await bench.ask() == "e0"
    assert members.fleet.counts()["a"].draining == 1
    assert not retired.done()
    bench.engines[1].hold = False
    bench.engines[1].go.set()
    assert {answer.status_code for answer in await asyncio.gather(*running)} == {200}
    await asyncio.wait_for(retired, LIMIT_S)
    assert second.closed
    assert [member.engine for member in members.fleet.members] == ["e0"]
    await members.add(started(bench, 1))  # into the slot that is free again
    assert {await bench.ask() for _ in range(8)} == {"e0", "e1"}


async def test_one_that_drains_is_taken_back(bench: Bench, members: Membership) -> None:
    first, second = started(bench, 0), started(bench, 1)
    await members.add(first)
    pool = ReplicaPool("a", [lambda: first, lambda: second])
    pool.first(2)
    pool.members = members
    await members.add(second)
    bench.engines[1].hold = True
    running = [asyncio.create_task(bench.client.post(CHAT, json={})) for _ in range(4)]
    await until(lambda: bench.engines[1].active == 2)
    pool.retire()
    await until(lambda: second.status == "draining")
    assert {await bench.ask() for _ in range(4)} == {"e0"}
    pool.add()
    assert pool.counts() == Counts(wanted=2, healthy=2)
    bench.engines[1].hold = False
    bench.engines[1].go.set()
    assert {answer.status_code for answer in await asyncio.gather(*running)} == {200}
    async with asyncio.timeout(LIMIT_S):
        while {await bench.ask() for _ in range(8)} != {"e0", "e1"}:
            await asyncio.sleep(0.01)
    assert not second.closed
    pool.retire()  # and may be retired again
    await until(lambda: second.closed)
    await pool.close()


async def test_what_does_not_end_in_time_is_cut(bench: Bench, members: Membership) -> None:
    first = started(bench, 0)
    await members.add(first)
    bench.engines[0].hold = True
    running = asyncio.create_task(bench.client.post(CHAT, json={}))
    await until(lambda: bench.engines[0].active == 1)
    await members.retire(first, 0.3)
    answer = (await asyncio.gather(running, return_exceptions=True))[0]
    assert isinstance(answer, httpx.HTTPError) or answer.status_code >= 500


async def test_one_that_does_not_start_leaves_nothing(bench: Bench, members: Membership) -> None:
    member = started(bench, 0)
    member.fails = True
    with pytest.raises(StartFailure):
        await members.add(member)
    assert members.fleet.members == []
    assert member.closed


class Load:
    """In place of the router's count of requests."""

    def __init__(self) -> None:
        self.requests = 0

    async def in_flight(self) -> dict[str, int]:
        return {"a": self.requests}


async def no_pages() -> tuple[str, tuple[str, ...]]:
    return "", ()


async def test_the_loop_scales_up_and_down_and_stops_what_starts_first(
    bench: Bench, members: Membership, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaling, "STEP_S", 0.01)
    made: list[FakeMember] = []

    def make(number: int) -> FakeMember:
        made.append(FakeMember(bench.engines[number]))
        return made[-1]

    pool = ReplicaPool("a", [lambda n=n: make(n) for n in range(3)])  # type: ignore[misc]
    (first,) = pool.first(1)
    assert isinstance(first, FakeMember)
    first.may_start.set()
    await members.add(first)
    pool.members = members
    load, scale = Load(), parse("min=1,max=3,up=0,down=0,look_back=0.001")
    scaler = Scaler(scale, [pool], load.in_flight, no_pages, members.fleet.wanted, members.fleet.targets)
    scaler.start()
    try:
        load.requests = 6  # of 2 each: three replicas
        await until(lambda: len(made) == 3)
        counts = members.fleet.counts()["a"]
        assert (counts.wanted, counts.starting, counts.healthy) == (3, 2, 1)
        assert members.fleet.targets == {"a": 2.0}
        made[1].may_start.set()
        await until(lambda: made[1].status == "ready")
        assert {await bench.ask() for _ in range(8)} == {"e0", "e1"}
        load.requests = 3  # two replicas: the one that is still starting goes
        await until(lambda: made[2].closed)
        assert made[1].status == "ready"
        load.requests = 6
        await until(lambda: len(made) == 4)
        made[3].may_start.set()
        await until(lambda: made[3].status == "ready")
        load.requests = 0  # two go at once
        await until(lambda: made[1].closed and made[3].closed)
        assert [member.engine for member in members.fleet.members] == ["e0"]
        assert await bench.ask() == "e0"
    finally:
        await scaler.close()
