"""Topology `rvc`: vLLM in Ray actors, each with a port of its own, behind a router that forwards bytes.

    client ──HTTP──▶ HAProxy on the head ──HTTP──▶ actor's own port ──▶ VllmEngine (AsyncLLM)

Engine: vLLM (PagedAttention, continuous batching), one per actor. Where it runs: in a Ray placement group,
any node. How a request reaches it: the router picks, of the engines of its model, the one with the fewest
connections; no token crosses Ray's object store. An engine may have several such processes in front of it,
each with a port. An actor whose engine dies is replaced; until then its model
answers 503 only if no other engine has it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import secrets
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from backends.cluster.calls import as_start_failure, within
from backends.cluster.cluster import ResourceShare, open_cluster
from backends.cluster.vllm_fleet import PLACEMENT_LIMIT_S, Replica, slots_of
from backends.cluster.vllm_service import EngineSpec
from backends.cluster.vllm_shares import shares_of, starting_turn
from backends.models.load import resolve_or_refuse
from backends.process.events import Steps
from backends.router.router import Router
from backends.router.running import RoutedEngines, route
from backends.settings import environment
from backends.settings.fronts import chosen
from backends.settings.options import Options

NAME = "rvc"


async def start(options: Options, steps: Steps) -> RoutedEngines:
    """Starts or joins a cluster, puts the engines into it, and routes ``options.listener`` to them."""
    async with AsyncExitStack() as stack:
        return await _start(options, steps, stack)


async def _start(options: Options, steps: Steps, stack: AsyncExitStack) -> RoutedEngines:
    """What is started is pushed to ``stack``; the RoutedEngines takes it over when all of it runs."""
    for spec in options.models:  # here, where progress shows; engines resolve theirs again on their own node
        await resolve_or_refuse(spec, steps)
    cluster = await open_cluster(options, steps)
    stack.push_async_callback(cluster.close)
    shares = shares_of(options, await cluster.nodes())
    group = await _place(shares, options, steps, stack)
    token = secrets.token_hex(32)
    fronts = chosen(options.front_processes, shares)
    specs = [
        _engine_spec(number, share, shares, options, token, loopback=cluster.ours, fronts=fronts)
        for number, share in enumerate(shares)
    ]
    slots = [
        (model.name, [slot for s in specs if s.model == model.name for slot in slots_of(s.engine, fronts)])
        for model in options.models
    ]
    router = Router(options.listener, slots, token=token, api_key=options.api_key, splits=options.split)
    turn = starting_turn(shares)
    replicas = [
        Replica(spec, _actor_options(share, group, number), turn)
        for number, (spec, share) in enumerate(zip(specs, shares, strict=True))
    ]
    facts = {
        "max_queue": options.max_queue,
        "index": options.index,
        "vllm": dataclasses.asdict(options.vllm),
        "front_processes": fronts,
    }
    return await route(
        NAME,
        router,
        replicas,
        facts,
        url=options.url,
        steps=steps,
        stack=stack,
        live=cluster.facts,
        split=options.split,
    )


async def _place(
    shares: Sequence[ResourceShare], options: Options, steps: Steps, stack: AsyncExitStack
) -> Any:
    """Reserves one bundle per engine. A bundle is always of one node, which is what STRICT_PACK would say of
    an engine's several GPUs; PACK or SPREAD is between engines."""
    from ray.util import placement_group, remove_placement_group

    bundles = [_resources(share) for share in shares]
    strategy = options.vllm.placement.upper()
    detail = f"{len(bundles)} × {_amounts(bundles[0])}, {strategy}"
    with steps.step("placement", detail), as_start_failure("placement"):
        group = await asyncio.to_thread(placement_group, bundles, strategy=strategy)
        stack.push_async_callback(asyncio.to_thread, remove_placement_group, group)
        async with within(PLACEMENT_LIMIT_S, f"no node has {_amounts(bundles[0])} free"):
            await group.ready()
    return group


def _resources(share: ResourceShare) -> dict[str, float]:
    amounts = {"CPU": share.num_cpus, "GPU": share.num_gpus}
    return {name: amount for name, amount in amounts.items() if amount}


def _amounts(bundle: dict[str, float]) -> str:
    return " and ".join(f"{amount:g} {name}" for name, amount in bundle.items())


def _actor_options(share: ResourceShare, group: Any, bundle: int) -> dict[str, Any]:
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    return {
        "num_cpus": share.num_cpus,
        "num_gpus": share.num_gpus,
        "max_restarts": 0,  # we replace it ourselves, and know when
        "scheduling_strategy": PlacementGroupSchedulingStrategy(
            group, placement_group_bundle_index=bundle, placement_group_capture_child_tasks=True
        ),
    }


def _engine_spec(
    number: int,
    share: ResourceShare,
    shares: Sequence[ResourceShare],
    options: Options,
    token: str,
    loopback: bool,
    fronts: int,
) -> EngineSpec:
    replicas = sum(other.model == share.model for other in shares)
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
