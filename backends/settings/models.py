"""What a model is called and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelSpec:
    """``name=source``: the name that requests use, and a model folder, a Hub id, or a local model."""

    name: str
    source: str
