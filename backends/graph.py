"""Topology `graph`: a pipeline of Ray Serve deployments, each with replicas of its own.

    client ──HTTP──▶ HAProxy on the head ──HTTP──▶ LLM replica's own port ──▶ HfEngine
                                          with `rag`: ──handles──▶ embed ──▶ search ──▶ rerank
    /analyze ──▶ HAProxy ──▶ head ──handle──▶ merge ──▶ preprocess, then sentiment ∥ topic

Engine: Hugging Face, one per LLM replica. Where it runs: Serve decides, stage by stage. How a request reaches
it: the router sends it to an LLM replica's own port; that replica asks the stages of retrieval by handles,
one question and some passages each, and streams its tokens past Ray. (A token through a handle would cost a
hop of Ray's each.)

Each stage is scaled on its own (``--stage-replicas``, ``rvtop set embed.replicas=2``), and ``--auto`` splits
the cores or GPUs over them from what they are measured to compute. The head asks every replica what it does
once a second, and tells the router which LLM replicas answer, drain or are gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from typing import Any

from backends.api.defaults import NO_DEFAULTS
from backends.api.http_aiohttp import Post
from backends.cluster.cluster import Node
from backends.errors import UsageError, unavailable
from backends.process.events import Steps
from backends.process.notices import NOTICES
from backends.router.router import Router
from backends.serve import running
from backends.serve.fleet import ServeFleet
from backends.serve.model_app import App
from backends.settings.graph import LLM, RETRIEVAL
from backends.settings.options import Options
from backends.stages import analyze
from backends.stages.apps import Bound, GraphApps
from backends.stages.fleet import GraphFleet, slots_of
from backends.stages.profile import TOKENS, profile, warm_up
from backends.stages.shares import Units, stages_of, units_of
from backends.stages.split import split

NAME = "graph"


class Graph:
    """The stages in Serve."""

    name = NAME

    def __init__(self, options: Options) -> None:
        self._options = options
        self._stages = stages_of(options.graph, index=options.index is not None)
        self._counts = {stage: options.graph.first(stage) for stage in (*self._stages, LLM)}
        self._units: Units | None = None
        self._graph: GraphApps | None = None
        self._fleet: GraphFleet | None = None

    async def prepare(self, stack: AsyncExitStack) -> None:
        """Nothing."""

    def apps(self, run: str, paths: Mapping[str, str], nodes: Sequence[Node]) -> list[App]:
        options = self._options
        units = units_of(options.graph, self._stages, len(options.models), nodes, options.threads)
        shares = [
            replace(units.of(LLM), model=model.name)
            for model in options.models
            for _ in range(options.graph.first(LLM))
        ]
        apps = running.apps_of(run, options, paths, shares, LLM)
        self._units, self._graph = units, GraphApps(run, options, self._stages, units, apps)
        return apps

    def names(self, apps: Sequence[App]) -> list[str]:
        assert self._graph is not None
        return self._graph.names

    async def bind(self, apps: Sequence[App], token: str, steps: Steps) -> Bound:
        assert self._graph is not None
        self._graph.token = token
        return self._graph.bound(self._counts, NO_DEFAULTS)

    def router(self, options: Options, apps: Sequence[App], proxies: running.Proxies, token: str) -> Router:
        return Router(
            options.listener,
            [(app.name, slots_of(number)) for number, app in enumerate(apps)],
            token=token,
            api_key=options.api_key,
            splits=options.split,
        )

    def fleet(self, apps: Sequence[App], router: Router) -> ServeFleet:
        assert self._graph is not None
        self._fleet = GraphFleet(apps, router, self._graph, self._counts)
        return self._fleet

    def posts(self) -> Mapping[str, Post]:
        return {analyze.PATH: self._analyze} if self._options.graph.analyze else {}

    async def open(
        self,
        fleet: ServeFleet,
        router: Router,
        apps: Sequence[App],
        proxies: running.Proxies,
        token: str,
        steps: Steps,
    ) -> None:
        assert self._fleet is not None
        seconds = self._options.graph.profile_s
        with steps.step("warm-up", "each stage once"):
            await self._fleet.look()
            await warm_up(self._fleet, token)
        if seconds is not None:
            await self._split(self._fleet, seconds, token, steps)
        await self._fleet.look()

    def facts(self) -> dict[str, Any]:
        return {"index": self._options.index, "graph": asdict(self._options.graph)}

    async def _split(self, fleet: GraphFleet, seconds: float, token: str, steps: Steps) -> None:
        """Measures the stages, and gives each its replicas. The plan and its reasons are steps of the
        start."""
        assert self._units is not None
        options = self._options
        with steps.step("profile", f"{seconds:g} s, answers of {TOKENS} tokens") as step:
            work, rate = await profile(fleet, seconds, token, options.engine_concurrency or 1)
            step.detail(f"{rate:.3g} requests a second, one replica a stage")
        made = split(work, rate, self._units, {LLM: len(options.models)})
        for stage, reason in made.reasons.items():
            with steps.step(f"plan {stage}", reason):
                NOTICES.say(f"plan: {stage} gets {reason}")
        changed = {stage: n for stage, n in made.replicas.items() if n != self._counts[stage]}
        if changed:
            told = ", ".join(f"{stage} {count}" for stage, count in changed.items())
            with steps.step("replicas", told):
                await fleet.scale(changed)
                await fleet.all_up()
        fleet.plan = made.told

    async def _analyze(self, body: bytes) -> bytes:
        """Answers ``/analyze``. Raises ApiError."""
        text, labels, timings = analyze.checked(body)
        if self._fleet is None or not self._fleet.ready():
            raise unavailable("Not every stage of /analyze has a replica that is ready.")
        return await self._fleet.analyze(text, labels, timings)


async def start(options: Options, steps: Steps) -> running.ServeTopology:
    """Starts or joins a cluster and its Serve, and puts the stages into it. Raises StartFailure,
    UsageError."""
    if options.num_replicas is not None:
        raise UsageError("--num-replicas: each stage has its own; give --stage-replicas llm=N")
    if options.serve.batch is not None:
        raise UsageError("--serve-batch: it is the embedder that batches here; give --embed-batch N")
    named = [stage for stage in RETRIEVAL if stage in options.graph.replicas and options.index is None]
    if named:
        raise UsageError(f"--stage-replicas {named[0]}: without an index it is not there; give --index")
    return await running.start(options, steps, Graph(options))
