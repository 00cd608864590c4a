"""The load workers of one session: processes here or actors on Ray, and how many of them share the load."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

from rvtop.load.fleet.autoscale import Autoscale
from rvtop.load.fleet.local import PoolError, WorkerPool
from rvtop.load.fleet.ray.clock import NodeClock
from rvtop.load.fleet.ray.pool import RayPool
from rvtop.load.fleet.workers import Workers, cores
from rvtop.load.plan.schedule import PlanEvent
from rvtop.load.worker.messages import Delta, Message, WorkerSpec


class WorkerFleet:
    """``on_delta`` gets the workers' deltas; ``on_lost`` the number of one that ended unasked,
    and why. ``log``: an open file for their stderr."""

    def __init__(
        self,
        workers: Workers,
        spec: WorkerSpec,
        on_delta: Callable[[Delta], None],
        on_lost: Callable[[int, str], None],
        ray_address: str | None = None,
        log: int | None = None,
    ) -> None:
        spec = replace(spec, count=workers.count)
        self._pool: WorkerPool | RayPool = (
            RayPool(spec, on_delta, on_lost, ray_address, log)
            if workers.ray
            else WorkerPool(spec, on_delta, on_lost, log)
        )
        # A limit of requests in flight is shared out: a worker with a share of 0 would drop all of its own.
        limits = [phase.max_in_flight for phase in spec.phases if phase.max_in_flight is not None]
        self._autoscale = Autoscale(min([cores(), *limits])) if workers.auto else None
        self._adding: asyncio.Task[int] | None = None
        self.count = workers.count  # that share the load
        self.why = ""  # the last one was added

    async def start(self) -> None:
        """Starts the workers and waits until all stand by. Raises PoolError."""
        await self._pool.start()

    @property
    def lost(self) -> set[int]:
        """Numbers of those that are gone."""
        return self._pool.lost

    @property
    def adding(self) -> bool:
        """Whether one more is on its way: then :meth:`joined` is worth a look."""
        return self._adding is not None

    @property
    def all_lost(self) -> bool:
        return len(self._pool.lost) >= self._pool.count

    @property
    def clocks(self) -> list[NodeClock]:
        """The clocks of the other nodes that carry workers."""
        return self._pool.clocks if isinstance(self._pool, RayPool) else []

    def send(self, message: Message) -> None:
        """Hands a message to every worker, those to come included."""
        if isinstance(message, PlanEvent) and message.kind == "workers":
            self.count = int(message.value)
        self._pool.send(message)

    def drained(self, latest: Mapping[int, Delta], phase: int) -> bool:
        """Whether every living worker has reported that nothing of ``phase`` is left to send or in flight."""
        deltas = [latest.get(index) for index in range(self.count) if index not in self.lost]
        return all(delta is not None and delta.phase == phase and delta.over for delta in deltas)

    def look(self, cpu: float | None, loop_lag_ms: float | None) -> None:
        """Once a second: begins to add a worker if one is needed (see :mod:`rvtop.load.fleet.autoscale`)."""
        if self._autoscale is None or self._adding is not None or not isinstance(self._pool, WorkerPool):
            return
        why = self._autoscale.look(self.count, cpu, loop_lag_ms)
        if why is not None:
            self.why = why
            self._adding = asyncio.create_task(self._pool.add())

    def joined(self) -> int | None:
        """The number of workers that there should be, once after a new one stands by. Raises PoolError once
        where none could be had; then none is added any more."""
        if self._adding is None or not self._adding.done():
            return None
        adding, self._adding = self._adding, None
        try:
            return adding.result()
        except (PoolError, OSError) as error:
            self._autoscale = None
            raise PoolError(f"no further load worker could be had: {error}") from error

    async def drain(self) -> None:
        """Waits until every worker has ended by itself, after ``stop`` went out; at most some seconds."""
        await self._settle()
        await self._pool.drain()

    async def stop(self) -> None:
        """Ends the workers, by force if need be; what they report until then is read."""
        await self._settle()
        await self._pool.stop()

    def kill(self) -> None:
        """Ends the workers at once; what they have reported until now is read by ``drain`` and ``stop``."""
        self._pool.kill()

    async def _settle(self) -> None:
        if self._adding is not None:
            self._adding.cancel()
            await asyncio.gather(self._adding, return_exceptions=True)
            self._adding = None
