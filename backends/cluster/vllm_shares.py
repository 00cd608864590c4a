"""How much of the GPUs or cores each vLLM engine gets."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence

from backends.cluster.allocate import allocate, of_one_kind
from backends.cluster.cluster import Node, ResourceShare
from backends.errors import UsageError
from backends.settings.options import Options


def shares_of(options: Options, nodes: Sequence[Node]) -> list[ResourceShare]:
    """What each engine gets. With tensor or pipeline parallelism an engine takes several GPUs of one node. On
    the CPU one of its cores is left to what feeds vLLM's threads, as vLLM does itself.

    Raises UsageError, StartFailure."""
    shares = _shares(options, nodes)
    if options.threads is None:
        shares = [dataclasses.replace(share, threads=max(1, share.threads - 1)) for share in shares]
    return shares


def _shares(options: Options, nodes: Sequence[Node]) -> list[ResourceShare]:
    size, flags = options.vllm.workers, options.vllm.parallel_flags
    names = [spec.name for spec in options.models]
    kind, nodes = of_one_kind(nodes)
    if size > 1 and any(node.gpus for node in nodes):
        if not any(node.free_gpus >= size for node in nodes):
            most = max(int(node.free_gpus) for node in nodes)
            raise UsageError(
                f"{flags}: an engine's {size} {kind}s must be of one node, and {most} are free on the best"
            )
        nodes = [dataclasses.replace(node, free_gpus=node.free_gpus // size) for node in nodes]
        shares = allocate(names, nodes, replicas=options.num_replicas, threads=options.threads)
        if any(share.num_gpus < 1 for share in shares):
            raise UsageError(f"{flags}: {len(shares)} engines need {size} {kind}s each")
        return [dataclasses.replace(share, num_gpus=share.num_gpus * size) for share in shares]
    return allocate(names, nodes, replicas=options.num_replicas, threads=options.threads)


def starting_turn(shares: Sequence[ResourceShare]) -> asyncio.Semaphore:
    """What an engine holds while it starts. vLLM measures free memory then: engines on one GPU have to start
    one after the other."""
    return asyncio.Semaphore(1 if any(0 < share.num_gpus < 1 for share in shares) else len(shares))
