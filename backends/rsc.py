"""Topology `rsc`: Hugging Face engines as replicas of a Ray Serve deployment.

    client ──HTTP──▶ HAProxy on the head ──HTTP──▶ Serve's proxy ──▶ Serve's router ──▶ replica (HfEngine)

Engine: Hugging Face, one replica per GPU. Where it runs: Serve decides, and follows the load if asked. How a
request reaches it: through Serve's own HTTP proxy and router, which also queue it and refuse it (429).

The public port cannot be Serve's proxy itself: that chooses an application by path, while requests name their
model in the body; on someone's cluster the proxy's port is theirs and our paths have a prefix; and
``/metrics`` through it would come from one replica by chance. So the router that `rvc` has stands in front,
forwarding bytes: it costs both topologies the same tenth of a millisecond, and it counts what is in flight,
from which the length of Serve's queue follows. `/health`, `/metrics`, `/v1/models` and `/rvtop/topology` are
answered here on the head, by asking every replica.

What Serve does its own way: while a model has no replica, requests wait in Serve's queue instead of getting
503, and what Serve refuses (a full queue) has a text of its own, which the router puts into OpenAI's shape.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from backends.api.defaults import NO_DEFAULTS, Defaults
from backends.cluster.calls import within
from backends.cluster.cluster import Node, allocate
from backends.cluster.hf_actor import engine_spec
from backends.process.events import Steps
from backends.router.router import Router
from backends.serve import running, serve
from backends.serve.fleet import ServeFleet
from backends.serve.model_app import App
from backends.serve.replica import application
from backends.settings.options import Options

NAME = "rsc"


class HuggingFace(running.ThroughProxies):
    """Our engine in Serve."""

    name = NAME

    def __init__(self, options: Options) -> None:
        self._options = options
        self._apps: Sequence[App] = ()
        self._token = ""

    async def prepare(self, stack: AsyncExitStack) -> None:
        """Nothing."""

    def apps(self, run: str, paths: Mapping[str, str], nodes: Sequence[Node]) -> list[App]:
        options = self._options
        most = options.autoscale.max_replicas if options.autoscale else options.num_replicas
        names = [spec.name for spec in options.models]
        shares = allocate(names, nodes, replicas=most, threads=options.threads)
        return running.apps_of(run, options, paths, shares)

    async def bind(self, apps: Sequence[App], token: str, steps: Steps) -> dict[str, tuple[str | None, Any]]:
        self._apps, self._token = apps, token
        return self._bound(self._options, NO_DEFAULTS)

    async def _reconfigure(self, defaults: Defaults) -> None:
        """Hands them to the replicas by Serve's `user_config`."""
        options = self._options
        if options.autoscale is not None:  # or Serve would begin again with the number of the start
            options = replace(options, autoscale=replace(options.autoscale, initial_replicas=None))
        await running.to_the_end(serve.deploy, self._bound(options, defaults))
        names = [app.app for app in self._apps]
        async with within(running.CONFIGURE_LIMIT_S, "the replicas did not take the new defaults"):
            while not await asyncio.to_thread(serve.check_deployed, names):
                await asyncio.sleep(serve.POLL_S)

    def _bound(self, options: Options, defaults: Defaults) -> dict[str, tuple[str | None, Any]]:
        apps, token = self._apps, self._token
        bound: dict[str, tuple[str | None, Any]] = {}
        for number, app in enumerate(apps):
            spec = engine_spec(number, app.share, options)
            if options.serve.batch is not None:
                spec = replace(spec, concurrency=options.serve.batch)
            resources = {"num_cpus": app.share.num_cpus, "num_gpus": app.share.num_gpus}
            bound[app.app] = app.prefix, application(spec, options, token, resources, app, defaults)
        return bound

    def fleet(self, apps: Sequence[App], router: Router) -> ServeFleet:
        fleet = ServeFleet(apps, router, self._options.autoscale)
        fleet.reconfigure = self._reconfigure
        return fleet

    def facts(self) -> dict[str, Any]:
        return {"index": self._options.index}


async def start(options: Options, steps: Steps) -> running.ServeTopology:
    """Starts or joins a cluster and its Serve, and puts our engine into it. Raises StartFailure,
    UsageError."""
    return await running.start(options, steps, HuggingFace(options))
