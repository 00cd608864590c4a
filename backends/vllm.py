"""Topology `vllm`: vLLM's own server, as it ships.

    client ──HTTP──▶ HAProxy on the head ──HTTP──▶ `vllm serve` (FastAPI, AsyncLLM)

Engine: vLLM (PagedAttention, continuous batching), one per server. Where it runs: child processes on this
machine, without Ray. How a request reaches it: the router picks, of the servers of its model, the one with
the fewest connections; all of vLLM's paths are there, and what it answers is vLLM's alone. The router is the
one of `rvc`, so that what tells the two apart is the server behind it. A server that ends is started again.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import os
import secrets
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from backends.api.control import Control
from backends.api.http_aiohttp import HttpServer
from backends.cluster.calls import all_or_none
from backends.cluster.cluster import Node, ResourceShare
from backends.cluster.vllm_shares import shares_of
from backends.errors import UsageError
from backends.models.load import ModelError, resolve_step
from backends.process.events import Steps
from backends.process.restart import end_restart_loops, restart_loop
from backends.process.scratch_dir import OwnedTempDir
from backends.router.router import Router
from backends.settings import environment
from backends.settings.options import ModelSpec, Options
from backends.settings.vllm import engine_argv
from backends.vllm_server.launch import Order
from backends.vllm_server.server import ServerFleet, ServerSpec, VllmServer

NAME = "vllm"


class Vllm:
    """A router on the head with vLLM's servers behind it."""

    def __init__(
        self,
        router: Router,
        servers: Sequence[VllmServer],
        restart_loops: Sequence[asyncio.Task[None]],
        stack: AsyncExitStack,
    ) -> None:
        self._router = router
        self._servers = servers
        self._restart_loops = restart_loops
        self._stack = stack  # all that was started, to be closed backwards

    async def failed(self) -> str:
        """Returns if the restart loop of a server or of the router broke, which only a bug can do."""
        router = asyncio.create_task(self._router.failed())
        try:
            waits: list[asyncio.Task[Any]] = [router, *self._restart_loops]
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            router.cancel()
        if router in done:
            return router.result()
        return f"a server's restart loop ended: {next(iter(done)).exception()!r}"

    async def close(self, grace_s: float) -> None:
        """Ends everything. Running requests may go on for ``grace_s`` seconds first."""
        async with self._stack:
            await end_restart_loops(self._restart_loops)
            self._router.stop_listening()
            if grace_s > 0:
                await asyncio.gather(*(server.drain(grace_s) for server in self._servers))


async def start(options: Options, steps: Steps) -> Vllm:
    """Starts the servers and routes ``options.listener`` to them."""
    async with AsyncExitStack() as stack:
        return await _start(options, steps, stack)


async def _start(options: Options, steps: Steps, stack: AsyncExitStack) -> Vllm:
    """What is started is pushed to ``stack``; the Vllm takes it over when all of it runs."""
    paths = {spec.name: await _resolve(spec, steps) for spec in options.models}
    gpus = await asyncio.to_thread(visible_gpus)
    shares = shares_of(options, [this_machine(gpus)])
    folder = OwnedTempDir("rvtop-vls-")
    stack.push_async_callback(asyncio.to_thread, folder.close)
    token = secrets.token_hex(32)
    specs = [
        _spec(number, share, devices, paths[share.model], options, token, folder)
        for number, (share, devices) in enumerate(zip(shares, devices_of(shares, gpus), strict=True))
    ]
    router = Router(
        options.listener,
        [(model.name, [s.engine for s in specs if s.model == model.name]) for model in options.models],
        token=token,
        api_key=options.api_key,
        sockets={spec.engine: spec.order.socket for spec in specs},
        all_paths=True,
    )
    stack.push_async_callback(router.close)
    control = HttpServer()
    stack.push_async_callback(control.close)
    await control.start(router.control)
    await router.start()  # from here on clients get a 503
    # vLLM measures free memory while it starts: engines on one GPU have to start one after the other.
    turn = asyncio.Semaphore(1 if any(0 < share.num_gpus < 1 for share in shares) else len(shares))
    environ = {**os.environ, **environment.carried(), **folder.env}
    servers = [VllmServer(spec, environ, turn) for spec in specs]
    fleet = ServerFleet(servers, router, token)
    stack.push_async_callback(fleet.close)
    stack.callback(router.stop_listening)
    await all_or_none(server.start(steps) for server in servers)
    fleet.list_models()
    with steps.step("http", options.url):
        for server in servers:
            fleet.set_up(server.engine, True)
        await fleet.placed()
        facts = {
            "max_queue": None,  # vLLM's server takes all
            "index": None,
            "vllm": dataclasses.asdict(options.vllm),
            "vllm_server": dataclasses.asdict(options.vllm_server),
        }
        control.serve(fleet, Control(NAME, [fleet], facts))
    restart_loops = [asyncio.create_task(restart_loop(server, fleet)) for server in servers]
    return Vllm(router, servers, restart_loops, stack.pop_all())


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    count = torch.cuda.device_count()
    return tuple(named[:count] or [str(number) for number in range(count)])


def this_machine(gpus: Sequence[str]) -> Node:
    """This machine as the only node of a cluster, all of it free."""
    cpus, count, name = float(len(os.sched_getaffinity(0))), float(len(gpus)), socket.gethostname()
    return Node(name, "127.0.0.1", name, cpus, count, cpus, count, None, True, None)


def devices_of(shares: Sequence[ResourceShare], gpus: Sequence[str]) -> list[tuple[str, ...]]:
    """The GPUs of each share, in turn: whole ones to it alone, parts of one to several. Shares are alike."""
    if not shares or not shares[0].num_gpus:
        return [()] * len(shares)
    each = shares[0].num_gpus
    if each < 1:
        on_one = math.floor(1 / each + 1e-6)  # a part has four digits: 0.3333
        return [(gpus[number // on_one],) for number in range(len(shares))]
    whole = int(each)
    return [tuple(gpus[number * whole : (number + 1) * whole]) for number in range(len(shares))]


async def _resolve(spec: ModelSpec, steps: Steps) -> str:
    try:
        return str(await resolve_step(spec, steps))
    except ModelError as error:
        raise UsageError(f"--model {spec.name}: {error}") from None


def _spec(
    number: int,
    share: ResourceShare,
    devices: tuple[str, ...],
    path: str,
    options: Options,
    token: str,
    folder: OwnedTempDir,
) -> ServerSpec:
    engine = f"vllm-{number}"
    arguments = engine_argv(
        options.vllm,
        path=path,
        model=share.model,
        dtype=options.dtype,
        seed=options.seed,
        max_model_len=options.max_model_len,
        concurrency=options.engine_concurrency,
        trust_remote_code=options.trust_remote_code,
        gpu_share=share.num_gpus,
    )
    order = Order(
        arguments=arguments,
        socket=str(folder.path / f"{engine}.sock"),
        facts=str(folder.path / f"{engine}.json"),
        cpu_threads=None if devices else share.threads,
        eager=options.vllm.eager,
        tensor_parallel=options.vllm.tensor_parallel,
        api_server_count=options.vllm_server.api_server_count,
        rust_frontend=options.vllm_server.rust_frontend,
    )
    threads = None if devices else share.threads
    return ServerSpec(engine, share.model, path, order, devices, threads, token)
