"""How what is free of a cluster is split over engines. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from backends.cluster.cluster import Node, ResourceShare, describe
from backends.errors import StartFailure
from backends.settings import accelerators


def of_one_kind(nodes: Sequence[Node]) -> tuple[str, list[Node]]:
    """The resource that engines are put on: the first of Ray's of which some is free; and ``nodes`` with no
    accelerators but those."""
    free = {node.resource: node.free_gpus for node in nodes if node.free_gpus}
    kind = accelerators.resource_of(free)
    return kind, [n if n.resource == kind else replace(n, gpus=0.0, free_gpus=0.0) for n in nodes]


def allocate(
    models: Sequence[str],
    nodes: Sequence[Node],
    *,
    replicas: int | None = None,
    threads: int | None = None,
) -> list[ResourceShare]:
    """Splits what is free of the cluster over engines, the same for each: with GPUs one engine per GPU,
    without one engine of every model per node. ``replicas`` is the number of engines per model instead.

    GPUs are dealt to the models in turn, so that two models get half each. When there are more engines than
    GPUs, several share one (in equal parts). On the CPU each engine gets its part of its node's cores, and as
    many ``threads`` unless told otherwise.

    Raises StartFailure without any CPU or GPU.
    """
    resource, nodes = of_one_kind(nodes)
    cpus = [node.free_cpus for node in nodes if node.free_cpus > 0]
    gpus = int(sum(node.free_gpus for node in nodes))
    if not cpus and not gpus:
        raise StartFailure(f"nothing is free in the cluster ({describe(nodes)}); add a node")
    count = max(gpus, len(models)) if gpus and replicas is None else len(models) * (replicas or len(cpus))
    num_gpus = 0.0
    if gpus:
        num_gpus = 1.0 if count <= gpus else _part(1 / math.ceil(count / gpus))
    per_node = math.ceil(count / max(len(cpus), 1))
    cores = min(cpus, default=0.0) / per_node
    # With a GPU the arithmetic is not the CPU's, and a core is reserved only against overbooking.
    num_cpus = min(1.0, _part(cores)) if gpus else _part(cores)
    share = threads or max(1, int(cores))
    return [
        ResourceShare(models[i % len(models)], num_cpus, num_gpus, share, resource=resource)
        for i in range(count)
    ]


def _part(amount: float) -> float:
    """An amount of a resource as Ray takes it: whole from 1 on, else a fraction of at most four digits."""
    return float(int(amount)) if amount >= 1 else math.floor(amount * 1e4) / 1e4
