"""How several models share what there is, as a server of ours with ``--auto-place`` tells it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rvtop.text import NAME_LIMIT, told

_MOST_MODELS = 64
_MOST_REPLICAS = 100_000
_REASON_LIMIT = 400


@dataclass(frozen=True, slots=True)
class PlacedModel:
    """What a model gets: ``headroom`` is the load that its replicas sustain within the SLO over what arrives,
    None where nothing arrives; ``reason`` is one line."""

    name: str
    replicas: int
    headroom: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Placement:
    """The plan in force: the ``number``-th since the server's start. ``moving``: replicas that start or
    drain now."""

    number: int
    moving: int
    models: tuple[PlacedModel, ...]


def placement_of(facts: Any) -> Placement | None:
    """The plan in an answer to ``/rvtop/topology``; None where there is none, or nothing that makes sense."""
    found = facts.get("placement") if isinstance(facts, dict) else None
    if not isinstance(found, dict) or not isinstance(found.get("models"), list):
        return None
    models = [_model(row) for row in found["models"][:_MOST_MODELS]]
    if not models or None in models:
        return None
    number, moving = _whole(found.get("number")), _whole(found.get("moving"))
    if number is None or moving is None:
        return None
    return Placement(number, moving, tuple(model for model in models if model is not None))


def _model(row: Any) -> PlacedModel | None:
    if not isinstance(row, dict):
        return None
    replicas, headroom = _whole(row.get("replicas")), row.get("headroom")
    if replicas is None:
        return None
    known = isinstance(headroom, int | float) and not isinstance(headroom, bool) and 0 <= headroom < 1e12
    return PlacedModel(
        told(row.get("model"), NAME_LIMIT),
        replicas,
        float(headroom) if known and headroom is not None else None,
        told(row.get("reason"), _REASON_LIMIT),
    )


def _whole(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= _MOST_REPLICAS else None
