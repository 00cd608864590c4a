"""What the topologies on Ray Serve have in common: the router in front of Serve's proxies, an application per
model, the lease on them, and how all of it ends. What they differ in is a :class:`Kind`."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Protocol

import aiohttp

from backends.api.control import Control
from backends.api.http_aiohttp import HttpServer, Post
from backends.api.splits import Splits
from backends.cluster.cluster import Node, ResourceShare, open_cluster
from backends.cluster.watch import ClusterWatch
from backends.errors import StartFailure, UsageError
from backends.models.adapters import adapter_folder
from backends.models.load import resolve_step
from backends.process.events import Steps
from backends.router.grpc_config import GrpcFront
from backends.router.router import Router
from backends.rpc import beside
from backends.serve import serve
from backends.serve.deployment import check_memory
from backends.serve.fleet import ServeFleet
from backends.serve.lease_actor import ServeLease
from backends.serve.model_app import App
from backends.serve.replica_watch import hurried
from backends.settings.options import Options

# A replica without a request may be about to get one from Serve's queue.
IDLE_LOOKS = 3
CONFIGURE_LIMIT_S = 30.0


@dataclass(frozen=True)
class Proxies:
    """Where Serve's proxies answer: host and port of those of HTTP; ``grpc_port`` of the same hosts, None
    where no calls are taken."""

    http: Sequence[tuple[str, int]]
    grpc_port: int | None = None


class Kind(Protocol):
    """A topology on Ray Serve."""

    @property
    def name(self) -> str: ...

    async def prepare(self, stack: AsyncExitStack) -> None:
        """Before the cluster: what Ray reads when a node of it starts. What it leaves, ``stack`` ends."""
        ...

    def apps(self, run: str, paths: Mapping[str, str], nodes: Sequence[Node]) -> list[App]:
        """An application per model. ``paths`` are the models' folders."""
        ...

    async def bind(
        self, apps: Sequence[App], token: str, steps: Steps
    ) -> Mapping[str, tuple[str | None, Any]]:
        """What :func:`backends.serve.serve.deploy` takes. ``token`` is the bearer of the router."""
        ...

    def fleet(self, apps: Sequence[App], router: Router) -> ServeFleet: ...

    def facts(self) -> dict[str, Any]:
        """Further entries of ``/rvtop/topology``."""
        ...

    def names(self, apps: Sequence[App]) -> list[str]:
        """All applications of ours, those without a model too."""
        ...

    def posts(self) -> Mapping[str, Post]:
        """Further paths that the head answers to a POST."""
        ...

    def router(self, options: Options, apps: Sequence[App], proxies: Proxies, token: str) -> Router: ...

    async def open(
        self,
        fleet: ServeFleet,
        router: Router,
        apps: Sequence[App],
        proxies: Proxies,
        token: str,
        steps: Steps,
    ) -> None:
        """Once all is deployed: warms it up, and lets the router send requests there."""
        ...


class ThroughProxies:
    """A kind whose requests all go through Serve's HTTP proxies to the application of their model."""

    def names(self, apps: Sequence[App]) -> list[str]:
        """See :class:`Kind`, here and below."""
        return [app.app for app in apps]

    def posts(self) -> Mapping[str, Post]:
        return {}

    def router(self, options: Options, apps: Sequence[App], proxies: Proxies, token: str) -> Router:
        slots = [_slot(number) for number in range(len(proxies.http))]
        calls = [] if proxies.grpc_port is None else [slot + beside.SUFFIX for slot in slots]
        return Router(
            options.listener,
            [(app.name, slots) for app in apps],
            token=token,
            api_key=options.api_key,
            prefixes={app.name: app.prefix for app in apps},
            health_path="/-/healthz",
            splits=options.split,
            adapters=options.lora.model,
            grpc=_grpc_front(options, apps),
            grpc_slots=[(app.name, calls) for app in apps],
        )

    async def open(
        self,
        fleet: ServeFleet,
        router: Router,
        apps: Sequence[App],
        proxies: Proxies,
        token: str,
        steps: Steps,
    ) -> None:
        with steps.step("warm-up", "through Serve"):
            for app in apps:
                await warm_up(app, proxies, token)
        for number, (host, port) in enumerate(proxies.http):
            await router.place(_slot(number), (host, port))
            if proxies.grpc_port is not None:
                await router.place(_slot(number) + beside.SUFFIX, (host, proxies.grpc_port))
        await fleet.look()


def _slot(number: int) -> str:
    return f"serve-{number}"


class ServeTopology:
    """A router on the head in front of Serve's proxies, and our applications in Serve."""

    def __init__(
        self,
        router: Router,
        fleet: ServeFleet,
        lease: ServeLease | None,
        watch: asyncio.Task[None],
        stack: AsyncExitStack,
        cluster_watch: ClusterWatch,
    ) -> None:
        self._cluster_watch = cluster_watch
        self._router = router
        self._fleet = fleet
        self._lease = lease
        self._watch = watch
        self._stack = stack  # all that was started, to be closed backwards

    async def failed(self) -> str:
        """Returns when the cluster was lost, when our lease lapsed (this process was suspended for too long),
        or if the router's restart loop or the watch of replicas broke, which only a bug can do."""
        waits = [
            asyncio.create_task(self._cluster_watch.lost_all()),
            asyncio.create_task(self._router.failed()),
            asyncio.create_task(self._watch_ended()),
        ]
        if self._lease is not None:
            waits.append(asyncio.create_task(self._lease.lapsed()))
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return next(wait for wait in waits if wait in done).result()
        finally:
            for wait in waits:
                wait.cancel()

    async def _watch_ended(self) -> str:
        await asyncio.wait([self._watch])
        return f"the watch of replicas ended: {self._watch.exception()!r}"

    async def close(self, grace_s: float) -> None:
        """Ends everything. Running requests may go on for ``grace_s`` seconds first."""
        async with self._stack:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
            self._router.stop_listening()
            if grace_s > 0:
                await self._drain(grace_s)

    async def _drain(self, grace_s: float) -> None:
        """Lets what runs in replicas end. (A router that stops listening does not say what is in flight.)"""
        idle_looks = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                while idle_looks < IDLE_LOOKS:
                    rows = await self._fleet.engine_rows()
                    idle_looks = 0 if any(row.get("in_flight") for row in rows) else idle_looks + 1
                    await asyncio.sleep(0.1)


async def start(options: Options, steps: Steps, kind: Kind) -> ServeTopology:
    """Starts or joins a cluster and its Serve, puts an application per model into it, and routes
    ``options.listener`` to Serve's proxies. Raises StartFailure, UsageError."""
    if options.max_queue == 0:
        raise UsageError(
            "--max-queue 0: Serve counts a request as queued until a replica took it; give 1 or more"
        )
    async with AsyncExitStack() as stack:
        return await _start(options, steps, kind, stack)


async def _start(options: Options, steps: Steps, kind: Kind, stack: AsyncExitStack) -> ServeTopology:
    """What is started is pushed to ``stack``; the ServeTopology takes it over when all of it runs."""
    run, token = secrets.token_hex(3), secrets.token_hex(32)
    paths = {spec.name: str(await resolve_step(spec, steps)) for spec in options.models}
    await kind.prepare(stack)
    cluster = await open_cluster(options, steps)
    stack.push_async_callback(cluster.close)
    nodes = await cluster.nodes()
    check_memory(options, nodes)
    apps = kind.apps(run, paths, nodes)
    names = kind.names(apps)
    lease: ServeLease | None = None
    with steps.step("serve") as step:
        started = not await asyncio.to_thread(serve.running)
        if not cluster.ours:  # on a cluster of ours Serve ends with it
            # Before anything of ours is there that outlives this process.
            lease = await ServeLease.take(run, names, started)
            stack.push_async_callback(lease.release)
            stack.push_async_callback(asyncio.to_thread, serve.end, names, started)
        if started:
            await to_the_end(partial(serve.start, grpc=options.grpc is not None), nodes[0])
        grpc_port = None if options.grpc is None else await asyncio.to_thread(serve.grpc_port)
        proxies = Proxies(await asyncio.to_thread(serve.proxies, nodes), grpc_port)
        step.detail(f"{'started' if started else 'joined'}, HTTP proxies: {len(proxies.http)}")
    router = kind.router(options, apps, proxies, token)
    stack.push_async_callback(router.close)
    control = HttpServer(posts=kind.posts())
    stack.push_async_callback(control.close)
    stack.callback(router.stop_listening)
    await control.start(router.control)
    grpc = await beside.behind(router.grpc_control)
    stack.push_async_callback(grpc.close)
    await router.start()  # from here on clients get a 503
    await deploy(kind, apps, options, steps, token)
    fleet = kind.fleet(apps, router)
    fleet.splits = options.split
    await kind.open(fleet, router, apps, proxies, token, steps)

    async def live() -> dict[str, Any]:
        return await cluster.facts() | await fleet.facts()

    with steps.step("http", options.url):
        facts = {
            "max_queue": options.max_queue,
            "serve": {**asdict(options.serve), "started": started, "run": run},
            **({} if options.autoscale is None else {"autoscale": asdict(options.autoscale)}),
            **kind.facts(),
        }
        splits = Splits(options.split, fleet.up, router.weigh)
        around = ClusterWatch(
            cluster.address, fleet.engine_rows, ours=cluster.ours, on_drain=hurried(options.serve.grace_s)
        )
        told = Control(
            kind.name,
            [fleet],
            facts,
            live=live,
            splits=splits,
            cluster=around.rows,
            adapters=adapter_folder(options.lora),
        )
        await told.as_before()
        control.serve(fleet, told)
        grpc.serve(fleet, told, options.listener.getsockname()[1])
    await stack.enter_async_context(around.watching())
    watch = asyncio.create_task(fleet.keep_looking())
    return ServeTopology(router, fleet, lease, watch, stack.pop_all(), around)


def _grpc_front(options: Options, apps: Sequence[App]) -> GrpcFront | None:
    """Serve's gRPC proxy chooses an application by a header, where that of HTTP does by the path."""
    if options.grpc is None:
        return None
    return GrpcFront(options.grpc, {app.name: {"application": app.app} for app in apps})


def apps_of(
    run: str,
    options: Options,
    paths: Mapping[str, str],
    shares: Sequence[ResourceShare],
    deployment: str = "",
) -> list[App]:
    """The applications of a run: as many replicas of each model as it has shares. ``deployment`` as in
    :class:`App`."""
    apps = []
    for number, spec in enumerate(options.models):
        own = [share for share in shares if share.model == spec.name]
        name, prefix = f"rvtop-{run}-{number}", f"/rvtop-{run}/{number}"
        fixed = options.autoscale is None
        path = paths[spec.name]
        apps.append(App(name, prefix, spec.name, path, own[0], len(own), fixed=fixed, deployment=deployment))
    return apps


async def deploy(kind: Kind, apps: Sequence[App], options: Options, steps: Steps, token: str) -> None:
    """Returns when all replicas wanted at first answer. Raises StartFailure, UsageError."""
    names = kind.names(apps)
    wanted = sum(options.autoscale.first if options.autoscale else app.count for app in apps)
    bound = await kind.bind(apps, token, steps)
    with steps.step("placement", f"{wanted} replicas") as step:
        await to_the_end(serve.deploy, bound)
        while True:
            deployed = await asyncio.to_thread(serve.check_deployed, names)
            replicas = [await asyncio.to_thread(serve.replicas, app.app, app.deployment) for app in apps]
            found = sum(len(of_app) for of_app in replicas)
            step.detail(f"{found} of {wanted} replicas")
            if deployed or found >= wanted:
                break
            await asyncio.sleep(serve.POLL_S)
    with steps.step("weights", f"{wanted} replicas"):
        began = time.monotonic()
        while not await asyncio.to_thread(serve.check_deployed, names):
            if time.monotonic() - began > serve.DEPLOY_LIMIT_S:
                raise StartFailure(f"Serve: {serve.statuses(names)} after {serve.DEPLOY_LIMIT_S:g} s")
            await asyncio.sleep(serve.POLL_S)


async def warm_up(app: App, proxies: Proxies, token: str) -> None:
    """One request through all of Serve, which sets up its routes lazily."""
    body = {"model": app.name, "prompt": "warm-up", "max_tokens": 2, "ignore_eos": True}
    for host, port in proxies.http:
        base = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        headers = {"Authorization": f"Bearer {token}"}
        try:
            async with (
                aiohttp.ClientSession(headers=headers, trust_env=False) as http,
                http.post(f"{base}{app.prefix}/v1/completions", json=body) as answer,
            ):
                status, text = answer.status, await answer.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise StartFailure(f"Serve's proxy at {base} does not answer: {error!r}") from error
        if status != 200:
            raise StartFailure(f"Serve's proxy at {base} answered {status}: {text[:200]}")


async def to_the_end(function: Callable[..., None], *args: Any) -> None:
    """Runs a function in a thread, and waits for its end also when cancelled: what it puts into a cluster has
    to be there before it can be taken out."""
    work = asyncio.ensure_future(asyncio.to_thread(function, *args))
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise
