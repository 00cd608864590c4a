"""RVC's engines leave a node that is announced to go: the successor is up on another node before the engine
of before stops, and that one ends what it has."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from backends.cluster.calls import first_lines, kill
from backends.cluster.places import free, reserve
from backends.cluster.vllm_fleet import Replica
from backends.cluster.vllm_replicas import LEAVING
from backends.errors import StartFailure
from backends.process.notices import NOTICES, Notices
from backends.router.fleet import Fleet

log = logging.getLogger("backends.rvc")

#: Of the time that is left, what stopping the engine of before may take.
_STOP_S = 3.0
#: For requests where no deadline is known.
_GRACE_S = 600.0
#: A request that the router was handing over just when it was told of the successor has arrived by then.
_HANDED_OVER_S = 1.0
_PLACE_LIMIT_S = 30.0


class Moves:
    """Those of one fleet."""

    def __init__(self, fleet: Fleet, notices: Notices = NOTICES) -> None:
        self._fleet = fleet
        self._notices = notices
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, node_id: str, left_s: float | None) -> None:
        """Moves the engines of a node, which goes in ``left_s`` seconds (None: nobody says when)."""
        until = None if left_s is None else asyncio.get_running_loop().time() + left_s
        for member in self._fleet.members:
            if not isinstance(member, Replica) or member.status != "ready":
                continue  # one that retires ends where it is
            if member.served is not None and member.info.node_id == node_id:
                task = asyncio.create_task(self._move(member, until))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Moves that are under way end where they are; what they started goes with the fleet or the job."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _move(self, member: Replica, until: float | None) -> None:
        name = member.engine
        try:
            group, options = await _elsewhere(member.needs)
        except StartFailure as error:
            self._notices.say(f"{name} cannot move, and ends with its node: {error}", "error")
            return
        try:
            before = await member.move(options)
        except BaseException as error:
            await free(group)
            if not isinstance(error, StartFailure):
                raise
            if member.status in LEAVING:  # it retired meanwhile
                return
            self._notices.say(f"{name} cannot move, and ends with its node: {error}", "error")
            return
        left = member.take_place(group)
        if member.status == "ready":  # else it retires since, and the successor is closed with it
            self._fleet.set_up(name, True)
            await self._fleet.placed()
            self._notices.say(
                f"{name} answers on node {member.info.node}; the one before it ends its requests"
            )
            await asyncio.sleep(_HANDED_OVER_S)
        now = asyncio.get_running_loop().time()
        await _end(before, _GRACE_S if until is None else max(0.0, until - now - _STOP_S))
        if left is not None:
            await free(left)


async def _elsewhere(needs: dict[str, float]) -> tuple[Any, dict[str, Any]]:
    """A place for one engine (Ray puts nothing onto a node that is to go), and the options of an actor there.
    Raises StartFailure."""
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    group = await reserve([needs], limit_s=_PLACE_LIMIT_S)
    strategy = PlacementGroupSchedulingStrategy(
        group, placement_group_bundle_index=0, placement_group_capture_child_tasks=True
    )
    return group, {"scheduling_strategy": strategy}


async def _end(actor: Any, grace_s: float) -> None:
    """Lets an engine end what it has, and ends it."""
    from ray.exceptions import RayError

    try:
        async with asyncio.timeout(grace_s + _STOP_S):
            await actor.drain.remote(grace_s)
    except (RayError, TimeoutError) as error:
        log.warning("an engine that moved did not end its requests: %s", first_lines(error))
    await kill(actor)
