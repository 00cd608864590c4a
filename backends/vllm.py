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

from backends.cluster.cluster import Node, ResourceShare
from backends.cluster.vllm_shares import shares_of, starting_turn
from backends.models.load import resolve_or_refuse
from backends.process.events import Steps
from backends.process.scratch_dir import OwnedTempDir
from backends.router.router import Router
from backends.router.running import RoutedEngines, route
from backends.settings import environment, kv_events
from backends.settings.accelerators import visible_accelerators
from backends.settings.engine import engine_arguments
from backends.settings.options import Options
from backends.vllm_server.launch import Order
from backends.vllm_server.server import ServerSpec, VllmServer

NAME = "vllm"


async def start(options: Options, steps: Steps) -> RoutedEngines:
    """Starts the servers and routes ``options.listener`` to them."""
    async with AsyncExitStack() as stack:
        return await _start(options, steps, stack)


async def _start(options: Options, steps: Steps, stack: AsyncExitStack) -> RoutedEngines:
    """What is started is pushed to ``stack``; the RoutedEngines takes it over when all of it runs."""
    paths = {spec.name: await resolve_or_refuse(spec, steps) for spec in options.models}
    visible, gpus = await asyncio.to_thread(visible_accelerators)
    shares = shares_of(options, [this_machine(gpus)])
    folder = OwnedTempDir("rvtop-vls-")
    stack.push_async_callback(asyncio.to_thread, folder.close)
    token = secrets.token_hex(32)
    specs = [
        _spec(number, share, devices, visible, paths[share.model], options, token, folder)
        for number, (share, devices) in enumerate(zip(shares, devices_of(shares, gpus), strict=True))
    ]
    router = Router(
        options.listener,
        [(model.name, [s.engine for s in specs if s.model == model.name]) for model in options.models],
        token=token,
        api_key=options.api_key,
        sockets={spec.engine: spec.order.socket for spec in specs},
        all_paths=True,
        splits=options.split,
    )
    turn = starting_turn(shares)
    environ = {**os.environ, **environment.carried(), **folder.env}
    servers = [VllmServer(spec, environ, turn) for spec in specs]
    facts = {
        "max_queue": None,  # vLLM's server takes all
        "index": None,
        "vllm": dataclasses.asdict(options.vllm),
        "vllm_server": dataclasses.asdict(options.vllm_server),
    }
    return await route(
        NAME, router, servers, facts, url=options.url, steps=steps, stack=stack, split=options.split
    )


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


def _spec(
    number: int,
    share: ResourceShare,
    devices: tuple[str, ...],
    visible: str | None,
    path: str,
    options: Options,
    token: str,
    folder: OwnedTempDir,
) -> ServerSpec:
    engine = f"vllm-{number}"
    arguments = engine_arguments(options, path=path, model=share.model, gpu_share=share.num_gpus)
    published = kv_events.sockets(folder.path, engine) if options.vllm.kv_events else None
    if published is not None:
        arguments.append(kv_events.argument(published))
    order = Order(
        arguments=arguments,
        socket=str(folder.path / f"{engine}.sock"),
        facts=str(folder.path / f"{engine}.json"),
        cpu_threads=None if devices else share.threads,
        eager=options.vllm.eager,
        tensor_parallel=options.vllm.tensor_parallel,
        pipeline_parallel=options.vllm.pipeline_parallel,
        api_server_count=options.vllm_server.api_server_count,
        rust_frontend=options.vllm_server.rust_frontend,
        kv_events=published,
        aliases=options.split.aliases_of(share.model),
    )
    return ServerSpec(engine, share.model, path, order, devices, token, visible)
