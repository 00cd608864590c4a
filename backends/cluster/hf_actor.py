"""The Hugging Face engine in a Ray actor, and its twin on the head that speaks the engine contract.

RayEngine (here) ──call──▶ HfActor (some node) ──▶ HfEngine
                 ◀─tokens by a Ray streaming generator, one object per token─
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.cluster.calls import as_start_failure, first_lines, kill, within
from backends.cluster.cluster import ResourceShare
from backends.cluster.places import PLACEMENT_LIMIT_S, amounts
from backends.engines.protocol import Delta, EngineInfo, EngineState, GenerateRequest
from backends.errors import EngineError, EngineUnavailable, StartFailure
from backends.errors.text import make_logs_visible
from backends.models.load import ModelError, is_local, resolve_model
from backends.process.events import Steps
from backends.settings.accelerators import GPU, named, ray_ids, reserved, torch_platform
from backends.settings.options import Options

log = logging.getLogger("backends.hf_actor")

# Calls that run at once in an actor: generations wait in the engine, state and cancel must always get in.
MAX_CALLS = 4096
STATE_LIMIT_S = 2.0
# After a cancel: how long the engine may take to end the generation before its slot counts as free.
CANCEL_LIMIT_S = 10.0

LOST = "The engine of this request died."


@dataclass(frozen=True)
class EngineSpec:
    """What an actor needs to make its engine. ``source`` as in :func:`backends.models.load.resolve_model`,
    resolved on the actor's own node. ``threads`` is for torch on the CPU; ``resource`` is Ray's of its
    accelerators."""

    engine: str
    model: str
    source: str
    dtype: str
    concurrency: int
    max_model_len: int | None
    seed: int
    threads: int
    trust_remote_code: bool
    resource: str = GPU


def portable(source: str) -> str:
    """A model's source as actors understand it, whatever their working folder: local names and Hub ids as
    they are (each node has its own cache), folders absolute (a shared path)."""
    folder = Path(source).expanduser()
    return str(folder.absolute()) if not is_local(source) and folder.is_dir() else source


def engine_spec(number: int, share: ResourceShare, options: Options) -> EngineSpec:
    """What the engine of a share is."""
    source = next(spec.source for spec in options.models if spec.name == share.model)
    return EngineSpec(
        engine=f"{options.topology}-{number}",
        model=share.model,
        source=portable(source),
        dtype=options.dtype,
        concurrency=options.engine_concurrency or 1,
        max_model_len=options.max_model_len,
        seed=options.seed,
        threads=share.threads,
        trust_remote_code=options.trust_remote_code,
        resource=share.resource,
    )


class HfActor:
    """Runs in the actor's process. Every method is async, so that long calls do not keep out short ones."""

    def __init__(self, spec: EngineSpec) -> None:
        make_logs_visible()
        self._spec = spec
        self._engine: Any = None

    async def where(self) -> str:
        """The node's id, once the actor is placed."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    async def load(self) -> None:
        """Loads the weights. Raises StartFailure or UsageError."""
        self._engine = await asyncio.to_thread(make_engine, self._spec)

    async def warm_up(self) -> EngineInfo:
        await asyncio.to_thread(self._engine.warm_up)
        return self._engine.info  # type: ignore[no-any-return]

    async def lives(self) -> None:
        """Never returns: the call fails when the process ends, so the head learns of it at once."""
        await asyncio.get_running_loop().create_future()

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        async with contextlib.aclosing(self._engine.generate(request)) as deltas:
            async for delta in deltas:
                yield delta

    async def cancel(self, request_id: str) -> None:
        await self._engine.cancel(request_id)

    async def state(self) -> EngineState:
        return await self._engine.state()  # type: ignore[no-any-return]


def make_engine(spec: EngineSpec) -> Any:
    """An :class:`HfEngine` in this Ray worker, on the device that Ray gave it. Blocking. Raises
    StartFailure."""
    import ray
    import torch

    from backends.engines.hf import load_engine

    torch.set_num_threads(spec.threads)
    try:
        path = resolve_model(spec.source)
    except ModelError as error:
        raise StartFailure(f"model {spec.model}: {error}") from error
    platform = torch_platform()
    return load_engine(
        path,
        engine=spec.engine,
        model_name=spec.model,
        dtype=spec.dtype,
        concurrency=spec.concurrency,
        max_model_len=spec.max_model_len,
        seed=spec.seed,
        trust_remote_code=spec.trust_remote_code,
        node_id=ray.get_runtime_context().get_node_id(),
        # Inside, the only visible one is number 0; people want the node's own number.
        device_names=() if platform is None else named(platform, ray_ids(spec.resource)),
    )


class RayEngine:
    """The head's end of one actor; the engine contract. An actor that died is replaced by
    :meth:`start`; meanwhile requests get EngineUnavailable."""

    def __init__(self, spec: EngineSpec, options: dict[str, Any]) -> None:
        self._spec = spec
        self._options = options  # Ray's: num_cpus, num_gpus, scheduling_strategy
        self._actor: Any = None
        self._dead: Any = None
        self._info: EngineInfo | None = None
        self._status = "starting"

    @property
    def info(self) -> EngineInfo:
        assert self._info is not None, "not started"
        return self._info

    async def start(self, steps: Steps | None = None) -> None:
        """Places a new actor, loads and warms up. Raises StartFailure, with no actor left."""
        import ray

        steps = steps or Steps(lambda event, **fields: None)
        name = self._spec.engine
        await self._kill_old_actor()
        actor = ray.remote(HfActor).options(**self._options).remote(self._spec)
        try:
            with steps.step("placement", name) as step, as_start_failure(name):
                async with within(PLACEMENT_LIMIT_S, f"{name}: no node has {self._needs()} free"):
                    step.detail(f"{name} on node {(await actor.where.remote())[:8]}")
            with steps.step("weights", name), as_start_failure(name):
                await actor.load.remote()
            with steps.step("warm-up", name), as_start_failure(name):
                self._info = await actor.warm_up.remote()
        except BaseException:
            await kill(actor)
            raise
        self._actor, self._status = actor, "ready"

    async def died(self) -> str:
        """Returns when the actor is gone, with the reason in one line."""
        from ray.exceptions import RayError

        try:
            await self._actor.lives.remote()
        except RayError as error:
            reason = first_lines(error)
        else:
            reason = "the actor ended by itself"
        self._dead, self._actor, self._status = self._actor, None, "restarting"
        return reason

    async def _kill_old_actor(self) -> None:
        """A node that was only cut off must not come back with a second engine."""
        actor, self._dead = self._dead, None
        if actor is not None:
            await kill(actor)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        from ray.exceptions import RayActorError, RayError, RayTaskError

        actor = self._actor
        if actor is None:
            raise EngineUnavailable(f"engine {self._spec.engine} is restarting")
        tokens = actor.generate.options(num_returns="streaming").remote(request)
        finished = False
        try:
            async for ref in tokens:
                delta = await ref
                finished = delta.finish is not None
                yield delta
        except RayTaskError as error:
            finished = True
            cause = error.cause
            raise cause if isinstance(cause, EngineError) else EngineError(first_lines(error)) from error
        except RayError as error:
            finished = True
            log.warning("request %s lost its engine: %s", request.request_id, first_lines(error))
            # Only of an actor that is gone: such an engine gets nothing more until its restart loop has
            # replaced it.
            kind = EngineUnavailable if isinstance(error, RayActorError) else EngineError
            raise kind(LOST) from error
        finally:
            if not finished:
                await _cancel(actor, tokens, request.request_id)

    async def cancel(self, request_id: str) -> None:
        if self._actor is not None:
            self._actor.cancel.remote(request_id)

    async def state(self) -> EngineState:
        from ray.exceptions import RayError

        actor = self._actor
        if actor is not None:
            with contextlib.suppress(RayError, TimeoutError):
                async with asyncio.timeout(STATE_LIMIT_S):
                    return await actor.state.remote()  # type: ignore[no-any-return]
        return EngineState(self._status if actor is None else "unreachable", running=0, waiting=0)

    async def close(self) -> None:
        actor, self._actor, self._status = self._actor, None, "stopped"
        await self._kill_old_actor()
        if actor is not None:
            await kill(actor)

    def _needs(self) -> str:
        return amounts(reserved(self._options))


def actor_options(share: ResourceShare) -> dict[str, Any]:
    """Ray's options of an engine's actor: spread over the nodes, never restarted behind our back."""
    return {
        **share.options,
        "scheduling_strategy": "SPREAD",
        "max_concurrency": MAX_CALLS,
        "max_restarts": 0,
    }


async def _cancel(actor: Any, tokens: Any, request_id: str) -> None:
    """Ends a generation that its reader left, and waits until the engine is free of it."""
    from ray.exceptions import RayError

    actor.cancel.remote(request_id)
    with contextlib.suppress(RayError, TimeoutError):
        async with asyncio.timeout(CANCEL_LIMIT_S):
            async for ref in tokens:
                await ref
