"""What each stage's replicas reserve of a cluster. Pure.

All replicas that compute with a model or over vectors are the same size: a *unit*, a core (with GPUs: a GPU)
where there are two for each stage, else an equal part, so that each stage can at least be doubled while all
run. What only passes on (preprocess, merge) reserves nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from backends.cluster.allocate import of_one_kind
from backends.cluster.cluster import Node, ResourceShare, describe
from backends.errors import StartFailure
from backends.settings.graph import ANALYSIS, LLM, NO_RERANKER, RETRIEVAL, GraphOptions

#: Units that there are to be for each stage.
_EACH = 2
#: The smallest amount that Ray tells from nothing.
_LEAST = 1e-4
FREE = ("preprocess", "merge")


@dataclass(frozen=True)
class Units:
    """``share`` is what one replica takes; ``bins`` are how many such fit on each node, ``kind`` is what is
    shared (``core`` or ``GPU`` or another resource of Ray), ``size`` how much of one a unit is."""

    share: ResourceShare
    bins: tuple[int, ...]
    kind: str
    size: float

    @property
    def total(self) -> int:
        return sum(self.bins)

    def of(self, stage: str) -> ResourceShare:
        """What a replica of a stage reserves."""
        if stage in FREE:
            return ResourceShare(stage, 0.0, 0.0, 1)
        return replace(self.share, model=stage)


def stages_of(options: GraphOptions, *, index: bool) -> list[str]:
    """The stages that there are, the LLM's left out."""
    retrieval = [s for s in RETRIEVAL if index and (s != "rerank" or options.reranker != NO_RERANKER)]
    return [*retrieval, *(ANALYSIS if options.analyze else ())]


def units_of(
    options: GraphOptions, stages: Sequence[str], models: int, nodes: Sequence[Node], threads: int | None
) -> Units:
    """The units for these stages and the LLMs of ``models`` models. Raises StartFailure where nothing is
    free."""
    resource, nodes = of_one_kind(nodes)
    computing = [stage for stage in stages if stage not in FREE]
    first = sum(options.first(stage) for stage in computing) + models * options.first(LLM)
    wanted = max(first, _EACH * (len(computing) + models))
    gpus = [int(node.free_gpus) for node in nodes]
    cores = [node.free_cpus for node in nodes]
    if sum(cores) <= 0:
        raise StartFailure(f"nothing is free in the cluster ({describe(nodes)}); add a node")
    size = _size(gpus if sum(gpus) else cores, wanted)
    if sum(gpus):
        bins = tuple(_fitting(free, size) for free in gpus)
        # Of its own node's, or fewer fit there than there are parts of its accelerators.
        per_cpu = _part(min(1.0, *(core / fit for core, fit in zip(cores, bins, strict=True) if fit)))
        share = ResourceShare("", per_cpu, size, threads or 1, resource=resource)
        return Units(share, bins, resource, size)
    bins = tuple(_fitting(free, size) for free in cores)
    return Units(ResourceShare("", size, 0.0, threads or max(1, int(size))), bins, "core", size)


def _size(free: Sequence[float], wanted: int) -> float:
    """The largest amount of which ``wanted`` fit into what is free on each node, at most 1. Raises
    StartFailure."""
    if sum(int(amount) for amount in free) >= wanted:
        return 1.0
    parts = 1
    while sum(_fitting(amount, _part(1 / parts)) for amount in free) < wanted:
        parts += 1
        if parts > 1 / _LEAST:
            raise StartFailure(
                f"{sum(free):g} of the cluster is free, too little for {wanted} replicas: none is smaller "
                f"than {_LEAST:g}; add a node, or end what else runs on it"
            )
    return _part(1 / parts)


def _fitting(free: float, size: float) -> int:
    """How many of ``size`` there are in ``free``; a part of a unit of Ray's is never of two."""
    each = math.floor(1 / size + 1e-9) if size < 1 else 1
    return int(free) * each + math.floor((free - int(free)) / size + 1e-9) if size < 1 else int(free)


def _part(amount: float) -> float:
    """As Ray takes it: at most four digits."""
    return math.floor(amount * 1e4) / 1e4
