"""From series of a backend of ours to the replicas of its models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from rvtop.contract.replicas import Replicas
from rvtop.contract.snapshot import ServeDeployment
from rvtop.telemetry.bounds import is_figure

_STATES = ("wanted", "starting", "healthy", "draining", "pending")
_REPLICAS = "rvtop:replicas"
_FIELDS = {"rvtop:replica_target_requests": "target_requests", "rvtop:replica_nodes": "nodes"}
#: Series of a page that are looked at.
REPLICA_NAMES = frozenset({_REPLICAS, *_FIELDS})


class ReplicaSlot(NamedTuple):
    """What one series is: a field of a model's Replicas."""

    key: str
    field: str


def replica_slot(name: str, labels: Mapping[str, str]) -> ReplicaSlot | None:
    """The place of a series of REPLICA_NAMES; None when it does not say what it is of."""
    model, field = labels.get("model_name"), labels.get("state", "")
    if name in _FIELDS:
        field = _FIELDS[name]
    elif field not in _STATES:
        return None
    return ReplicaSlot(model, field) if model else None


class ReplicaParts:
    """Collects the series of one model."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: dict[str, float] = {}

    def add(self, slot: ReplicaSlot, value: float) -> None:
        if is_figure(value):
            self._values[slot.field] = value

    def replicas(self, model: str) -> Replicas:
        """The model's at this moment."""
        return Replicas(model, **self._values)


def of_deployments(deployments: tuple[ServeDeployment, ...]) -> tuple[Replicas, ...]:
    """What Ray Serve tells of deployments that it scales, where nobody tells more."""
    return tuple(
        Replicas(
            one.name,
            one.target_replicas,
            max(0.0, one.target_replicas - one.replicas),
            one.replicas,
            max(0.0, one.replicas - one.target_replicas),
        )
        for one in deployments
        if one.target_replicas is not None and one.replicas is not None
    )
