"""The Hugging Face engine as a Ray Serve deployment: one replica is one engine, and the ingress of its
model's application, so that Serve's proxy hands requests to it directly."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from backends.api.admission import Admission
from backends.api.control import Control
from backends.api.defaults import NO_DEFAULTS, Defaults
from backends.api.http_asgi import AsgiApp
from backends.api.metrics import Metrics
from backends.api.render import Renderer
from backends.api.retrieval import open_retrieval
from backends.api.service import Retrieval, ServedModel, Service
from backends.cluster.hf_actor import EngineSpec, make_engine
from backends.cluster.machine import machine_facts
from backends.errors import EngineUnavailable
from backends.errors.text import make_logs_visible
from backends.models.load import resolve_model
from backends.process.events import Steps
from backends.serve.deployment import deployment_config, placement_group
from backends.serve.model_app import App
from backends.serve.scaling import scaled
from backends.settings.environment import KEY_ENV
from backends.settings.options import Options

if TYPE_CHECKING:  # torch
    from backends.engines.hf_stream import Sequence

NAME = "hf"


class HfReplica:
    """Runs in a replica's process. Serve gives it as many requests as it may compute at once; the rest wait
    in Serve's own queue."""

    topology = "rsc"

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, spec: EngineSpec, options: Options, token: str | None
    ) -> None:
        """``token`` is the router's; without a router the environment has the clients' key, if there is one
        (what an application is bound to can be read by every user of the cluster)."""
        from ray import serve

        make_logs_visible()
        context = serve.get_replica_context()
        # Serve numbers replicas anew when some go; their own id is theirs for good, as counters need it.
        spec = replace(spec, engine=f"{spec.engine}-{context.replica_id.unique_id}")
        self._token = token or os.environ.get(KEY_ENV) or None
        self._engine: Any = await asyncio.to_thread(make_engine, spec)
        await asyncio.to_thread(self._engine.warm_up)
        if options.serve.batch is not None:
            self._engine.batcher = Batches(self._engine, options.serve.batch, options.serve.batch_wait_s)
        path = await asyncio.to_thread(resolve_model, spec.source)
        renderer = await asyncio.to_thread(Renderer.load, path, trust_remote_code=spec.trust_remote_code)
        model = ServedModel(
            name=spec.model,
            path=str(path),
            renderer=renderer,
            admission=Admission([self._engine], self.queue_of(options)),
            max_model_len=self._engine.info.max_model_len,
            aliases=options.split.aliases_of(spec.model),
        )
        retrieval = await self.open_retrieval(options)
        self._service = Service([model], metrics=Metrics(), retrieval=retrieval)

    def queue_of(self, options: Options) -> int | None:
        """How many requests may wait in it; None: any number (those that Serve gave it)."""
        return None

    async def open_retrieval(self, options: Options) -> Retrieval | None:
        """What looks up questions."""
        return await open_retrieval(options, Steps(lambda event, **fields: None))

    def __serve_build_asgi_app__(self) -> AsgiApp:
        """What Serve's ingress calls."""
        return AsgiApp(self._service, self._token, Control(self.topology, [self._service]))

    async def Generate(self, request: Any, grpc_context: Any) -> AsyncGenerator[Any, None]:
        """What Serve's gRPC proxy calls, as it does :meth:`Embed`."""
        from backends.rpc import serve_calls

        async with contextlib.aclosing(
            serve_calls.generate(self._service, request, grpc_context, self._token)
        ) as messages:
            async for message in messages:
                yield message

    async def Embed(self, request: Any, grpc_context: Any) -> Any:
        from backends.rpc import serve_calls

        return await serve_calls.embed(self._service, request, grpc_context, self._token)

    async def reconfigure(self, config: dict[str, Any]) -> None:
        """What Serve calls with its `user_config`, at the start and whenever only that changes."""
        await self._service.configure(Defaults(**config))

    async def check_health(self) -> None:
        """What Serve's controller calls; raises when the engine cannot answer."""
        if (await self._engine.state()).status != "ready":
            raise EngineUnavailable(f"engine {self._engine.info.engine} does not answer")

    async def record_routing_stats(self) -> dict[str, Any]:
        """What the head asks each replica for, past Serve's queue: its row of ``/rvtop/topology`` and its
        page of metrics. (Serve's hook for figures that a request router may want; it is the one way to call
        a certain replica.)"""
        (row,) = await self._service.engine_rows()
        (model,) = self._service.models.values()
        row["machine"] = machine_facts()
        return {"row": row, "page": await self._service.metrics_page(), "path": model.path}

    async def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # it never got that far
            await self._service.close()


class Batches:
    """Collects requests by `@serve.batch` and has the engine generate them together. A batch is static: a
    later request waits until its longest generation is over, which vLLM's continuous batching avoids."""

    def __init__(self, engine: Any, size: int, wait_s: float) -> None:
        from ray import serve

        @serve.batch(max_batch_size=size, batch_wait_timeout_s=wait_s)
        async def together(sequences: list[Sequence]) -> list[None]:
            await engine.compute_together(sequences)
            return [None] * len(sequences)

        self._together = together
        self._running: set[asyncio.Task[None]] = set()

    def __call__(self, sequence: Sequence) -> None:
        task = asyncio.ensure_future(self._together(sequence))
        self._running.add(task)
        task.add_done_callback(self._running.discard)


def application(
    spec: EngineSpec,
    options: Options,
    token: str | None,
    resources: dict[str, float],
    app: App,
    defaults: Defaults = NO_DEFAULTS,
) -> Any:
    """The Serve application of one model. ``app.count`` replicas, unless they follow the load. What differs
    from one that is deployed in ``defaults`` alone makes no replica start anew."""
    from ray import serve

    deployment = serve.deployment(
        name=NAME,
        backpressure_config={"status_code": 429, "retry_after_s": 1},
        max_constructor_retry_count=1,
        user_config=asdict(defaults),
        # The figures are for the head; the proxies do not need them.
        request_router_config={"request_routing_stats_period_s": 3600.0},
        **scaled(deployment_config(options, resources, spec.concurrency, app.count), app, options.autoscale),
        **placement_group(options, resources),
    )(serve.ingress()(HfReplica))
    # Without a version Serve takes each deployment for one of new code, whose replicas all start anew.
    deployment._version = app.app
    return deployment.bind(spec, options.for_engines(), token)
