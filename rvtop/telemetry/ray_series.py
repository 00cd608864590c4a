"""From the series of Ray's metrics pages to nodes, GPUs and Serve deployments. Pure.

Every node of a cluster exports one page: its own CPU, memory and GPUs, and what the workers on it counted.
So the figures of a deployment lie on the pages of all nodes with a part in it, and add up over them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, Generic, NamedTuple, TypeVar

from rvtop.telemetry.bounds import is_figure
from rvtop.telemetry.gpu import is_index
from rvtop.telemetry.metrics import RAY_NAMES, RAY_TABLE, RayName
from rvtop.telemetry.sample import DeploymentSample, GpuSample, NodeSample


class RayKey(NamedTuple):
    """What a figure is of. ``name`` is the node's address or ``application/deployment``; ``number`` a
    GPU's index, else -1."""

    of: str
    name: str
    number: int


class RaySlot(NamedTuple):
    """What one series is. ``device`` is a GPU's model."""

    key: RayKey
    name: RayName
    device: str


def ray_slot(name: str, labels: Mapping[str, str]) -> RaySlot | None:
    """The place of a series of ``metrics.RAY_NAMES``; None when it does not say what it is of."""
    known = RAY_NAMES[name]
    metric = known.metric
    if metric.of == "deployment":
        deployment = labels.get("deployment")
        application = labels.get("application")
        if not deployment:
            return None
        full = f"{application}/{deployment}" if application else deployment
        return RaySlot(RayKey("deployment", full, -1), known, "")
    node = labels.get("ip") or labels.get("NodeAddress", "")
    if metric.of == "node":
        return RaySlot(RayKey("node", node, -1), known, "")
    index = labels.get("GpuIndex", "")
    if not is_index(index):
        return None
    return RaySlot(RayKey("gpu", node, int(index)), known, labels.get("GpuDeviceName") or "GPU")


class RayParts:
    """Collects the series of one node, GPU or deployment."""

    __slots__ = ("_device", "_ranks", "_values")

    def __init__(self) -> None:
        self._device = ""
        self._values: dict[str, float] = {}
        self._ranks: dict[str, int] = {}

    def add(self, slot: RaySlot, value: float) -> None:
        """Takes one series in; what is no figure is left out. Of two names of a counter on one page only the
        preferred one counts."""
        if not is_figure(value):
            return
        self._device = slot.device
        metric = slot.name.metric
        field, value = metric.field, value * metric.scale
        rank = self._ranks.setdefault(field, slot.name.rank)
        if slot.name.rank > rank:
            return
        held = self._values.get(field) if slot.name.rank == rank else None
        if held is not None:
            value = max(held, value) if metric.combine == "max" else held + value
        self._ranks[field] = slot.name.rank
        self._values[field] = value

    def node(self, key: RayKey, default_node: str) -> NodeSample:
        """The node at this moment."""
        return NodeSample(key.name or default_node, **self._values)

    def gpu(self, key: RayKey, default_node: str) -> GpuSample:
        """The GPU at this moment."""
        used, free = self._values.get("memory_used"), self._values.get("memory_free")
        return GpuSample(
            node=key.name or default_node,
            index=key.number,
            name=self._device,
            memory_used=used,
            memory_total=None if used is None or free is None else used + free,
            util=self._values.get("util"),
            watts=self._values.get("watts"),
        )

    def deployment(self, key: RayKey) -> DeploymentSample:
        """The deployment as far as this page tells of it."""
        return DeploymentSample(key.name, **self._values)


_SUMMED = tuple(m.field for m in RAY_TABLE if m.of == "deployment" and m.combine == "sum")


def together(deployments: Iterable[DeploymentSample]) -> tuple[DeploymentSample, ...]:
    """The deployments of several pages, each once."""
    found: dict[str, DeploymentSample] = {}
    for part in deployments:
        held = found.get(part.name)
        found[part.name] = part if held is None else _added(held, part)
    return tuple(found[name] for name in sorted(found))


def _added(one: DeploymentSample, other: DeploymentSample) -> DeploymentSample:
    sums: dict[str, Any] = {name: _sum(getattr(one, name), getattr(other, name)) for name in _SUMMED}
    targets = [target for target in (one.target_replicas, other.target_replicas) if target is not None]
    return replace(one, **sums, target_replicas=max(targets, default=None))


def _sum(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other


#: Serve brings its gauges up to date every 10 s, and a page of Ray 2.52 tells each only to who asks first.
HOLD_S = 15.0
_IDENTITY = frozenset({"node", "index", "name"})
_Told = TypeVar("_Told", NodeSample, GpuSample, DeploymentSample)


class Held(Generic[_Told]):
    """What a page reported last of its nodes, GPUs or deployments, for the pages that leave gauges out (every
    other one of Ray 2.52). A figure that is not reported again for ``HOLD_S`` is gone."""

    def __init__(self) -> None:
        # identity -> (the sample, when each of its figures was reported, in seconds)
        self._held: dict[tuple[object, ...], tuple[_Told, dict[str, float]]] = {}

    def filled(self, samples: Iterable[_Told], now_s: float) -> tuple[_Told, ...]:
        """The samples of a page that came at ``now_s``, with what it left out."""
        left = dict(self._held)
        found = [self._fill(sample, left.pop(_identity(sample), None), now_s) for sample in samples]
        for key, (sample, reported) in left.items():
            if any(now_s - then_s <= HOLD_S for then_s in reported.values()):
                nothing: dict[str, Any] = dict.fromkeys(reported)
                found.append(self._fill(replace(sample, **nothing), (sample, reported), now_s))
            else:
                del self._held[key]
        return tuple(found)

    def _fill(self, sample: _Told, before: tuple[_Told, dict[str, float]] | None, now_s: float) -> _Told:
        reported: dict[str, float] = {}
        old: dict[str, Any] = {}
        for field in fields(sample):
            if field.name in _IDENTITY:
                continue
            then_s = now_s
            if getattr(sample, field.name) is None:
                if before is None or now_s - before[1].get(field.name, -math.inf) > HOLD_S:
                    continue
                then_s, old[field.name] = before[1][field.name], getattr(before[0], field.name)
            reported[field.name] = then_s
        values: Any = old
        filled = replace(sample, **values)
        self._held[_identity(sample)] = filled, reported
        return filled


def _identity(sample: NodeSample | GpuSample | DeploymentSample) -> tuple[object, ...]:
    return tuple(getattr(sample, field.name) for field in fields(sample) if field.name in _IDENTITY)
