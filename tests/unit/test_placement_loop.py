"""Replicas that are kept at what the plan says: with pools of made-up replicas, in virtual time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from backends.cluster.placement_loop import AutoPlacer
from backends.cluster.placement_mix import Ended, Replanner
from backends.cluster.placement_plan import Capacity, ModelLoad, Profile, Slo


@dataclass
class Count:
    wanted: int


@dataclass
class Pool:
    model: str
    count: Count
    fails: bool = False
    moving: int = 0
    did: list[str] = field(default_factory=list)

    def counts(self) -> Count:
        return self.count

    def add(self) -> None:
        self.did.append("add")
        if not self.fails:
            self.count.wanted += 1
            self.moving += 1

    def retire(self) -> None:
        self.did.append("retire")
        self.count.wanted -= 1
        self.moving += 1

    async def close(self) -> None:
        self.did.append("close")


class World:
    """A router that counts ``rates``, and two pools."""

    def __init__(self, **rates: float) -> None:
        self.now = 0.0
        self.down = False
        self.rates = rates
        self.total = dict.fromkeys(rates, 0.0)
        profile = Profile(places=4, base_ms=20.0, prefill_ms=20.0)
        loads = [ModelLoad(name, rate, 40.0, profile) for name, rate in rates.items()]
        self.planner = Replanner(loads, Capacity((8,)), Slo(500.0))
        self.pools = {name: Pool(name, Count(n)) for name, n in self.planner.plan.replicas.items()}
        self.wanted: dict[str, int] = {}
        self.placer = AutoPlacer(
            self.planner, list(self.pools.values()), self, self.wanted, clock=lambda: self.now
        )

    async def arrived(self) -> Mapping[str, int]:
        return {} if self.down else {name: round(count) for name, count in self.total.items()}

    async def held(self) -> Mapping[str, int]:
        return {}

    async def ended(self) -> Mapping[str, tuple[str, Ended]]:
        return {}

    async def seconds(self, count: int) -> None:
        for _ in range(count):
            self.now += 1.0
            self.total = {name: n + self.rates[name] for name, n in self.total.items()}
            await self.placer.look()

    @property
    def there(self) -> dict[str, int]:
        return {name: pool.count.wanted for name, pool in self.pools.items()}


async def test_replicas_move_when_the_mix_flips_and_wait_until_they_have() -> None:
    world = World(a=24.0, b=6.0)
    assert world.there == {"a": 6, "b": 2}
    await world.seconds(30)
    assert world.pools["a"].did == world.pools["b"].did == []
    world.rates = {"a": 6.0, "b": 24.0}
    await world.seconds(9)
    assert world.there == world.wanted == {"a": 2, "b": 6}
    assert world.pools["a"].did == ["retire"] * 4
    assert world.pools["b"].did == ["add"] * 4
    facts = world.placer.facts()["placement"]
    assert (facts["number"], facts["moving"]) == (2, 8)
    assert [plan["why"] for plan in facts["plans"]] == ["start", "mix"]
    world.rates = {"a": 24.0, "b": 6.0}
    await world.seconds(20)
    assert world.there == {"a": 2, "b": 6}, "they still move"
    for pool in world.pools.values():
        pool.moving = 0
    await world.seconds(9)
    assert world.there == {"a": 6, "b": 2}


async def test_a_start_that_fails_is_tried_again_ever_later() -> None:
    world = World(a=24.0, b=6.0)
    pool = world.pools["a"]
    pool.count.wanted, pool.fails = 5, True  # one failed to start, and still does
    await world.seconds(60)
    assert 5 <= len(pool.did) <= 8
    pool.fails = False
    await world.seconds(40)
    assert pool.count.wanted == 6


async def test_nothing_moves_while_the_router_is_down() -> None:
    world = World(a=24.0, b=6.0)
    world.down = True
    world.rates = {"a": 6.0, "b": 24.0}
    await world.seconds(30)
    assert world.there == {"a": 6, "b": 2}


async def test_what_is_told_is_json_whatever_arrives() -> None:
    world = World(a=5.0, b=0.0)
    told = json.loads(json.dumps(world.placer.facts(), allow_nan=False))["placement"]
    assert [row["headroom"] is None for row in told["models"]] == [False, True]
    assert told["models"][1]["reason"] == "1 of 8 slots: nothing arrives"
    await world.placer.close()
    assert world.pools["a"].did == ["close"]


async def test_one_odd_answer_does_not_end_the_loop() -> None:
    world = World(a=24.0, b=6.0)
    looked, twice = 0, asyncio.Event()

    async def arrived() -> Mapping[str, int]:
        nonlocal looked
        looked += 1
        if looked == 1:
            raise KeyError("what Ray did not say")
        twice.set()
        return {}

    async def pause(_: float) -> None:
        await asyncio.sleep(0)

    world.arrived = arrived  # type: ignore[method-assign]
    placer = AutoPlacer(world.planner, list(world.pools.values()), world, {}, pause=pause)
    placer.start()
    async with asyncio.timeout(10):
        await twice.wait()
    await placer.close()
