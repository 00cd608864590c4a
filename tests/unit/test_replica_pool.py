"""The replicas of a model, several of which start and retire at once."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from backends.cluster.vllm_replicas import ReplicaPool


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
