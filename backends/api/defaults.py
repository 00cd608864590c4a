"""What a request gets that does not say it itself; changed while the backend serves (``rvtop set``)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

from backends.api import fields
from backends.errors import ApiError, bad_request

SET_PATH = "/rvtop/set"


@dataclass(frozen=True)
class Defaults:
    """None: what there is without (of the surface's own defaults, :mod:`backends.api.request`)."""

    max_tokens: int | None = None
    temperature: float | None = None
    rag_top_k: int | None = None

    def put_in(self, data: dict[str, Any]) -> None:
        """Puts them into a request body where it has nothing of its own."""
        if self.max_tokens is not None and all(
            data.get(name) is None for name in ("max_tokens", "max_completion_tokens")
        ):
            data["max_tokens"] = self.max_tokens
        if self.temperature is not None and data.get("temperature") is None:
            data["temperature"] = self.temperature
        rag = data.get("rag")
        if self.rag_top_k is not None and isinstance(rag, dict) and rag.get("top_k") is None:
            data["rag"] = {**rag, "top_k": self.rag_top_k}

    def changed(self, data: Mapping[str, Any]) -> Defaults:
        """Those with the fields of ``data``; null takes one away. Raises ApiError (400)."""
        known = asdict(self)
        if unknown := next((name for name in data if name not in known), None):
            raise bad_request(f"`{unknown}` can't be set; there are {', '.join(known)}.", unknown)
        given = dict(data)
        new = {
            "max_tokens": fields.integer(given, "max_tokens", low=1),
            "temperature": None if given.get("temperature") is None else _temperature(given),
            "rag_top_k": fields.integer(given, "rag_top_k", low=1, high=100),
        }
        return Defaults(**{**known, **{name: new[name] for name in data}})


NO_DEFAULTS = Defaults()


@runtime_checkable
class Configurable(Protocol):
    """Engines whose defaults can be changed while they serve."""

    async def configure(self, defaults: Defaults) -> None:
        """Returns when every request from now on gets them. Raises ApiError where that can't be."""
        ...


@runtime_checkable
class Scalable(Protocol):
    """Engines with stages whose replicas can be told while they serve."""

    async def scale(self, counts: Mapping[str, int]) -> Mapping[str, int]:
        """Has stages get other numbers of replicas; returns those of all. Raises ApiError (400)."""
        ...


#: Behind a stage's name: how many replicas it is to have.
REPLICAS = ".replicas"


class Settings:
    """The defaults of a backend, and the replicas of its stages, as its control endpoint changes them."""

    def __init__(self, topology: str) -> None:
        self._topology = topology
        self.defaults = Defaults()
        self._changing = asyncio.Lock()  # a change begins with what the one before it left

    async def change(self, body: bytes, groups: list[Any]) -> dict[str, Any]:
        """Has all groups take what a JSON object says. Raises ApiError: 400 for a value that can't be, 404
        where the engines are not ours."""
        data = fields.json_object(body)
        async with self._changing:
            return await self._change(data, groups)

    async def _change(self, data: dict[str, Any], groups: list[Any]) -> dict[str, Any]:
        counts = {name: data.pop(name) for name in list(data) if name.endswith(REPLICAS)}
        defaults = self.defaults.changed(data)
        scaled = await self._scaled(counts, groups) if counts else {}
        if data or not counts:
            if not all(isinstance(group, Configurable) for group in groups):
                raise not_here(self._topology)
            for group in groups:
                await group.configure(defaults)
            self.defaults = defaults
        return asdict(defaults) | scaled

    async def _scaled(self, counts: dict[str, Any], groups: list[Any]) -> dict[str, int]:
        scalable = [group for group in groups if isinstance(group, Scalable)]
        if not scalable:
            raise bad_request(
                f"Topology {self._topology} has no stages whose replicas could be set; graph has.",
                next(iter(counts)),
            )
        asked = {name.removesuffix(REPLICAS): fields.integer(counts, name, low=1) or 0 for name in counts}
        now = await scalable[0].scale(asked)
        return {f"{stage}{REPLICAS}": count for stage, count in now.items()}


def not_here(topology: str) -> ApiError:
    """Of a topology whose servers are not ours."""
    return ApiError(
        404,
        f"Topology {topology} has no defaults that can be set: its servers are vLLM's or Ray's own. "
        "baseline, rac, rsc, rvc and graph have.",
        type="NotFoundError",
    )


def _temperature(data: dict[str, Any]) -> float:
    value = fields.number(data, "temperature", 1.0)
    if not 0.0 <= value <= 2.0:
        raise bad_request(f"temperature must be in [0, 2], got {value}.", "temperature")
    return value
