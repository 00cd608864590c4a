"""Which engines are behind the router: one is added, one is retired, one that dies is started again.

What adds or retires while requests run (autoscaling, a plan of several models' engines) calls
:meth:`Membership.add` and :meth:`Membership.retire`; neither loses a request.
"""

from __future__ import annotations

import asyncio
import logging
import time

from backends.api.defaults import NO_DEFAULTS
from backends.process.events import Steps
from backends.process.restart import end_restart_loops, restart_loop
from backends.router.fleet import Fleet, Member
from backends.router.router import Router

log = logging.getLogger("backends.router.membership")

# How often it is looked whether a retired engine's requests have ended, and for how many looks in a row none
# must be there: a request may be on its way from the router to the engine.
_LOOK_S = 0.1
_IDLE_LOOKS = 2


class Membership:
    """The engines of ``fleet``, each in the router's slots of its name (``Member.slots``)."""

    def __init__(self, fleet: Fleet, router: Router) -> None:
        self.fleet = fleet
        self._router = router
        self._loops: dict[str, asyncio.Task[None]] = {}
        self._broken: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def add(self, member: Member, steps: Steps | None = None) -> None:
        """Starts an engine and sends requests to it. The router must have had its slots from its start.
        Raises StartFailure with nothing left of it; so does cancelling this."""
        self.fleet.members.append(member)
        try:
            if self.fleet.defaults != NO_DEFAULTS:
                await member.configure(self.fleet.defaults)
            await member.start(steps)
            self.fleet.list_models()
            self.fleet.set_up(member.engine, True)
            await self.fleet.placed()
        except BaseException:
            self.fleet.members.remove(member)
            if member.served is not None:  # the router may have been told
                for slot in member.slots:
                    await self._router.place(slot, None)
            await member.close()
            raise
        self.watch(member)

    def watch(self, member: Member) -> None:
        """From now on an engine that runs is started again when it dies."""
        loop = asyncio.create_task(restart_loop(member, self.fleet))
        loop.add_done_callback(self._ended)
        self._loops[member.engine] = loop

    async def retire(self, member: Member, grace_s: float) -> float:
        """Sends no more requests to an engine, lets those that it has end for at most ``grace_s`` seconds,
        and ends it. Returns the seconds that this took. Cancelled while they end, it gives the engine back,
        which gets requests as before."""
        began = time.monotonic()
        member.status = "draining"
        try:
            loop = self._loops.pop(member.engine, None)
            if loop is not None:  # one that dies meanwhile is not started again
                await end_restart_loops([loop])
            for slot in member.slots:
                await self._router.drain(slot)
            await self._emptied(member, grace_s)
        except asyncio.CancelledError:
            member.status = "ready"
            self.fleet.set_up(member.engine, True)
            self.watch(member)
            raise
        member.status = "stopping"
        for slot in member.slots:
            await self._router.place(slot, None)
        if member in self.fleet.members:
            self.fleet.members.remove(member)
        await member.close()
        return time.monotonic() - began

    async def _emptied(self, member: Member, grace_s: float) -> None:
        idle, until = 0, time.monotonic() + grace_s
        while idle < _IDLE_LOOKS:
            if time.monotonic() > until:
                log.warning("%s: its requests did not end in %g s; they are cut", member.engine, grace_s)
                return
            # While the router is down (None) nothing is known.
            idle = idle + 1 if await self._router.held(member.slots) == 0 else 0
            await asyncio.sleep(_LOOK_S)

    def _ended(self, loop: asyncio.Task[None]) -> None:
        if not loop.cancelled() and not self._broken.done():
            self._broken.set_result(f"an engine's restart loop ended: {loop.exception()!r}")

    async def broken(self) -> str:
        """Returns if a restart loop broke, which only a bug can do."""
        return await asyncio.shield(self._broken)

    async def close(self) -> None:
        """Starts nothing again any more. The engines are the fleet's to end."""
        await end_restart_loops(list(self._loops.values()))
