"""RVC's replicas, started and retired while it serves: each has a placement group of its own.

Whoever changes how many there are (autoscaling here, a plan for several models) makes a
:class:`PlacedReplica` for a free slot of the router, and gives it to
:class:`backends.router.membership.Membership`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from backends.cluster.cluster import ResourceShare
from backends.cluster.node_pages import node_pages
from backends.cluster.places import actor_options, bundle_of, free, reserve
from backends.cluster.vllm_fleet import Replica
from backends.cluster.vllm_service import EngineSpec
from backends.errors import StartFailure
from backends.process.events import Steps
from backends.process.notices import NOTICES
from backends.router.membership import Membership
from backends.router.router import Router
from backends.scaling.counts import Counts
from backends.scaling.scaler import Scaler
from backends.settings.autoscale import Autoscale

log = logging.getLogger("backends.rvc")

# For the answers of a replica that is retired; as long as Serve gives them on rsc and rsv.
RETIRE_S = 120.0
#: States of a replica that is going, or gone but for what Ray still has of it.
LEAVING = ("draining", "stopping", "stopped")


class PlacedReplica(Replica):
    """A replica whose place in the cluster is reserved when it is first started, and given back when it is
    closed."""

    def __init__(self, spec: EngineSpec, share: ResourceShare, turn: asyncio.Semaphore) -> None:
        super().__init__(spec, {}, turn)
        self._share = share

    async def start(self, steps: Steps | None = None) -> None:
        if self._group is None:
            self.status = "pending"
            self._group = await reserve([bundle_of(self._share)])
            self.status = "starting"
            self._options: Mapping[str, Any] = actor_options(self._share, self._group, 0)
        await super().start(steps)

    @property
    def needs(self) -> dict[str, float]:
        return bundle_of(self._share)

    async def close(self) -> None:
        await super().close()
        group, self._group = self._group, None
        if group is not None:
            await free(group)


class ReplicaPool:
    """The replicas of one model. ``makes`` makes one for each of its slots in the router."""

    def __init__(self, model: str, makes: Sequence[Callable[[], Replica]]) -> None:
        self.model = model
        self._makes = list(makes)
        self._replicas: dict[int, Replica] = {}  # by slot
        self._starts: dict[int, asyncio.Task[None]] = {}
        self._retires: dict[int, asyncio.Task[None]] = {}
        self.members: Membership | None = None
        self._said = ""  # why one did not start

    def first(self, count: int) -> list[Replica]:
        """The replicas of the start."""
        self._replicas = {slot: self._makes[slot]() for slot in range(count)}
        return list(self._replicas.values())

    # -- what a Scaler asks ----------------------------------------------------------------------------

    def counts(self) -> Counts:
        states = [replica.status for replica in self._replicas.values()]
        healthy, draining = states.count("ready"), sum(state in LEAVING for state in states)
        return Counts(len(states) - draining, len(states) - healthy - draining, healthy, draining)

    @property
    def moving(self) -> int:
        """Starts and retirements that are under way; a replica that died and starts again is none."""
        return sum(not task.done() for task in [*self._starts.values(), *self._retires.values()])

    @property
    def places(self) -> float | None:
        """What a replica computes at once; None while none has said so."""
        known = [replica.served.info.concurrency for replica in self._replicas.values() if replica.served]
        return float(known[0]) if known else None

    def add(self) -> None:
        """Takes back one that drains, or begins to start one more in the first slot that is free. Nothing
        where the one in the last slot is about to end: the next step finds it free."""
        back = next((n for n in self._retires if self._replicas[n].status == "draining"), None)
        if back is not None:
            self._retires.pop(back).cancel()
            self._replicas[back].status = "ready"
            return
        slot = next((n for n in range(len(self._makes)) if n not in self._replicas), None)
        if slot is None:
            return
        replica = self._replicas[slot] = self._makes[slot]()
        task = self._starts[slot] = asyncio.create_task(self._started(slot, replica))
        task.add_done_callback(lambda _: self._starts.pop(slot, None))

    def retire(self) -> None:
        """Begins to retire one: one that is still starting, else the newest."""
        live = [slot for slot, replica in self._replicas.items() if replica.status not in LEAVING]
        starting = [slot for slot in live if slot in self._starts]
        if starting:
            self._replicas[max(starting)].status = "stopping"
            self._starts[max(starting)].cancel()
        elif live:
            self._replicas[max(live)].status = "draining"
            self._retires[max(live)] = asyncio.create_task(self._retired(max(live)))

    async def close(self) -> None:
        """What has begun is ended; replicas that serve or drain are the fleet's to end."""
        tasks = [*self._starts.values(), *self._retires.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _started(self, slot: int, replica: Replica) -> None:
        assert self.members is not None
        try:
            await self.members.add(replica)
            self._said = ""
        except StartFailure as error:  # tried again after a while
            log.error("%s did not start: %s", replica.engine, error)
            if str(error) != self._said:  # else it fails as it did before
                self._said = str(error)
                NOTICES.say(f"{self.model}: one more replica did not start: {error}", "error")
        finally:
            if replica.status != "ready":
                self._replicas.pop(slot, None)

    async def _retired(self, slot: int) -> None:
        assert self.members is not None
        replica = self._replicas[slot]
        took_s = await self.members.retire(replica, RETIRE_S)
        log.info("%s retired in %.1f s", replica.engine, took_s)
        self._replicas.pop(slot, None)
        self._retires.pop(slot, None)


def scaled(scale: Autoscale, pools: Sequence[ReplicaPool], members: Membership, router: Router) -> Scaler:
    """Begins to scale them, each by its own requests."""
    for pool in pools:
        pool.members = members

    async def pages() -> tuple[str, Sequence[str]]:
        return await members.fleet.metrics_page(), await node_pages() if "gpu_util" in figures else ()

    figures = [rule.figure for rule in scale.rules]
    scaler = Scaler(scale, pools, router.in_flight, pages, members.fleet.wanted, members.fleet.targets)
    scaler.start()
    return scaler
