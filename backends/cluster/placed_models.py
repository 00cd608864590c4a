"""RVC's engines with ``--auto-place``: what there is to share, what each model's replicas take of it, and
what is counted of them."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.cluster.allocate import of_one_kind
from backends.cluster.cluster import Node, ResourceShare, free_of
from backends.cluster.placement_loop import AutoPlacer
from backends.cluster.placement_mix import Ended, Replanner, ended_of
from backends.cluster.placement_plan import Capacity, ModelLoad, PlanError, Profile, Slo
from backends.cluster.vllm_replicas import ReplicaPool
from backends.errors import UsageError
from backends.process.events import Steps
from backends.router.membership import Membership
from backends.router.router import Router
from backends.settings.accelerators import GPU
from backends.settings.auto_place import AutoPlace
from backends.settings.options import Options

log = logging.getLogger("backends.cluster.placement")

# Until engines are measured: what reads weights once for each token, and the output that requests ask for.
_GPU_BYTES_S = 2e12
_CORE_BYTES_S = 1e10
_UNKNOWN_MS = 10.0
_TOKENS = 128.0
# vLLM's own number of places, until an engine says its.
_PLACES = 256
# Where models share GPUs, each gets so many parts of one.
_PARTS = 8
_WEIGHTS = ("*.safetensors", "*.bin")


@dataclass(frozen=True)
class Slot:
    """What one slot is. ``kind`` is what Ray calls its accelerators."""

    num_cpus: float
    num_gpus: float
    threads: int
    resource: str | None
    kind: str = GPU


class PlacedModels:
    """The plan of several models' replicas. ``shares`` are those of all replicas that there may be, the
    models in turn."""

    def __init__(
        self, asked: AutoPlace, loads: Sequence[ModelLoad], capacity: Capacity, slot: Slot, steps: Steps
    ) -> None:
        try:
            self.planner = Replanner(loads, capacity, Slo(asked.ttft_ms, asked.tpot_ms))
        except PlanError as error:
            raise UsageError(str(error)) from None
        for assigned in self.planner.plan.models:
            with steps.step(f"plan {assigned.model}", assigned.reason):
                pass
        sizes = {assigned.model: assigned.slots for assigned in self.planner.plan.models}
        spare = 0 if capacity.grows else capacity.total - sum(sizes.values())
        self.shares = [
            _share(model, size, slot) for model, size in sizes.items() for _ in range(1 + spare // size)
        ]
        self._placer: AutoPlacer | None = None

    def replicas(self, model: str) -> int:
        """How many there are at the start."""
        return self.planner.plan.replicas[model]

    def begin(self, pools: Sequence[ReplicaPool], members: Membership, router: Router) -> AutoPlacer:
        """Begins to look at what arrives, and to move replicas."""
        for pool in pools:
            pool.members = members
            if pool.places is not None:
                self.planner.know_places(pool.model, int(pool.places))
        self._placer = AutoPlacer(self.planner, pools, _Counts(members, router), members.fleet.wanted)
        self._placer.start()
        return self._placer

    def facts(self) -> dict[str, Any]:
        """Further entries of ``/rvtop/topology``."""
        return {} if self._placer is None else self._placer.facts()


async def placed_models(
    options: Options, asked: AutoPlace, nodes: Sequence[Node], paths: Mapping[str, str], steps: Steps
) -> PlacedModels:
    """The plan of the start. ``paths`` of the models' weights, by name. Raises UsageError."""
    _check(options)
    slots = await free_of(asked.resource) if asked.resource is not None else None
    capacity, slot = _capacity(options, asked, nodes, slots)
    least = min(asked.mix.values(), default=1.0)
    workers = options.vllm.workers if slot.num_gpus and asked.resource is None else 1
    loads = []
    for spec in options.models:
        size = await asyncio.to_thread(weights_of, paths[spec.name])
        places = options.vllm.max_num_seqs or options.engine_concurrency or _PLACES
        bytes_s = (_GPU_BYTES_S if slot.num_gpus else _CORE_BYTES_S) * workers
        token_ms = _UNKNOWN_MS if size is None else max(1.0, 1e3 * size / bytes_s)
        known = "expected" if spec.name in asked.mix else "assumed"
        rate = asked.mix.get(spec.name, least)
        profile = Profile(places, token_ms * (_PARTS if capacity.grows else 1))
        loads.append(ModelLoad(spec.name, rate, _TOKENS, profile, size, workers, known))
    return PlacedModels(asked, loads, capacity, slot, steps)


def weights_of(path: str) -> int | None:
    """Bytes of a model folder's weights; None where it has none, or is no folder of this machine."""
    for pattern in _WEIGHTS:
        if size := sum(file.stat().st_size for file in Path(path).glob(pattern)):
            return size
    return None


def gpu_bytes() -> float | None:
    """The memory of this machine's smallest GPU; None where NVML does not say."""
    try:
        import pynvml  # type: ignore[import-untyped]
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]
        return min((float(pynvml.nvmlDeviceGetMemoryInfo(handle).total) for handle in handles), default=None)
    except pynvml.NVMLError as error:
        log.warning("NVML does not tell the memory of a GPU (%s): weights are not counted", error)
        return None


def _check(options: Options) -> None:
    """Raises UsageError for what a plan leaves no room for."""
    if options.autoscale is not None:
        raise UsageError("--auto-place: moves replicas between models; leave --autoscale out")
    if options.vllm.placement != "pack":
        raise UsageError(
            f"--placement {options.vllm.placement}: with --auto-place each replica has a placement group of "
            "its own; leave it out"
        )


def _capacity(
    options: Options, asked: AutoPlace, nodes: Sequence[Node], slots: Mapping[str, float] | None
) -> tuple[Capacity, Slot]:
    """What is free, in slots: units of the resource, GPUs, or cores. ``slots`` of each node, by its id."""
    kind, nodes = of_one_kind(nodes)
    cpus = sum(node.free_cpus for node in nodes)
    gpus = int(sum(node.free_gpus for node in nodes))
    if slots is not None:
        bins = tuple(int(slots.get(node.id, 0.0)) for node in nodes)
        total = sum(bins)
        if not total:
            raise UsageError(f"--place-resource {asked.resource}: no node of the cluster has any of it free")
        part = math.floor(1e4 * min(1.0, cpus / total)) / 1e4
        gpu = math.floor(1e4 * min(1.0, gpus / total)) / 1e4
        return Capacity(bins, asked.resource or ""), Slot(
            part, gpu, options.threads or 1, asked.resource, kind
        )
    if gpus:
        workers, models = options.vllm.workers, len(options.models)
        whole = tuple(int(node.free_gpus) for node in nodes)
        if models > gpus and workers == 1:
            memory = gpu_bytes() if kind == GPU else None
            part_bytes = None if memory is None else memory / _PARTS
            core = int(1e4 * min(1.0, cpus / (gpus * _PARTS))) / 1e4
            bins, unit = (_PARTS,) * gpus, f"{kind}-eighth"
            return Capacity(bins, unit, part_bytes, grows=True), Slot(core, 1 / _PARTS, 1, None, kind)
        core = int(1e4 * min(1.0, cpus / gpus)) / 1e4
        return Capacity(whole if workers > 1 else (1,) * gpus, kind), Slot(core, 1.0, 1, None, kind)
    by_core = [node.memory / node.cpus for node in nodes if node.memory and node.cpus]
    cores = tuple(int(node.free_cpus) for node in nodes)
    slot_bytes = min(by_core) if len(by_core) == len(nodes) else None
    return Capacity(cores, "core", slot_bytes), Slot(1.0, 0.0, options.threads or 1, None)


def _share(model: str, slots: int, slot: Slot) -> ResourceShare:
    further = () if slot.resource is None else ((slot.resource, float(slots)),)
    # Of GPUs more than one are whole ones.
    gpus = slots * slot.num_gpus
    return ResourceShare(
        model,
        slots * slot.num_cpus,
        float(int(gpus)) if gpus >= 1 else gpus,
        slots * slot.threads,
        further,
        slot.kind,
    )


class _Counts:
    """What the router and the engines count."""

    def __init__(self, members: Membership, router: Router) -> None:
        self._members = members
        self._router = router

    async def arrived(self) -> Mapping[str, int]:
        return await self._router.arrived()

    async def held(self) -> Mapping[str, int]:
        return await self._router.in_flight()

    async def ended(self) -> Mapping[str, tuple[str, Ended]]:
        members = [member for member in self._members.fleet.members if member.status != "starting"]
        pages = await asyncio.gather(*(member.page() for member in members))
        return {
            member.engine: (member.model, ended_of(page))
            for member, page in zip(members, pages, strict=True)
            if page is not None
        }
