"""Keeps several models' replicas at what a plan says, and the plan at what arrives (``--auto-place``).

Each second the router's and the engines' counts are looked at. Where they call for another plan, replicas of
the models with room to spare are retired by drain, and those of the others start as their places become free:
a replica reserves its place itself, and waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from backends.cluster.placement_mix import Ended, Look, Replanner
from backends.cluster.placement_plan import Plan
from backends.process.looks import Looks
from backends.scaling import replicas
from backends.scaling.replicas import Settling

log = logging.getLogger("backends.cluster.placement")

LOOK_S = 1.0
# So many plans are remembered for whoever asks.
_REMEMBERED = 20


class Replicas(replicas.Replicas, Protocol):
    """The replicas of one model, which say what is on its way."""

    @property
    def moving(self) -> int:
        """How many begun by :meth:`add` or :meth:`retire` are not through yet."""
        ...


class Counts(Protocol):
    """What a look reads."""

    async def arrived(self) -> Mapping[str, int]:
        """Requests of each model since the router's start; empty while it is down."""
        ...

    async def held(self) -> Mapping[str, int]:
        """Requests of each model that are in engines."""
        ...

    async def ended(self) -> Mapping[str, tuple[str, Ended]]:
        """Of each engine: its model, and the sums over its requests that ended."""
        ...


class AutoPlacer:
    """``planner`` holds the plan in force. ``clock`` is monotonic, in seconds; ``said`` is called with each
    line worth a log's."""

    def __init__(
        self,
        planner: Replanner,
        pools: Sequence[Replicas],
        counts: Counts,
        wanted: dict[str, int],
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._planner = planner
        self._pools = {pool.model: pool for pool in pools}
        self._counts = counts
        self._wanted = wanted
        self._clock = clock
        self._looks = Looks(self.look, LOOK_S, "what arrives", log, pause)
        self._plans: list[dict[str, Any]] = []
        self._settling = {pool.model: Settling(pool) for pool in pools}
        self._note(planner.plan, "start")

    def start(self) -> None:
        """Begins to look."""
        self._looks.start()

    async def failed(self) -> str:
        """Returns if the loop broke, which only a bug can do."""
        return f"placement ended: {await self._looks.failed()!r}"

    async def close(self) -> None:
        """Moves nothing any more; what it has begun is ended."""
        await self._looks.stop()
        for pool in self._pools.values():
            await pool.close()

    def facts(self) -> dict[str, Any]:
        """What ``/rvtop/topology`` says: the plan in force with today's reasons, what moves, and the plans
        until now, the latest last."""
        return {
            "placement": {
                **rows_of(self._planner.plan),
                "number": len(self._plans),
                "moving": sum(pool.moving for pool in self._pools.values()),
                "plans": self._plans[-_REMEMBERED:],
            }
        }

    async def look(self) -> None:
        """One look, and what follows from it."""
        arrived = await self._counts.arrived()
        if not arrived:  # the router is down, which moves nothing
            return
        held, ended = await asyncio.gather(self._counts.held(), self._counts.ended())
        now = self._clock()
        # Not those that died and start again: they may have no place until the plan changes.
        moving = any(pool.moving for pool in self._pools.values())
        made = self._planner.look(Look(now, arrived, ended, held), at_rest=not moving)
        if made is not None:
            self._note(made, "mix")
            for settling in self._settling.values():
                settling.anew()
        for name, count in self._planner.plan.replicas.items():
            self._wanted[name] = count
            self._settling[name].settle(now, count)

    def _note(self, plan: Plan, why: str) -> None:
        self._plans.append({"at": time.time(), "why": why, "replicas": plan.replicas})
        for assigned in plan.models:
            log.info("plan %d: %s gets %s", len(self._plans), assigned.model, assigned.reason)


def rows_of(plan: Plan) -> dict[str, Any]:
    """A plan as JSON has it: no infinity."""
    return {
        "free": plan.free,
        "models": [
            {
                "model": one.model,
                "replicas": one.replicas,
                "slots": one.slots,
                "memory_bytes": one.memory,
                "headroom": None if math.isinf(one.headroom) else round(one.headroom, 3),
                "reason": one.reason,
            }
            for one in plan.models
        ],
    }
