"""The head's view of our Serve applications: every replica is asked, none by chance."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from backends.api.defaults import Defaults, not_here
from backends.api.metrics import Metrics, merge_pages
from backends.api.request import Endpoint
from backends.api.service import Reply, Trace
from backends.api.splits import refuse_unrouted
from backends.cluster.single_call import SingleCall
from backends.process.looks import Looks
from backends.router.router import Router
from backends.serve import serve
from backends.serve.model_app import App
from backends.serve.replica_watch import ReplicaWatch
from backends.serve.scaling import ScaleWatch
from backends.settings.autoscale import Autoscale
from backends.settings.split import NO_SPLITS

log = logging.getLogger("backends.rsc")

WATCH_S = 1.0
ASK_LIMIT_S = 2.0
#: So long is waited for a replica that has not answered yet.
MEET_S = 0.25


class ServeFleet:
    """All replicas of ours, for the control endpoint."""

    def __init__(self, apps: Sequence[App], router: Router, scale: Autoscale | None = None) -> None:
        self.models: Mapping[str, Any] = {app.name: app for app in apps}
        self.splits = NO_SPLITS
        self._apps = list(apps)
        self._router = router
        self._handles: dict[str, Any] = {}  # of replicas that were initialised
        self._meetings: dict[str, asyncio.Task[None]] = {}  # with those that may not be
        self._open: dict[str, bool] = {}  # by model, see `up`
        self._waking: set[str] = set()  # models that Serve scaled to none, until a replica is up again
        self._watches = {app.app: ReplicaWatch(app.name, app.path) for app in apps}
        self._named: SingleCall[list[str]] = SingleCall(serve.named, [])
        #: Hands new defaults to the replicas; None where they take none.
        self.reconfigure: Callable[[Defaults], Awaitable[None]] | None = None
        self._fewest = 1 if scale is None else max(1, scale.min_replicas)  # of an app that is scaled
        self._scaling = None if scale is None else ScaleWatch(apps, scale, self.metrics_page)

    async def configure(self, defaults: Defaults) -> None:
        """See :class:`backends.api.defaults.Configurable`."""
        if self.reconfigure is None:
            raise not_here("rsv")
        await self.reconfigure(defaults)

    async def keep_looking(self) -> None:
        """Keeps :meth:`ready` true to the facts. Never returns."""
        await asyncio.sleep(WATCH_S)
        await Looks(self.look, WATCH_S, "Serve's replicas", log).run()

    async def look(self) -> None:
        for app in self._apps:
            rows = [figures["row"] for figures in await self._ask(app)]
            ready = [row for row in rows if row["state"] == "ready"]
            fewest = app.count if app.fixed else self._fewest
            watch = self._watches[app.app]
            answering = frozenset(row["engine"] for row in ready)
            starting = self._scaling is not None and self._scaling.starts(app.name)
            watch.look(answering, fewest, time.monotonic(), starting=starting)
            app.up = bool(ready)
            app.max_model_len = next((row["max_model_len"] for row in ready), 0)
            app.seen.update(row["engine"] for row in ready)
        for app in self._apps:
            before, now = self._open.get(app.name, False), self._is_open(app)
            self._open[app.name] = now
            if self.splits.fallback and self.splits.aliases_of(app.name) and not (before and now):
                # Serve's proxies are there still, and would have its requests wait for a replica.
                await self._router.admit(app.name, now)
        if self._scaling is not None:
            await self._scaling.look()

    def up(self, model: str) -> bool:
        """Whether a model had a replica that was ready when last asked, or rests: of one that Serve scaled to
        none, a request is what starts one."""
        return self._open.get(model, False)

    async def facts(self) -> dict[str, Any]:
        """Further entries of ``/rvtop/topology`` that change."""
        return {}

    # -- what the control endpoint asks ----------------------------------------------------------------

    def ready(self) -> bool:
        return self._router.pid is not None and all(self.up(app.name) for app in self._apps)

    def restarts(self) -> int:
        return sum(app.restarts for app in self._apps)

    async def engine_rows(self) -> list[dict[str, Any]]:
        answers = await asyncio.gather(*(self._ask(app) for app in self._apps))
        return [figures["row"] for app in answers for figures in app]

    async def metrics_page(self) -> str:
        """All replicas' pages, and as ``engine="queue"`` what waits in Serve for one of them."""
        answers = await asyncio.gather(*(self._ask(app) for app in self._apps))
        pages = [figures["page"] for app in answers for figures in app]
        return merge_pages([*pages, await self._queue_page(answers), self._scaling_page()])

    async def answer(
        self,
        endpoint: Endpoint,
        body: bytes,
        trace: Trace | None = None,
        router_ms: float | None = None,
    ) -> Reply:
        """Only what the router could give to no application comes here."""
        refuse_unrouted(body, self.models, self.splits)

    # -- inside ------------------------------------------------------------------------------------------

    def _rests(self, app: App) -> bool:
        return self._scaling is not None and self._scaling.rests(app.name)

    def _is_open(self, app: App) -> bool:
        """Whether the requests of a model go to Serve: it has a replica, or rests, or Serve, which had scaled
        it to none, starts one and no other arm of its names could answer meanwhile."""
        if self._rests(app):
            self._waking.add(app.name)
            return True
        if app.up:
            # One that Serve ends answers still, and may be gone before the one that it starts is up.
            if self._scaling is None or self._scaling.stays(app.name):
                self._waking.discard(app.name)
            return True
        splits = [[arm.model for arm in split.arms] for split in self.splits.splits]
        beside = {model for models in splits if app.name in models for model in models}
        return app.name in self._waking and not any(one.up for one in self._apps if one.name in beside)

    def _scaling_page(self) -> str:
        return "" if self._scaling is None else self._scaling.page()

    async def _queue_page(self, answers: Sequence[Sequence[dict[str, Any]]]) -> str:
        in_flight = await self._router.in_flight()
        queue = Metrics()
        for app, replicas in zip(self._apps, answers, strict=True):
            inside = sum(figures["row"].get("in_flight", 0) for figures in replicas)
            queue.set_waiting("queue", app.name, max(0, in_flight.get(app.name, 0) - inside))
        return queue.page()

    async def _ask(self, app: App) -> list[dict[str, Any]]:
        """What each replica of an application says of itself: ``row`` and ``page``."""
        names = serve.replicas_of(app.app, app.deployment, await self._names())
        for name in {*self._handles, *self._meetings}:
            if name.startswith(_prefix(app)) and name not in names:
                self._handles.pop(name, None)
                self._meetings.pop(name, None)
        return list(await asyncio.gather(*(self._figures(app, name) for name in names)))

    async def _names(self) -> list[str]:
        """Of all actors of Serve; those of before while Ray's head does not tell them."""
        try:
            return await self._named(ASK_LIMIT_S if self._named.last else None)
        except TimeoutError:
            return self._named.last

    async def _figures(self, app: App, name: str) -> dict[str, Any]:
        from ray.exceptions import RayError

        handle = await self._handle(name)
        if handle is not None:
            try:
                async with asyncio.timeout(ASK_LIMIT_S):
                    return await self._says(app, name, handle)
            except (RayError, ValueError, TimeoutError) as error:
                log.debug("%s does not answer: %r", name, error)
        state = "starting" if handle is None else "unreachable"
        return {"row": {"engine": self._engine(app, name), "model": app.name, "state": state}, "page": ""}

    async def _says(self, app: App, name: str, handle: Any) -> dict[str, Any]:
        """What a replica that is up says of itself."""
        return dict(await handle.record_routing_stats.remote())

    def _engine(self, app: App, name: str) -> str:
        """A replica's name among engines."""
        return name.rpartition("#")[2]

    async def _handle(self, name: str) -> Any | None:
        """The replica of that name; None until it is initialised. One without a place in the cluster answers
        nobody, so it is asked aside: the figures of the others do not wait for it."""
        if name not in self._handles:
            meeting = self._meetings.get(name)
            if meeting is None or meeting.done():
                meeting = self._meetings[name] = asyncio.create_task(self._meet(name))
            await asyncio.wait([meeting], timeout=MEET_S)
        return self._handles.get(name)

    async def _meet(self, name: str) -> None:
        from ray.exceptions import RayError

        try:
            async with asyncio.timeout(ASK_LIMIT_S):
                handle = await asyncio.to_thread(serve.replica, name)
                if await handle.was_initialized.remote():
                    await self._met(name, handle)
                    self._handles[name] = handle
        except (RayError, ValueError, TimeoutError) as error:  # ValueError: no such actor any more
            log.debug("%s is not up: %r", name, error)

    async def _met(self, name: str, handle: Any) -> None:
        """What is asked of a replica once."""


def _prefix(app: App) -> str:
    return f"{serve.REPLICA_PREFIX}{app.app}#{app.deployment}"
