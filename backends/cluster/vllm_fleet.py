"""The head's view of RVC's engines: one :class:`Replica` per actor, and the fleet of them behind the control
endpoint. Tokens never come through here; the router takes them straight from the engines."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import aiohttp
import orjson

from backends.api.metrics import merge_pages
from backends.api.request import Endpoint, parse_call
from backends.api.service import Reply
from backends.cluster.calls import as_start_failure, first_lines, kill, within
from backends.cluster.vllm_actor import EngineSpec, Served, VllmActor
from backends.engines.protocol import EngineInfo
from backends.errors import unavailable, unknown_model
from backends.process.events import Steps
from backends.router.haproxy_config import MAX_ROUTED_BODY_BYTES, too_long
from backends.router.router import Router

log = logging.getLogger("backends.rvc")

PLACEMENT_LIMIT_S = 300.0
SCRAPE_LIMIT_S = 2.0
CLOSE_LIMIT_S = 5.0


class Replica:
    """One engine: its actor, which is replaced when it dies, and the slot at the router that it fills."""

    def __init__(self, spec: EngineSpec, options: Mapping[str, Any], turn: asyncio.Semaphore) -> None:
        self.spec = spec
        self.engine, self.model = spec.engine, spec.model
        self.status = "starting"
        self.restarts = 0
        self.served: Served | None = None
        self._options = options  # Ray's: resources and placement
        self._turn = turn
        self._actor: Any = None
        self._dead: Any = None
        self._started = False

    @property
    def info(self) -> EngineInfo:
        assert self.served is not None, "not started"
        return self.served.info

    @property
    def url(self) -> str | None:
        """Where the engine itself answers; None while it does not."""
        if self.served is None or self.status != "ready":
            return None
        assert not isinstance(self.served.address, str)
        host, port = self.served.address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def start(self, steps: Steps | None = None) -> None:
        """Places a new actor, loads and warms up. Raises StartFailure with no actor left."""
        import ray

        steps = steps or Steps(lambda event, **fields: None)
        name = self.spec.engine
        await self._kill_old_actor()
        async with self._turn:
            actor: Any = ray.remote(VllmActor).options(**self._options).remote(self.spec)
            try:
                with as_start_failure(name):
                    async with within(PLACEMENT_LIMIT_S, f"{name}: its place in the cluster is not free"):
                        node = await actor.where.remote()
                with steps.step("weights", f"{name} on node {node[:8]}"), as_start_failure(name):
                    await actor.load.remote()
                with steps.step("warm-up", name), as_start_failure(name):
                    await actor.warm_up.remote()
                with as_start_failure(name):
                    self.served = await actor.serve.remote()
            except BaseException:
                await self._log_of(actor)
                await kill(actor)
                raise
        self._actor, self.status = actor, "ready"
        self.restarts += self._started
        self._started = True

    async def died(self) -> str:
        """Returns when the engine is gone, with the reason in one line."""
        from ray.exceptions import RayError

        try:
            reason = str(await self._actor.died.remote())
        except RayError as error:
            reason = first_lines(error)
        self._dead, self._actor, self.status = self._actor, None, "restarting"
        return reason

    async def drain(self, grace_s: float) -> None:
        """Lets what runs end."""
        from ray.exceptions import RayError

        if self._actor is not None:
            with contextlib.suppress(RayError, TimeoutError):
                async with asyncio.timeout(grace_s + CLOSE_LIMIT_S):
                    await self._actor.drain.remote(grace_s)

    async def close(self) -> None:
        from ray.exceptions import RayError

        actor, self._actor, self.status = self._actor, None, "stopped"
        await self._kill_old_actor()
        if actor is None:
            return
        if self.spec.options.vllm.tensor_parallel > 1:  # several processes, with memory that they share
            with contextlib.suppress(RayError, TimeoutError):
                async with asyncio.timeout(CLOSE_LIMIT_S):
                    await actor.close.remote()
        await kill(actor)

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
            async with asyncio.timeout(SCRAPE_LIMIT_S):
                for line in (await actor.log_lines.remote())[-20:]:
                    log.error("%s: %s", self.spec.engine, line)


@dataclass(frozen=True)
class ModelCard:
    """What ``/v1/models`` says of a model."""

    name: str
    path: str
    max_model_len: int
    created: int = field(default_factory=lambda: int(time.time()))


class Member(Protocol):
    """An engine of a fleet."""

    @property
    def engine(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def restarts(self) -> int: ...
    @property
    def served(self) -> Served | None: ...
    @property
    def url(self) -> str | None: ...
    async def drain(self, grace_s: float) -> None: ...
    async def close(self) -> None: ...


class Fleet:
    """All engines: what the control endpoint asks, and what tells the router of changes."""

    def __init__(self, replicas: Sequence[Member], router: Router, token: str) -> None:
        self.replicas = list(replicas)
        self.models: dict[str, ModelCard] = {}
        self._router = router
        headers = {"Authorization": f"Bearer {token}"}
        self._http = aiohttp.ClientSession(
            headers=headers, timeout=aiohttp.ClientTimeout(total=SCRAPE_LIMIT_S), trust_env=False
        )
        self._placing: set[asyncio.Task[None]] = set()

    def named(self, engine: str) -> Member:
        return next(replica for replica in self.replicas if replica.engine == engine)

    def list_models(self) -> None:
        """Makes ``models`` from the engines, which know their context's length. In the order asked for."""
        for replica in self.replicas:
            served, name = replica.served, replica.model
            if served is not None and name not in self.models:
                self.models[name] = ModelCard(name, served.path, served.info.max_model_len)

    def set_up(self, engine: str, up: bool) -> None:
        """Puts an engine into the router, or takes it out. (What :func:`restart_loop` calls.)"""
        served = self.named(engine).served
        address = served.address if up and served is not None else None
        task = asyncio.create_task(self._router.place(engine, address))
        self._placing.add(task)
        task.add_done_callback(self._placing.discard)

    async def placed(self) -> None:
        """Returns when the router knows of every change so far."""
        await asyncio.gather(*self._placing)

    # -- what the control endpoint asks ----------------------------------------------------------------

    def ready(self) -> bool:
        up = {replica.model for replica in self.replicas if replica.status == "ready"}
        return self._router.pid is not None and up >= {replica.model for replica in self.replicas}

    def restarts(self) -> int:
        return sum(replica.restarts for replica in self.replicas)

    async def engine_rows(self) -> list[dict[str, Any]]:
        return list(await asyncio.gather(*(self._row(replica) for replica in self.replicas)))

    async def metrics_page(self) -> str:
        pages = await asyncio.gather(*(self._get(replica, "/metrics") for replica in self.replicas))
        return merge_pages(page.decode() for page in pages if page is not None)

    async def complete(self, endpoint: Endpoint, body: bytes) -> Reply:
        """Only what the router could give to no engine comes here."""
        if len(body) > MAX_ROUTED_BODY_BYTES:
            raise too_long()
        call = parse_call(endpoint, body)
        if call.model is not None and call.model not in {replica.model for replica in self.replicas}:
            raise unknown_model(call.model)
        raise unavailable("No engine of this model is ready.")

    async def close(self) -> None:
        """Ends all engines."""
        await asyncio.gather(*(replica.close() for replica in self.replicas))
        await self._http.close()

    async def _row(self, replica: Member) -> dict[str, Any]:
        extra = {"restarts": replica.restarts, "url": replica.url}
        page = await self._get(replica, "/rvtop/topology")
        if page is not None:
            return dict(orjson.loads(page)["engines"][0]) | extra
        state = "unreachable" if replica.status == "ready" else replica.status
        if replica.served is None:
            return {"engine": replica.engine, "model": replica.model, "state": state} | extra
        return asdict(replica.served.info) | {"state": state, "running": 0, "waiting": 0} | extra

    async def _get(self, replica: Member, path: str) -> bytes | None:
        """An answer of the engine itself; None when there is none."""
        if (url := replica.url) is None:
            return None
        try:
            async with self._http.get(url + path) as answer:
                return await answer.read() if answer.status == 200 else None
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("%s does not answer %s: %r", replica.engine, path, error)
            return None
