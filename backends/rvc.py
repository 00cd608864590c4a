"""Topology `rvc`: vLLM in Ray actors, each with a port of its own, behind a router that forwards bytes.

    client ──HTTP──▶ HAProxy on the head ──HTTP──▶ actor's own port ──▶ VllmEngine (AsyncLLM)

Engine: vLLM (PagedAttention, continuous batching), one per actor. Where it runs: in a Ray placement group,
any node. How a request reaches it: the router picks, of the engines of its model, the one with the fewest
connections; no token crosses Ray's object store. An actor whose engine dies is replaced; until then its model
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

from backends.api.control import Control
from backends.api.http_aiohttp import HttpServer
from backends.cluster.calls import all_or_none, as_start_failure, within
from backends.cluster.cluster import ResourceShare, open_cluster
from backends.cluster.vllm_actor import EngineSpec
from backends.cluster.vllm_fleet import PLACEMENT_LIMIT_S, Fleet, Replica
from backends.cluster.vllm_shares import shares_of
from backends.errors import UsageError
from backends.models.load import ModelError, resolve_step
from backends.process.events import Steps
from backends.process.restart import end_restart_loops, restart_loop
from backends.router.router import Router
from backends.settings import environment
from backends.settings.options import ModelSpec, Options

NAME = "rvc"


class Rvc:
    """A router on the head with vLLM engines in a cluster."""

    def __init__(
        self,
        router: Router,
        fleet: Fleet,
        restart_loops: Sequence[asyncio.Task[None]],
        stack: AsyncExitStack,
    ) -> None:
        self._router = router
        self._fleet = fleet
        self._restart_loops = restart_loops
        self._stack = stack  # all that was started, to be closed backwards

    async def failed(self) -> str:
        """Returns if the restart loop of an engine or of the router broke, which only a bug can do."""
        router = asyncio.create_task(self._router.failed())
        try:
            waits: list[asyncio.Task[Any]] = [router, *self._restart_loops]
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            router.cancel()
        if router in done:
            return router.result()
        return f"an engine's restart loop ended: {next(iter(done)).exception()!r}"

    async def close(self, grace_s: float) -> None:
        """Ends everything. Running requests may go on for ``grace_s`` seconds first."""
        async with self._stack:
            await end_restart_loops(self._restart_loops)
            self._router.stop_listening()
            if grace_s > 0:
                await asyncio.gather(*(replica.drain(grace_s) for replica in self._fleet.replicas))


async def start(options: Options, steps: Steps) -> Rvc:
    """Starts or joins a cluster, puts the engines into it, and routes ``options.listener`` to them."""
    async with AsyncExitStack() as stack:
        return await _start(options, steps, stack)


async def _start(options: Options, steps: Steps, stack: AsyncExitStack) -> Rvc:
    """What is started is pushed to ``stack``; the Rvc takes it over when all of it runs."""
    for spec in options.models:
        await _resolve(spec, steps)
    cluster = await open_cluster(options, steps)
    stack.push_async_callback(cluster.close)
    shares = shares_of(options, await cluster.nodes())
    group = await _place(shares, options, steps, stack)
    token = secrets.token_hex(32)
    specs = [
        _engine_spec(number, share, shares, options, token, loopback=cluster.ours)
        for number, share in enumerate(shares)
    ]
    slots = [(model.name, [s.engine for s in specs if s.model == model.name]) for model in options.models]
    router = Router(options.listener, slots, token=token, api_key=options.api_key)
    stack.push_async_callback(router.close)
    control = HttpServer()
    stack.push_async_callback(control.close)
    await control.start(router.control)
    await router.start()  # from here on clients get a 503
    # vLLM measures free memory while it starts: engines on one GPU have to start one after the other.
    turn = asyncio.Semaphore(1 if any(0 < share.num_gpus < 1 for share in shares) else len(shares))
    replicas = [
        Replica(spec, _actor_options(share, group, number), turn)
        for number, (spec, share) in enumerate(zip(specs, shares, strict=True))
    ]
    fleet = Fleet(replicas, router, token)
    stack.push_async_callback(fleet.close)
    stack.callback(router.stop_listening)
    await all_or_none(replica.start(steps) for replica in replicas)
    fleet.list_models()
    with steps.step("http", options.url):
        for replica in replicas:
            fleet.set_up(replica.spec.engine, True)
        await fleet.placed()
        facts = {
            "max_queue": options.max_queue,
            "index": options.index,
            "vllm": dataclasses.asdict(options.vllm),
        }
        control.serve(fleet, Control(NAME, [fleet], facts, live=cluster.facts))
    restart_loops = [asyncio.create_task(restart_loop(replica, fleet)) for replica in replicas]
    return Rvc(router, fleet, restart_loops, stack.pop_all())


async def _resolve(spec: ModelSpec, steps: Steps) -> None:
    """Builds a local model here, where its progress shows; engines resolve it again on their own node."""
    try:
        await resolve_step(spec, steps)
    except ModelError as error:
        raise UsageError(f"--model {spec.name}: {error}") from None


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
    )
