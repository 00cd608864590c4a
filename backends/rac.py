"""Topology `rac`: Hugging Face engines in Ray actors, scheduled explicitly.

    client ──HTTP──▶ aiohttp ──▶ admission queue ──▶ least-loaded actor ──▶ HfEngine
                             ◀── tokens by a Ray streaming generator ──

Engine: Hugging Face, one actor per GPU (per share of the cores without one). Where it runs: any node of the
cluster. How a request reaches it: our front chooses among the engines of its model the one with the fewest
requests in flight, in turn among equals. An actor that dies is replaced; until then its model answers 503
only if no other engine has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
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
from backends.cluster.cluster import Cluster, ResourceShare, allocate, open_cluster
from backends.cluster.hf_actor import RayEngine, actor_options, engine_spec
from backends.models.load import resolve_step
from backends.process.events import Steps
from backends.process.restart import restart_loop
from backends.settings.options import ModelSpec, Options

NAME = "rac"


class Rac:
    """A front with engines in a cluster."""

    def __init__(
        self, front: LocalServer, cluster: Cluster, restart_loops: Sequence[asyncio.Task[None]]
    ) -> None:
        self._front = front
        self._cluster = cluster
        self._restart_loops = restart_loops

    async def failed(self) -> str:
        """Returns if the restart loop of an engine broke, which only a bug can do."""
        done, _ = await asyncio.wait(self._restart_loops, return_when=asyncio.FIRST_COMPLETED)
        return f"an engine's restart loop ended: {next(iter(done)).exception()!r}"

    async def close(self, grace_s: float) -> None:
        for task in self._restart_loops:
            task.cancel()
        await asyncio.gather(*self._restart_loops, return_exceptions=True)
        await self._front.close(grace_s)
        await self._cluster.close()


async def start(options: Options, steps: Steps) -> Rac:
    """Starts or joins a cluster, puts the engines into it and serves them on ``options.listener``."""
    server = HttpServer(options.api_key)
    await server.start(options.listener)
    cluster: Cluster | None = None
    engines: list[RayEngine] = []
    try:
        sources = [await resolve_step(spec, steps) for spec in options.models]
        cluster = await open_cluster(options, steps)
        shares = allocate(
            [spec.name for spec in options.models],
            await cluster.nodes(),
            replicas=options.num_replicas,
            threads=options.threads,
        )
        engines = [_engine(number, share, options) for number, share in enumerate(shares)]
        renderers, *_ = await together(
            _renderers(sources, options), *(engine.start(steps) for engine in engines)
        )
        models = [
            _served(spec, source, renderer, engines, options)
            for spec, source, renderer in zip(options.models, sources, renderers, strict=True)
        ]
        service = Service(models, metrics=Metrics(), retrieval=await open_retrieval(options, steps))
        with steps.step("http", options.url):
            facts = {"max_queue": options.max_queue, "index": options.index}
            server.serve(service, Control(NAME, [service], facts, live=cluster.facts))
    except BaseException:
        await server.close()
        await asyncio.gather(*(engine.close() for engine in engines))
        if cluster is not None:
            await cluster.close()
        raise
    restart_loops = [
        asyncio.create_task(restart_loop(engine, service.models[engine.info.model].admission))
        for engine in engines
    ]
    return Rac(LocalServer(server, service), cluster, restart_loops)


def _engine(number: int, share: ResourceShare, options: Options) -> RayEngine:
    return RayEngine(engine_spec(number, share, options), actor_options(share.num_cpus, share.num_gpus))


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
    """Results of all, in order. The first failure cancels the rest and is raised by itself."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(item) for item in work]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]
