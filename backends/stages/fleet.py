"""The head's view of a graph: which LLM replica the router sends requests to, and what every stage's replicas
say of themselves."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from backends.api.defaults import Defaults
from backends.cluster.calls import within
from backends.errors import StartFailure, bad_request
from backends.router.router import Router
from backends.serve import running, serve
from backends.serve.fleet import ServeFleet
from backends.serve.model_app import App
from backends.settings.graph import LLM, MOST_REPLICAS
from backends.stages.apps import GraphApps
from backends.stages.llm import answer_of

log = logging.getLogger("backends.stages.fleet")

#: How long replicas may take to come up when a stage grows.
SCALE_LIMIT_S = 600.0


def slots_of(number: int) -> list[str]:
    """The router's slots for the LLM replicas of the ``number``-th model."""
    return [f"llm-{number}-{place}" for place in range(MOST_REPLICAS)]


class GraphFleet(ServeFleet):
    """``counts`` are the replicas of each stage that there are to be."""

    def __init__(
        self, apps: Sequence[App], router: Router, graph: GraphApps, counts: Mapping[str, int]
    ) -> None:
        super().__init__(apps, router)
        self.counts = dict(counts)
        self._graph = graph
        self._defaults = Defaults()
        self._merge: Any = None  # its handle, once it was asked for
        self._changing = asyncio.Lock()
        self._slots = {app.app: dict.fromkeys(slots_of(number), "") for number, app in enumerate(apps)}
        self._told: dict[str, list[dict[str, Any]]] = {}  # by application and deployment
        #: What `/rvtop/topology` says of the plan, once there is one.
        self.plan: Mapping[str, Any] | None = None
        self.reconfigure = self._set_defaults

    async def look(self) -> None:
        await asyncio.gather(super().look(), *(self._look_at(app) for app in self._graph.stages.values()))
        for app in self._graph.models:
            await self._route(app)

    async def _look_at(self, app: App) -> None:
        app.up = any(figures["row"]["state"] == "ready" for figures in await self._ask(app))

    async def _ask(self, app: App) -> list[dict[str, Any]]:
        self._told[_key(app)] = told = await super()._ask(app)
        return told

    async def _route(self, app: App) -> None:
        """Gives each replica that answers a slot of the router, and takes the slots of those that are
        gone."""
        rows = {_replica(figures): figures for figures in self._told.get(_key(app), ())}
        slots = self._slots[app.app]
        for slot, replica in slots.items():
            if replica and replica not in rows:
                await self._router.place(slot, None)
                slots[slot] = ""
            elif replica and rows[replica]["row"]["state"] == "draining":
                await self._router.drain(slot)
                app.seen.discard(rows[replica]["row"]["engine"])  # what comes later is in nobody's place
        for replica, figures in rows.items():
            if figures["row"]["state"] != "ready" or replica in slots.values():
                continue
            for slot in [slot for slot, held in slots.items() if not held][:1]:
                slots[slot] = replica
                await self._router.place(slot, tuple(figures["address"]))

    def ready(self) -> bool:
        return super().ready() and all(app.up for app in self._graph.stages.values())

    async def _queue_page(self, answers: Sequence[Sequence[dict[str, Any]]]) -> str:
        """Nothing: what waits does so in the replicas, and their own pages say it."""
        return ""

    # -- the stages --------------------------------------------------------------------------------------

    async def replicas_of(self, stage: str) -> list[dict[str, Any]]:
        """What the replicas of a stage say now: ``row``, and of the LLM ``passed`` too."""
        apps = self._graph.models if stage == LLM else [self._graph.stages[stage]]
        answers = await asyncio.gather(*(self._ask(app) for app in apps))
        return [figures for app in answers for figures in app]

    def stages(self) -> list[str]:
        """In the order in which a request passes them."""
        known = list(self._graph.stages)
        at = sum(stage in ("embed", "search", "rerank") for stage in known)
        return [*known[:at], LLM, *known[at:]]

    async def facts(self) -> dict[str, Any]:
        """Entries of ``/rvtop/topology``: each stage with its replicas; ``requests`` that passed it since its
        replicas started, and ``total_ms`` of them from call to answer (the LLM's are in its engines'
        pages)."""
        names = self.stages()
        told = dict(zip(names, await asyncio.gather(*map(self.replicas_of, names)), strict=True))
        rows = [self._stage_row(stage, told[stage], told[LLM]) for stage in names]
        return {"stages": rows, **({} if self.plan is None else {"placement": self.plan})}

    def _stage_row(
        self, stage: str, told: Sequence[Mapping[str, Any]], llms: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        replicas = [figures["row"] for figures in told]
        models = len(self._graph.models) if stage == LLM else 1
        row = {
            "stage": stage,
            "wanted": self.counts[stage] * models,
            "ready": sum(replica["state"] == "ready" for replica in replicas),
            "in_flight": sum(replica.get("in_flight", 0) for replica in replicas),
            "replicas": replicas,
        }
        passed = [figures["passed"][stage] for figures in llms if stage in figures.get("passed", {})]
        if passed:
            row |= {"requests": sum(n for n, _ in passed), "total_ms": round(sum(ms for _, ms in passed), 3)}
        return row

    async def scale(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Has stages get other numbers of replicas; returns all, before new ones answer. No replica of
        another stage is touched. Raises ApiError (400) for a stage that is not there, or more than there is
        room for."""
        known = self.stages()
        for stage, count in counts.items():
            if stage not in known:
                raise bad_request(f"`{stage}` is no stage here; there are {', '.join(known)}.", stage)
            if not 1 <= count <= MOST_REPLICAS:
                raise bad_request(f"{stage}: there can be 1 to {MOST_REPLICAS} replicas.", stage)
        async with self._changing:
            self._graph.check({**self.counts, **counts})
            self.counts |= counts
            for app in self._graph.models:
                app.count = self.counts[LLM]
            await self._deploy()
        return {stage: self.counts[stage] for stage in known}

    async def all_up(self) -> None:
        """Returns when each stage has the replicas that it is to have, or after SCALE_LIMIT_S. Raises
        StartFailure then."""
        until = time.monotonic() + SCALE_LIMIT_S
        while short := [row for row in (await self.facts())["stages"] if row["ready"] != row["wanted"]]:
            if time.monotonic() > until:
                told = ", ".join(f"{row['stage']} {row['ready']} of {row['wanted']}" for row in short)
                raise StartFailure(f"not all replicas were up after {SCALE_LIMIT_S:g} s: {told}")
            await asyncio.sleep(serve.POLL_S)

    async def _set_defaults(self, defaults: Defaults) -> None:
        """Hands them to the LLMs by Serve's `user_config`."""
        async with self._changing:
            self._defaults = defaults
            await self._deploy()
            names = [app.app for app in self._graph.models]
            async with within(running.CONFIGURE_LIMIT_S, "the replicas did not take the new defaults"):
                while not await asyncio.to_thread(serve.check_deployed, names):
                    await asyncio.sleep(serve.POLL_S)

    async def _deploy(self) -> None:
        await running.to_the_end(serve.deploy, self._graph.bound(self.counts, self._defaults))

    async def analyze(self, text: str, labels: Mapping[str, list[str]], timings: bool) -> bytes:
        """The body of an answer of ``/analyze``. Raises ApiError."""
        from ray import serve as ray_serve

        if self._merge is None:
            self._merge = ray_serve.get_deployment_handle("merge", self._graph.stages["merge"].app)
        call = self._merge.analyze.remote(text, dict(labels), timings)
        body: bytes = await answer_of("merge", call)
        return body


def _key(app: App) -> str:
    return f"{app.app}#{app.deployment}"


def _replica(figures: Mapping[str, Any]) -> str:
    """A replica's own id, whether it answered or not."""
    row = figures["row"]
    return str(row.get("replica", row["engine"]))
