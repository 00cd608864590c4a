"""Topology `rvc`: vLLM in Ray actors, each with a port of its own, behind a router that forwards bytes.

    client ──HTTP──▶ HAProxy on the head ──HTTP──▶ actor's own port ──▶ VllmEngine (AsyncLLM)

Engine: vLLM (PagedAttention, continuous batching), one per actor. Where it runs: in a Ray placement group,
any node. How a request reaches it: the router picks, of the engines of its model, the one with the fewest
connections; no token crosses Ray's object store. An engine may have several such processes in front of it,
each with a port. An actor whose engine dies is replaced; until then its model
answers 503 only if no other engine has it.
"""

from __future__ import annotations

import dataclasses
import math
import secrets
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from backends.cluster.cluster import ResourceShare, open_cluster
from backends.cluster.placed_models import PlacedModels, placed_models
from backends.cluster.places import actor_options, amounts, bundle_of, free, reserve
from backends.cluster.vllm_fleet import Replica, slots_of
from backends.cluster.vllm_moves import Moves
from backends.cluster.vllm_replicas import PlacedReplica, ReplicaPool, scaled
from backends.cluster.vllm_service import EngineSpec
from backends.cluster.vllm_shares import shares_of, starting_turn
from backends.cluster.watch import ClusterWatch
from backends.errors import UsageError
from backends.models.adapters import adapter_folder
from backends.models.load import resolve_or_refuse
from backends.process.events import Steps
from backends.router.fleet import Fleet
from backends.router.router import Router
from backends.router.running import RoutedEngines, route
from backends.settings import environment
from backends.settings.autoscale import Autoscale
from backends.settings.fronts import chosen
from backends.settings.options import Options

NAME = "rvc"


async def start(options: Options, steps: Steps) -> RoutedEngines:
    """Starts or joins a cluster, puts the engines into it, and routes ``options.listener`` to them."""
    _refuse(options)
    async with AsyncExitStack() as stack:
        return await _start(options, steps, stack)


def _refuse(options: Options) -> None:
    """Raises UsageError for what does not go together."""
    scale = options.autoscale
    if not options.vllm.kv_events:
        return
    for flag, given in (
        ("--autoscale", scale is not None and scale.max_replicas > scale.min_replicas),
        ("--auto-place", options.auto_place is not None),
    ):
        if given:
            raise UsageError(
                f"--kv-events: {flag} starts engines later, at sockets that a KV map which is read does not "
                "know; leave one of the two out"
            )


async def _start(options: Options, steps: Steps, stack: AsyncExitStack) -> RoutedEngines:
    """What is started is pushed to ``stack``; the RoutedEngines takes it over when all of it runs."""
    # Here, where progress shows; engines resolve theirs again on their own node.
    paths = {spec.name: await resolve_or_refuse(spec, steps) for spec in options.models}
    cluster = await open_cluster(options, steps)
    stack.push_async_callback(cluster.close)
    nodes = await cluster.nodes()
    placed = None
    if options.auto_place is not None:
        placed = await placed_models(options, options.auto_place, nodes, paths, steps)
    shares = placed.shares if placed is not None else shares_of(_at_most(options), nodes)
    token = secrets.token_hex(32)
    fronts = chosen(options.front_processes, shares)
    first = {model.name: _first(model.name, shares, options.autoscale, placed) for model in options.models}
    specs = [
        _engine_spec(number, share, first[share.model], options, token, loopback=cluster.ours, fronts=fronts)
        for number, share in enumerate(shares)
    ]
    slots = [
        (model.name, [slot for s in specs if s.model == model.name for slot in slots_of(s.engine, fronts)])
        for model in options.models
    ]
    router = Router(
        options.listener,
        slots,
        token=token,
        api_key=options.api_key,
        splits=options.split,
        adapters=options.lora.model,
    )
    turn = starting_turn(shares)
    pools: list[ReplicaPool] = []
    if options.autoscale is None and placed is None:
        group = await _place(shares, options, steps, stack)
        replicas = [
            Replica(spec, actor_options(share, group, number), turn)
            for number, (spec, share) in enumerate(zip(specs, shares, strict=True))
        ]
    else:
        makes = [partial(PlacedReplica, spec, share, turn) for spec, share in zip(specs, shares, strict=True)]
        pools = [
            ReplicaPool(model.name, [m for m in makes if m.args[0].model == model.name])
            for model in options.models
        ]
        replicas = [made for pool in pools for made in pool.first(first[pool.model])]
    facts = {
        "max_queue": options.max_queue,
        "index": options.index,
        "vllm": dataclasses.asdict(options.vllm),
        "front_processes": fronts,
        "lora_dir": options.lora.path,
    }
    if options.autoscale is not None:
        facts["autoscale"] = dataclasses.asdict(options.autoscale)

    async def live() -> dict[str, Any]:
        return await cluster.facts() | (placed.facts() if placed is not None else {})

    def around(fleet: Fleet) -> ClusterWatch:
        moves = Moves(fleet)
        stack.push_async_callback(moves.close)
        return ClusterWatch(cluster.address, fleet.engine_rows, ours=cluster.ours, on_drain=moves.begin)

    running = await route(
        NAME,
        router,
        replicas,
        facts,
        url=options.url,
        steps=steps,
        stack=stack,
        live=live,
        split=options.split,
        surroundings=around,
        adapters=adapter_folder(options.lora),
    )
    if placed is not None:
        running.changes = placed.begin(pools, running.members, router)
    elif options.autoscale is not None:
        running.changes = scaled(options.autoscale, pools, running.members, router)
    return running


def _first(
    model: str, shares: Sequence[ResourceShare], scale: Autoscale | None, placed: PlacedModels | None
) -> int:
    """How many replicas of a model there are at the start."""
    if placed is not None:
        return placed.replicas(model)
    return max(1, scale.first) if scale is not None else sum(share.model == model for share in shares)


def _at_most(options: Options) -> Options:
    """With as many replicas as there may be at once: each has its part of what is free from the start."""
    if options.autoscale is None:
        return options
    if options.autoscale.min_replicas == 0:
        raise UsageError(
            "--autoscale min=0: without an engine rvc's router answers 503 and sees no request to start one "
            "for; give min=1 (rsc and rsv scale to none)"
        )
    if options.vllm.placement != "pack":
        raise UsageError(
            f"--placement {options.vllm.placement}: with --autoscale each replica has a placement group of "
            "its own; leave it out"
        )
    if options.num_replicas is not None:
        raise UsageError("--num-replicas: --autoscale says how many there are; leave it out")
    return dataclasses.replace(options, num_replicas=options.autoscale.max_replicas)


async def _place(
    shares: Sequence[ResourceShare], options: Options, steps: Steps, stack: AsyncExitStack
) -> Any:
    """Reserves one bundle per engine. A bundle is always of one node, which is what STRICT_PACK would say of
    an engine's several GPUs; PACK or SPREAD is between engines."""
    bundles = [bundle_of(share) for share in shares]
    strategy = options.vllm.placement.upper()
    detail = f"{len(bundles)} × {amounts(bundles[0])}, {strategy}"
    with steps.step("placement", detail):
        group = await reserve(bundles, strategy)
        stack.push_async_callback(free, group)
    return group


def _engine_spec(
    number: int,
    share: ResourceShare,
    replicas: int,
    options: Options,
    token: str,
    loopback: bool,
    fronts: int,
) -> EngineSpec:
    # The replicas of the start share it: among all that there may be, one alone would refuse early.
    queue = None if options.max_queue is None else math.ceil(options.max_queue / replicas)
    return EngineSpec(
        engine=f"vllm-{number}",
        model=share.model,
        source=next(spec.source for spec in options.models if spec.name == share.model),
        gpu_share=share.num_gpus,
        threads=share.threads,
        queue=queue,
        loopback=loopback,
        token=token,
        # Neither its socket nor the clients' key concerns an engine.
        options=dataclasses.replace(options, listener=None, api_key=None),  # type: ignore[arg-type]
        environ=environment.carried(),
        fronts=fronts,
    )
