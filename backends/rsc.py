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
import contextlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import aiohttp

from backends.api.control import Control
from backends.api.http_aiohttp import HttpServer
from backends.cluster.cluster import Cluster, allocate, open_cluster
from backends.cluster.hf_actor import engine_spec
from backends.errors import StartFailure, UsageError
from backends.models.load import resolve_step
from backends.process.events import Steps
from backends.router.router import Router
from backends.serve import serve
from backends.serve.fleet import App, ServeFleet
from backends.serve.lease_actor import ServeLease
from backends.serve.replica import application
from backends.settings.options import Options

NAME = "rsc"
# A replica without a request may be about to get one from Serve's queue.
IDLE_LOOKS = 3


class Rsc:
    """What runs, in the order in which it was started: :meth:`close` goes backwards. Any of it may be missing
    while it starts."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.run = secrets.token_hex(3)
        self.token = secrets.token_hex(32)
        self.cluster: Cluster | None = None
        self.started_serve: bool | None = None  # None: not known yet, and nothing done
        self.proxies: tuple[tuple[str, int], ...] = ()
        self.lease: ServeLease | None = None
        self.apps: list[App] = []
        self.router: Router | None = None
        self.fleet: ServeFleet | None = None
        self.control: HttpServer | None = None
        self.watch: asyncio.Task[None] | None = None

    async def failed(self) -> str:
        """Returns when our lease lapsed (this process stood still for too long), or if the router's restart
        loop or our watch broke, which only a bug can do."""
        assert self.router is not None
        waits = [asyncio.create_task(self.router.failed()), asyncio.create_task(self._watch_ended())]
        if self.lease is not None:
            waits.append(asyncio.create_task(self.lease.lost()))
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return next(iter(done)).result()
        finally:
            for wait in waits:
                wait.cancel()

    async def _watch_ended(self) -> str:
        assert self.watch is not None
        await asyncio.wait([self.watch])
        return f"the watch of replicas ended: {self.watch.exception()!r}"

    async def close(self, grace_s: float) -> None:
        if self.watch is not None:
            self.watch.cancel()
            await asyncio.gather(self.watch, return_exceptions=True)
        if self.router is not None:
            self.router.stop_listening()
            await self._drain(grace_s)
        if self.control is not None:
            await self.control.close()
        if self.router is not None:
            await self.router.close()
        # On a cluster of ours Serve ends with it.
        if self.cluster is not None and not self.cluster.ours and self.started_serve is not None:
            await asyncio.to_thread(serve.end, [app.app for app in self.apps], self.started_serve)
        if self.lease is not None:
            await self.lease.release()
        if self.cluster is not None:
            await self.cluster.close()

    async def _drain(self, grace_s: float) -> None:
        """Lets what runs in replicas end. (A router that stops listening does not say what is in flight.)"""
        if self.fleet is None or grace_s <= 0:
            return
        idle_looks = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                while idle_looks < IDLE_LOOKS:
                    rows = await self.fleet.engine_rows()
                    idle_looks = 0 if any(row.get("in_flight") for row in rows) else idle_looks + 1
                    await asyncio.sleep(0.1)


async def start(options: Options, steps: Steps) -> Rsc:
    """Starts or joins a cluster and its Serve, puts an application per model into it, and routes
    ``options.listener`` to Serve's proxies."""
    if options.max_queue == 0:
        raise UsageError(
            "--max-queue 0: Serve counts a request as queued until a replica took it; give 1 or more"
        )
    rsc = Rsc(options)
    try:
        await _start(rsc, options, steps)
    except BaseException:
        await rsc.close(0.0)
        raise
    return rsc


async def _start(rsc: Rsc, options: Options, steps: Steps) -> None:
    paths = {spec.name: str(await resolve_step(spec, steps)) for spec in options.models}
    rsc.cluster = await open_cluster(options, steps)
    nodes = await rsc.cluster.nodes()
    rsc.apps = _apps(rsc, paths, nodes)
    with steps.step("serve") as step:
        rsc.started_serve = not await asyncio.to_thread(serve.running)
        if not rsc.cluster.ours:  # before anything of ours is there that outlives this process
            rsc.lease = await ServeLease.take(rsc.run, [app.app for app in rsc.apps], rsc.started_serve)
        if rsc.started_serve:
            await to_the_end(serve.start, nodes[0])
        rsc.proxies = await asyncio.to_thread(serve.proxies, nodes)
        step.detail(f"{'started' if rsc.started_serve else 'joined'}, HTTP proxies: {len(rsc.proxies)}")
    proxies = {f"serve-{number}": address for number, address in enumerate(rsc.proxies)}
    rsc.router = Router(
        options.listener,
        [(app.name, list(proxies)) for app in rsc.apps],
        token=rsc.token,
        api_key=options.api_key,
        prefixes={app.name: app.prefix for app in rsc.apps},
        health_path="/-/healthz",
    )
    rsc.control = HttpServer()
    await rsc.control.start(rsc.router.control)
    await rsc.router.start()  # from here on whoever asks gets a 503
    await _deploy(rsc, options, steps)
    with steps.step("warm-up", "through Serve"):
        for app in rsc.apps:
            await _warm_up(rsc, app)
    with steps.step("http", options.url):
        for slot, address in proxies.items():
            await rsc.router.place(slot, address)
        rsc.fleet = fleet = ServeFleet(rsc.apps, rsc.router)
        await fleet.look()
        rsc.watch = asyncio.create_task(fleet.keep_looking())
        facts = {
            "max_queue": options.max_queue,
            "index": options.index,
            "serve": {**asdict(options.serve), "started": rsc.started_serve, "run": rsc.run},
        }
        rsc.control.serve(fleet, Control(NAME, [fleet], facts, live=rsc.cluster.facts))


def _apps(rsc: Rsc, paths: Mapping[str, str], nodes: Sequence[Any]) -> list[App]:
    options = rsc.options
    most = options.serve.autoscale[1] if options.serve.autoscale else options.num_replicas
    shares = allocate([spec.name for spec in options.models], nodes, replicas=most, threads=options.threads)
    apps = []
    for number, spec in enumerate(options.models):
        own = [share for share in shares if share.model == spec.name]
        name, prefix = f"rvtop-{rsc.run}-{number}", f"/rvtop-{rsc.run}/{number}"
        fixed = options.serve.autoscale is None
        apps.append(App(name, prefix, spec.name, paths[spec.name], own[0], len(own), fixed=fixed))
    return apps


async def _deploy(rsc: Rsc, options: Options, steps: Steps) -> None:
    names = [app.app for app in rsc.apps]
    wanted = sum(options.serve.autoscale[0] if options.serve.autoscale else app.count for app in rsc.apps)
    bound = {}
    for number, app in enumerate(rsc.apps):
        spec = engine_spec(number, app.share, options)
        if options.serve.batch is not None:
            spec = replace(spec, concurrency=options.serve.batch)
        resources = {"num_cpus": app.share.num_cpus, "num_gpus": app.share.num_gpus}
        bound[app.app] = app.prefix, application(spec, options, rsc.token, resources, app.count)
    with steps.step("placement", f"{wanted} replicas") as step:
        await to_the_end(serve.deploy, bound)
        while True:
            deployed = await asyncio.to_thread(serve.check_deployed, names)
            found = sum([len(await asyncio.to_thread(serve.replicas, name)) for name in names])
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


async def _warm_up(rsc: Rsc, app: App) -> None:
    """One request through all of Serve, which sets up its routes lazily."""
    body = {"model": app.name, "prompt": "warm-up", "max_tokens": 2, "ignore_eos": True}
    for host, port in rsc.proxies:
        base = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        headers = {"Authorization": f"Bearer {rsc.token}"}
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
