"""Engines behind the router, each with its slot there: what one is to the head, and all of them together.
Tokens never come through here; the router takes them straight from the engines."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import aiohttp

from backends.api.defaults import NO_DEFAULTS, Defaults, not_here
from backends.api.metrics import merge_pages
from backends.api.request import Endpoint
from backends.api.service import Reply, Trace
from backends.api.splits import refuse_unrouted
from backends.engines.protocol import EngineInfo
from backends.process.events import Steps
from backends.router.haproxy_config import MAX_ROUTED_BODY_BYTES, Address, too_long
from backends.router.router import Router
from backends.scaling.counts import Counts
from backends.scaling.counts import page as replicas_page
from backends.settings.split import NO_SPLITS, SplitOptions

log = logging.getLogger("backends.router.fleet")

ASK_LIMIT_S = 2.0
# A profiler writes its traces before it has stopped.
ACT_LIMIT_S = 60.0


@dataclass(frozen=True)
class Served:
    """Where an engine answers, and what it serves. ``further``: where its other processes do,
    and last its gRPC port, in the order of :attr:`Member.slots`."""

    address: Address
    info: EngineInfo
    path: str
    further: tuple[Address, ...] = ()


class Member:
    """An engine, which is started again when it dies. ``turn`` is held while it starts."""

    def __init__(self, engine: str, model: str, turn: asyncio.Semaphore) -> None:
        self.engine = engine
        self.model = model
        self.status = "starting"
        self.restarts = 0
        self.served: Served | None = None
        self.turn = turn
        self._started = False

    @property
    def info(self) -> EngineInfo:
        assert self.served is not None, "not started"
        return self.served.info

    @property
    def url(self) -> str | None:
        """Where others than the router reach the engine; None where they do not."""
        return None

    @property
    def slots(self) -> list[str]:
        """Its slots in the router, one for each process in front of it."""
        return [self.engine]

    async def start(self, steps: Steps | None = None) -> None:
        """Raises StartFailure (UsageError when vLLM refuses an argument) with nothing left of it."""
        raise NotImplementedError

    def came_up(self, served: Served) -> None:
        """It answers."""
        self.served, self.status = served, "ready"
        self.restarts += self._started
        self._started = True

    async def died(self) -> str:
        """Returns when the engine is gone, with the reason in one line."""
        raise NotImplementedError

    async def drain(self, grace_s: float) -> None:
        """Lets what runs end, for at most ``grace_s`` seconds."""
        raise NotImplementedError

    async def close(self) -> None:
        """Ends it."""
        raise NotImplementedError

    async def page(self) -> str | None:
        """Its page of metrics; None while it does not answer."""
        raise NotImplementedError

    async def told(self) -> dict[str, Any] | None:
        """What it says of itself now; None while it does not answer."""
        raise NotImplementedError

    async def act(self, action: str) -> bool | None:
        """Follows one of ``api.control.ACTIONS``: whether it could; None where it has nothing of the kind."""
        return None

    async def configure(self, defaults: Defaults) -> None:
        """Its requests get these from now on, also when it is started again. Raises ApiError."""
        raise not_here("vllm")

    async def row(self) -> dict[str, Any]:
        """What ``/rvtop/topology`` says of it."""
        extra = {"restarts": self.restarts, "url": self.url}
        told = await self.told()
        if told is not None:
            return told | extra | ({"state": self.status} if self.status == "draining" else {})
        state = "unreachable" if self.status == "ready" else self.status
        if self.served is None:
            return {"engine": self.engine, "model": self.model, "state": state} | extra
        return asdict(self.info) | {"state": state, "running": 0, "waiting": 0} | extra


async def answer_of(member: Member, http: aiohttp.ClientSession, url: str) -> bytes | None:
    """What an engine answers at ``url``; None when it does not, or not with 200."""
    try:
        async with http.get(url) as answer:
            return await answer.read() if answer.status == 200 else None
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        level = logging.WARNING if member.status == "ready" else logging.DEBUG
        log.log(level, "%s does not answer %s: %r", member.engine, url, error)
        return None


@dataclass(frozen=True)
class ModelCard:
    """What ``/v1/models`` says of a model."""

    name: str
    path: str
    max_model_len: int
    created: int = field(default_factory=lambda: int(time.time()))


class Fleet:
    """All engines: what the control endpoint asks, and what tells the router of changes."""

    def __init__(self, members: Sequence[Member], router: Router, splits: SplitOptions = NO_SPLITS) -> None:
        self.members = list(members)
        self.splits = splits
        self.models: dict[str, ModelCard] = {}
        self._router = router
        self._placing: set[asyncio.Task[None]] = set()
        # Where replicas follow the load: how many of a model there are to be, and what each is to hold.
        self.wanted: dict[str, int] = {}
        self.targets: dict[str, float] = {}
        self.defaults = NO_DEFAULTS

    async def configure(self, defaults: Defaults) -> None:
        """See :class:`backends.api.defaults.Configurable`. Engines that are added later get them too."""
        await asyncio.gather(*(member.configure(defaults) for member in self.members))
        self.defaults = defaults

    def counts(self) -> dict[str, Counts]:
        """How many replicas each model has."""
        models = dict.fromkeys([*self.models, *(member.model for member in self.members)])
        return {model: self._counts(model) for model in models}

    def _counts(self, model: str) -> Counts:
        states = [member.status for member in self.members if member.model == model]
        healthy, draining = states.count("ready"), states.count("draining") + states.count("stopping")
        wanted = self.wanted.get(model, len(states) - draining)
        pending = states.count("pending")
        return Counts(wanted, len(states) - healthy - draining, healthy, draining, pending)

    def named(self, engine: str) -> Member:
        return next(member for member in self.members if member.engine == engine)

    def list_models(self) -> None:
        """Makes ``models`` from the engines, which know their context's length. In the order asked for."""
        for member in self.members:
            served, name = member.served, member.model
            if served is not None and name not in self.models:
                self.models[name] = ModelCard(name, served.path, served.info.max_model_len)

    def set_up(self, engine: str, up: bool) -> None:
        """Puts an engine into the router, or takes it out. (What ``restart_loop`` calls.)"""
        member = self.named(engine)
        addresses: Sequence[Address | None] = [None] * len(member.slots)
        if up and member.served is not None:
            addresses = [member.served.address, *member.served.further]
        for slot, address in zip(member.slots, addresses, strict=True):
            task = asyncio.create_task(self._router.place(slot, address))
            self._placing.add(task)
            task.add_done_callback(self._placing.discard)

    async def placed(self) -> None:
        """Returns when the router knows of every change so far."""
        await asyncio.gather(*self._placing)

    def up(self, model: str) -> bool:
        """Whether a model has an engine that can answer."""
        return any(member.model == model and member.status == "ready" for member in self.members)

    # -- what the control endpoint asks ----------------------------------------------------------------

    def ready(self) -> bool:
        return self._router.pid is not None and all(self.up(member.model) for member in self.members)

    def restarts(self) -> int:
        return sum(member.restarts for member in self.members)

    async def engine_rows(self) -> list[dict[str, Any]]:
        return list(await asyncio.gather(*(member.row() for member in self.members)))

    async def metrics_page(self) -> str:
        pages = await asyncio.gather(*(member.page() for member in self.members))
        return merge_pages(
            [*(page for page in pages if page is not None), replicas_page(self.counts(), self.targets)]
        )

    async def act(self, action: str) -> bool | None:
        done = await asyncio.gather(*(member.act(action) for member in self.members))
        known = [one for one in done if one is not None]
        return all(known) if known else None

    async def answer(
        self,
        endpoint: Endpoint,
        body: bytes,
        trace: Trace | None = None,
        router_ms: float | None = None,
    ) -> Reply:
        """Only what the router could give to no engine comes here."""
        if len(body) > MAX_ROUTED_BODY_BYTES:
            raise too_long()
        refuse_unrouted(body, {member.model for member in self.members}, self.splits)

    async def close(self) -> None:
        """Ends all engines."""
        await asyncio.gather(*(member.close() for member in self.members))
