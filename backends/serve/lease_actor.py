"""The lease of our Serve applications on someone's cluster.

Serve's controller and replicas are detached: they outlive the driver that deployed them. So one small actor,
detached as well, gets a heartbeat from the head; when that stops, it takes our applications out and ends
itself. A head that stops in order does both by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from typing import Any

from backends.cluster.calls import first_lines
from backends.cluster.cluster import NAMESPACE
from backends.serve import serve

log = logging.getLogger("backends.serve.lease_actor")

BEAT_S = 1.0
# Together with the time that replicas take to stop this stays below 15 s.
LAPSE_S = 8.0
TICK_S = 0.5


class LeaseActor:
    """Runs in an actor of its own, without any reserved resources."""

    async def __init__(self, apps: Sequence[str], started: bool) -> None:  # type: ignore[misc]  # Ray awaits it
        self._apps = list(apps)
        self._started = started
        self._left = LAPSE_S
        self._watching = asyncio.create_task(self._watch())

    async def beat(self) -> None:
        """The head lives."""
        self._left = LAPSE_S

    async def _watch(self) -> None:
        before = time.monotonic()
        while self._left > 0:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            # When this process itself was suspended, heartbeats are waiting to be handled.
            self._left -= min(now - before, 2 * TICK_S)
            before = now
        log.warning("no heartbeat for %g s: deleting the applications %s", LAPSE_S, ", ".join(self._apps))
        try:
            await asyncio.to_thread(serve.end, self._apps, self._started)
        finally:
            import ray

            ray.kill(ray.get_runtime_context().current_actor)


class ServeLease:
    """The head's end: sends the heartbeats."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self._beating = asyncio.create_task(self._beat())

    @classmethod
    async def take(cls, run: str, apps: Sequence[str], started: bool) -> ServeLease:
        """Starts the lease actor for these applications, before they are deployed."""
        import ray

        actor = (
            ray.remote(LeaseActor)
            .options(
                name=f"rvtop-lease-{run}",
                namespace=NAMESPACE,
                lifetime="detached",
                num_cpus=0,
                max_restarts=-1,
                scheduling_strategy="SPREAD",
            )
            .remote(list(apps), started)
        )
        await actor.beat.remote()
        return cls(actor)

    async def lapsed(self) -> str:
        """Returns when the actor is gone: it has taken our applications out."""
        await asyncio.wait([self._beating])
        return f"the lease on our Serve applications lapsed: no heartbeat came through for {LAPSE_S:g} s"

    async def release(self) -> None:
        """Ends the actor; the applications are the head's to take out."""
        import ray

        self._beating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._beating
        await asyncio.to_thread(ray.kill, self._actor)

    async def _beat(self) -> None:
        from ray.exceptions import ActorDiedError, RayError

        while True:
            await asyncio.sleep(BEAT_S)
            try:
                await self._actor.beat.remote()
            except RayError as error:
                # Of one on a node that was announced to go, Ray says that it died before it starts it again.
                if isinstance(error, ActorDiedError) and not error.preempted:
                    return
                log.warning("heartbeat to the lease actor failed: %s", first_lines(error))
