"""Topology `rac`: Hugging Face engines in Ray actors, scheduled explicitly.

    client ──HTTP──▶ aiohttp ──▶ admission queue ──▶ least-loaded actor ──▶ HfEngine
                             ◀── tokens by a Ray streaming generator ──

Engine: Hugging Face, one actor per GPU (per share of the cores without one). Where it runs: any node of the
cluster. How a request reaches it: the head chooses among the engines of its model the one with the fewest
requests in flight, in turn among equals. An actor that dies is replaced; until then its model answers 503
only if no other engine has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from backends.api.admission import Admission
from backends.api.control import Control
from backends.api.http_aiohttp import HttpServer
from backends.api.local_server import LocalServer
from backends.api.metrics import Metrics
from backends.api.render import Renderer
from backends.api.retrieval import open_retrieval
from backends.api.service import ServedModel, Service
from backends.api.splits import local
from backends.cluster.allocate import allocate
from backends.cluster.cluster import ResourceShare, open_cluster
from backends.cluster.hf_actor import RayEngine, actor_options, engine_spec
from backends.cluster.watch import ClusterWatch
from backends.models.load import resolve_step
from backends.process.events import Steps
from backends.process.restart import end_restart_loops, restart_loop
from backends.rpc import beside
from backends.settings.options import ModelSpec, Options

NAME = "rac"


class Rac:
    """An HTTP server on the head with engines in a cluster."""

    def __init__(
        self,
        server: LocalServer,
        restart_loops: Sequence[asyncio.Task[None]],
        stack: AsyncExitStack,
        watch: ClusterWatch,
    ) -> None:
        self._watch = watch
        self._server = server
        self._restart_loops = restart_loops
        self._stack = stack  # all that was started, to be closed backwards

    async def failed(self) -> str:
        """Returns when the cluster was lost, or if the restart loop of an engine broke, which only a bug can
        do."""
        lost = asyncio.create_task(self._watch.lost_all())
        try:
            ends = [lost, *self._restart_loops]
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            lost.cancel()
        if lost in done:
            return lost.result()
        return f"an engine's restart loop ended: {next(iter(done)).exception()!r}"

    async def close(self, grace_s: float) -> None:
        """Ends everything. Running requests may go on for ``grace_s`` seconds first."""
        async with self._stack:
            await end_restart_loops(self._restart_loops)
            await self._server.close(grace_s)


async def start(options: Options, steps: Steps) -> Rac:
    """Starts or joins a cluster, puts the engines into it and serves them on ``options.listener``."""
    async with AsyncExitStack() as stack:
        return await _start(options, steps, stack)


async def _start(options: Options, steps: Steps, stack: AsyncExitStack) -> Rac:
    """What is started is pushed to ``stack``; the Rac takes it over when all of it runs."""
    server = HttpServer(options.api_key)
    stack.push_async_callback(server.close)
    await server.start(options.listener)
    grpc = await beside.here(options.grpc, options.api_key)
    stack.push_async_callback(grpc.close)
    sources = [await resolve_step(spec, steps) for spec in options.models]
    cluster = await open_cluster(options, steps)
    stack.push_async_callback(cluster.close)
    shares = allocate(
        [spec.name for spec in options.models],
        await cluster.nodes(),
        replicas=options.num_replicas,
        threads=options.threads,
    )
    engines = [_engine(number, share, options) for number, share in enumerate(shares)]
    for engine in engines:
        stack.push_async_callback(engine.close)
    renderers, *_ = await together(_renderers(sources, options), *(engine.start(steps) for engine in engines))
    models = [
        _served(spec, source, renderer, engines, options)
        for spec, source, renderer in zip(options.models, sources, renderers, strict=True)
    ]
    service = Service(models, metrics=Metrics(), retrieval=await open_retrieval(options, steps))
    with steps.step("http", options.url):
        facts = {"max_queue": options.max_queue, "index": options.index}
        splits, chooser = local(options.split, service)
        watch = ClusterWatch(cluster.address, service.engine_rows, ours=cluster.ours)
        control = Control(NAME, [service], facts, live=cluster.facts, splits=splits, cluster=watch.rows)
        await control.as_before()
        server.serve(service, control, chooser)
        grpc.serve(service, control, options.listener.getsockname()[1])
    await stack.enter_async_context(watch.watching())
    restart_loops = [
        asyncio.create_task(restart_loop(engine, service.models[engine.info.model].admission))
        for engine in engines
    ]
    return Rac(LocalServer(server, service, grpc), restart_loops, stack.pop_all(), watch)


def _engine(number: int, share: ResourceShare, options: Options) -> RayEngine:
    return RayEngine(engine_spec(number, share, options), actor_options(share))


async def _renderers(sources: Sequence[Path | str], options: Options) -> list[Renderer]:
    trust = options.trust_remote_code
    return [await asyncio.to_thread(Renderer.load, path, trust_remote_code=trust) for path in sources]


def _served(
    spec: ModelSpec, path: Path | str, renderer: Renderer, engines: Sequence[RayEngine], options: Options
) -> ServedModel:
    own = [engine for engine in engines if engine.info.model == spec.name]
    return ServedModel(
        name=spec.name,
        path=str(path),
        renderer=renderer,
        admission=Admission(own, options.max_queue),
        max_model_len=own[0].info.max_model_len,
    )


async def together(*work: Coroutine[Any, Any, Any]) -> list[Any]:
    """Results of all, in order. The first failure cancels the rest and is raised alone, not in a group."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(item) for item in work]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]
