"""From the series of Ray's metrics pages to nodes, GPUs and Serve deployments. Pure.

Every node of a cluster exports one page: its own CPU, memory and GPUs, and what the workers on it counted.
So the figures of a deployment lie on the pages of all nodes with a part in it, and add up over them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from rvtop.telemetry.bounds import is_figure
from rvtop.telemetry.gpu import is_index
from rvtop.telemetry.metrics import RAY_NAMES, RayMetric
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
    metric: RayMetric
    device: str


def ray_slot(name: str, labels: Mapping[str, str]) -> RaySlot | None:
    """The place of a series of ``metrics.RAY_NAMES``; None when it does not say what it is of."""
    metric = RAY_NAMES[name]
    if metric.of == "deployment":
        deployment = labels.get("deployment")
        application = labels.get("application")
        if not deployment:
            return None
        full = f"{application}/{deployment}" if application else deployment
        return RaySlot(RayKey("deployment", full, -1), metric, "")
    node = labels.get("ip") or labels.get("NodeAddress", "")
    if metric.of == "node":
        return RaySlot(RayKey("node", node, -1), metric, "")
    index = labels.get("GpuIndex", "")
    if not is_index(index):
        return None
    return RaySlot(RayKey("gpu", node, int(index)), metric, labels.get("GpuDeviceName") or "GPU")


class RayParts:
    """Collects the series of one node, GPU or deployment."""

    __slots__ = ("_device", "_values")

    def __init__(self) -> None:
        self._device = ""
        self._values: dict[str, float] = {}

    def add(self, slot: RaySlot, value: float) -> None:
        """Takes one series in; what is no figure is left out."""
        if not is_figure(value):
            return
        self._device = slot.device
        field, value = slot.metric.field, value * slot.metric.scale
        held = self._values.get(field)
        if held is not None:
            value = max(held, value) if slot.metric.combine == "max" else held + value
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
        )

    def deployment(self, key: RayKey) -> DeploymentSample:
        """The deployment as far as this page tells of it."""
        return DeploymentSample(key.name, **self._values)


_SUMMED = tuple(m.field for m in RAY_NAMES.values() if m.of == "deployment" and m.combine == "sum")


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
