"""What every stage's replica has: one thread that computes, counts of it, and what the head asks."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from backends.errors.text import make_logs_visible
from backends.rag.errors import RagError
from backends.settings.accelerators import CPU, named, ray_ids, ray_resources, torch_platform

T = TypeVar("T")


class Stage:
    """A replica of a stage. Calls compute one after the other in a thread of its own, so that the process
    answers meanwhile; how many wait for that shows as ``in_flight``."""

    def __init__(self, stage: str, threads: int) -> None:
        import torch
        from ray import get_runtime_context, serve

        make_logs_visible()
        torch.set_num_threads(threads)
        context, ray = serve.get_replica_context(), get_runtime_context()
        platform, ids = torch_platform(), next(filter(None, map(ray_ids, ray_resources())), ())
        self.device = platform if platform and ids else CPU
        replica = context.replica_id.unique_id
        self._about: dict[str, Any] = {
            "engine": f"{stage}-{replica}",
            "model": stage,
            "replica": replica,
            "actor": ray.get_actor_id(),
            "node_id": ray.get_node_id(),
            "pid": os.getpid(),
            "devices": list(named(self.device, ids if self.device != CPU else ())),
            "max_model_len": 0,  # what the head reads of every replica
        }
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=stage)
        self._in_flight = self._items = self._calls = 0
        self._busy_s = 0.0

    def told(self, **facts: Any) -> None:
        """Further entries of its row."""
        self._about.update(facts)

    async def compute(self, items: int, function: Callable[..., T], *args: Any) -> T:
        """Runs a function for so many ``items`` (requests) in the thread."""
        self._in_flight += items
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._thread, self._timed, items, function, *args
            )
        finally:
            self._in_flight -= items

    def _timed(self, items: int, function: Callable[..., T], *args: Any) -> T:
        began = time.perf_counter()
        try:
            return function(*args)
        finally:
            self._busy_s += time.perf_counter() - began
            self._items += items
            self._calls += 1

    async def record_routing_stats(self) -> dict[str, Any]:
        """What the head asks each replica for, past Serve's queue (see
        :meth:`backends.serve.replica.HfReplica.record_routing_stats`). ``busy_ms`` of computing for ``items``
        requests in ``calls``, since the replica's start."""
        row = self._about | {
            "state": "ready",
            "in_flight": self._in_flight,
            "items": self._items,
            "calls": self._calls,
            "busy_ms": round(self._busy_s * 1e3, 3),
        }
        return {"row": row, "page": ""}


def loaded(what: str, make: Callable[..., T], *args: Any) -> T:
    """What ``make`` makes; where it can't, the start ends with its reason as bad usage. Raises UsageError."""
    from backends.errors import UsageError
    from backends.models.load import ModelError

    try:
        return make(*args)
    except (RagError, ModelError) as error:
        raise UsageError(f"{what}: {error}") from error
