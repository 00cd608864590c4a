"""The head's view of RVC's engines: one :class:`Replica` per actor."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Any

import aiohttp
import orjson

from backends.api.defaults import NO_DEFAULTS, Defaults
from backends.cluster.calls import as_start_failure, first_lines, kill, within
from backends.cluster.places import PLACEMENT_LIMIT_S
from backends.cluster.vllm_actor import VllmActor
from backends.cluster.vllm_service import EngineSpec
from backends.errors import ApiError, StartFailure, unavailable
from backends.models.weights import damage
from backends.process.events import Steps
from backends.router.fleet import ACT_LIMIT_S, ASK_LIMIT_S, Member, Served, answer_of
from backends.rpc.beside import SUFFIX
from backends.settings.accelerators import reserved

log = logging.getLogger("backends.rvc")

CLOSE_LIMIT_S = 5.0


def slots_of(engine: str, fronts: int) -> list[str]:
    """Names of the router's slots for the front processes of an engine."""
    return [engine, *(f"{engine}.{number}" for number in range(1, fronts))]


class Replica(Member):
    """One engine: its actor, which is replaced when it dies."""

    def __init__(self, spec: EngineSpec, options: Mapping[str, Any], turn: asyncio.Semaphore) -> None:
        super().__init__(spec.engine, spec.model, turn)
        self.spec = spec
        self._options = options  # Ray's: resources and placement
        self._group: Any = None  # a placement group of its own, where it has one
        self._actor: Any = None
        self._defaults = NO_DEFAULTS
        self._dead: Any = None
        self._http = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {spec.token}"},
            timeout=aiohttp.ClientTimeout(total=ASK_LIMIT_S),
            trust_env=False,
        )

    @property
    def url(self) -> str | None:
        if self.served is None or self.status not in ("ready", "draining"):
            return None
        assert not isinstance(self.served.address, str)
        host, port = self.served.address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def slots(self) -> list[str]:
        return slots_of(self.engine, self.spec.fronts) + [self.engine + SUFFIX] * self.spec.grpc

    async def start(self, steps: Steps | None = None) -> None:
        """Places a new actor, loads and warms up."""
        await self._kill_old_actor()
        self._actor, served = await self._brought_up(self._options, steps)
        self.came_up(served)

    async def move(self, options: Mapping[str, Any]) -> Any:
        """Starts the engine once more, where ``options`` (of Ray) say, and is that one from then on. Returns
        the actor of before, which goes on with the requests that it has. Raises StartFailure with nothing
        changed."""
        before = self._actor
        options = {**self._options, **options}
        actor, served = await self._brought_up(options)
        if before is None or self._actor is not before:  # it died meanwhile, and is started again
            await kill(actor)
            raise StartFailure(f"{self.engine} died before its successor was up")
        self._actor, self._options, self.served = actor, options, served
        return before

    def take_place(self, group: Any) -> Any:
        """Its place is that placement group from now on. Returns the group of its own that it leaves, or
        None."""
        before, self._group = self._group, group
        return before

    @property
    def needs(self) -> dict[str, float]:
        """The resources that Ray reserves for it."""
        return reserved(self._options)

    async def _brought_up(self, options: Mapping[str, Any], steps: Steps | None = None) -> tuple[Any, Served]:
        """An actor that serves. Raises StartFailure with nothing left of it."""
        import ray

        steps = steps or Steps(lambda event, **fields: None)
        name = self.spec.engine
        if wrong := damage(self.spec.source):  # here, sooner than a process on its node could say
            raise StartFailure(f"{wrong}; copy that file here again")
        async with self.turn:
            actor: Any = ray.remote(VllmActor).options(**options).remote(self.spec)
            try:
                with as_start_failure(name):
                    async with within(PLACEMENT_LIMIT_S, f"{name}: its place in the cluster is not free"):
                        node = await actor.where.remote()
                with steps.step("weights", f"{name} on node {node[:8]}"), as_start_failure(name):
                    await actor.load.remote()
                with steps.step("warm-up", name), as_start_failure(name):
                    await actor.warm_up.remote()
                with as_start_failure(name):
                    served: Served = await actor.serve.remote()
                    if self._defaults != NO_DEFAULTS:
                        await actor.configure.remote(self._defaults)
            except BaseException:
                await self._log_of(actor)
                await kill(actor)
                raise
        return actor, served

    async def died(self) -> str:
        from ray.exceptions import RayError

        while True:
            actor = self._actor
            if actor is None:  # it was to go while it started anew, and was taken back
                self.status = "restarting"
                return "it had not come back yet"
            try:
                reason = str(await actor.died.remote())
            except RayError as error:
                reason = first_lines(error)
            if self._actor is None or self._actor is actor:  # else it has moved: that was the one before
                break
        self._dead, self._actor, self.status = self._actor, None, "restarting"
        return reason

    async def drain(self, grace_s: float) -> None:
        from ray.exceptions import RayError

        if self._actor is not None:
            with contextlib.suppress(RayError, TimeoutError):
                async with asyncio.timeout(grace_s + CLOSE_LIMIT_S):
                    await self._actor.drain.remote(grace_s)

    async def close(self) -> None:
        from ray.exceptions import RayError

        actor, self._actor, self.status = self._actor, None, "stopped"
        await self._http.close()
        await self._kill_old_actor()
        if actor is None:
            return
        if self.spec.options.vllm.workers > 1:  # several processes, with memory that they share
            with contextlib.suppress(RayError, TimeoutError):
                async with asyncio.timeout(CLOSE_LIMIT_S):
                    await actor.close.remote()
        await kill(actor)

    async def page(self) -> str | None:
        page = await self._get("/metrics")
        return None if page is None else page.decode()

    async def told(self) -> dict[str, Any] | None:
        page = await self._get("/rvtop/topology")
        return None if page is None else dict(orjson.loads(page)["engines"][0])

    async def act(self, action: str) -> bool | None:
        from ray.exceptions import RayError

        actor = self._actor
        if actor is None:
            return False
        try:
            async with asyncio.timeout(ACT_LIMIT_S):
                return await actor.act.remote(action)  # type: ignore[no-any-return]
        except (RayError, TimeoutError) as error:
            log.warning("%s: %s failed: %s", self.engine, action, first_lines(error))
            return False

    async def configure(self, defaults: Defaults) -> None:
        from ray.exceptions import RayError

        if self.spec.fronts > 1:
            raise ApiError(
                409,
                "Defaults can't be set with --front-processes above 1: only one of them would have them.",
                type="ConflictError",
            )
        self._defaults = defaults
        if self._actor is None:
            return  # it gets them when it is up
        try:
            async with asyncio.timeout(ASK_LIMIT_S):
                await self._actor.configure.remote(defaults)
        except (RayError, TimeoutError) as error:
            raise unavailable(f"{self.engine} does not answer: {first_lines(error)}") from error

    async def _get(self, path: str) -> bytes | None:
        return None if self.url is None else await answer_of(self, self._http, self.url + path)

    async def _kill_old_actor(self) -> None:
        """Its engine is dead, or it is cut off and must not come back beside its successor."""
        actor, self._dead = self._dead, None
        if actor is not None:
            await kill(actor)

    async def _log_of(self, actor: Any) -> None:
        """Copies the last lines of the engine's log to ours, the first place where a user looks for the
        reason."""
        from ray.exceptions import RayError

        with contextlib.suppress(RayError, TimeoutError):
            async with asyncio.timeout(ASK_LIMIT_S):
                for line in (await actor.log_lines.remote())[-20:]:
                    log.error("%s: %s", self.spec.engine, line)
