"""The control endpoint on the head, over all engines: models, health, metrics, topology. Pure.

These four answers never come from one replica by chance: whoever serves them holds every source of figures.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import orjson

from backends.api.metrics import CONTENT_TYPE as METRICS_TYPE
from backends.api.metrics import merge_pages
from backends.errors import unavailable

JSON_TYPE = "application/json"


class Listed(Protocol):
    """What ``/v1/models`` says of a model."""

    @property
    def name(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def max_model_len(self) -> int: ...
    @property
    def created(self) -> int: ...


class Source(Protocol):
    """A part of the backend that has engines: a service in this process, or a remote one."""

    @property
    def models(self) -> Mapping[str, Listed]: ...

    def ready(self) -> bool: ...

    def restarts(self) -> int:
        """How often an engine was started anew since the backend serves."""
        ...

    async def engine_rows(self) -> list[dict[str, Any]]: ...

    async def metrics_page(self) -> str: ...


class Control:
    """Answers the four control paths as ``(content type, body)``; ``/health`` raises ApiError (503) while the
    backend cannot answer. ``facts`` are further entries of ``/rvtop/topology``, ``live`` asks for those that
    change."""

    def __init__(
        self,
        topology: str,
        sources: Sequence[Source],
        facts: Mapping[str, Any] | None = None,
        live: Callable[[], Awaitable[Mapping[str, Any]]] | None = None,
    ) -> None:
        self._topology = topology
        self._sources = sources
        self._facts = dict(facts or {})
        self._live = live
        self._started = time.time()

    async def answer(self, path: str) -> tuple[str, bytes] | None:
        """None for a path that is not the control endpoint's."""
        match path:
            case "/health":
                return JSON_TYPE, self._health()
            case "/v1/models":
                return JSON_TYPE, orjson.dumps(self._models())
            case "/metrics":
                pages = await asyncio.gather(*(source.metrics_page() for source in self._sources))
                return METRICS_TYPE, merge_pages(pages).encode()
            case "/rvtop/topology":
                return JSON_TYPE, orjson.dumps(await self._describe())
        return None

    def _health(self) -> bytes:
        if not all(source.ready() for source in self._sources):
            raise unavailable("Not every model has an engine that is ready.")
        restarts = sum(source.restarts() for source in self._sources)
        return orjson.dumps({"status": "ok", "restarts": restarts})

    def _models(self) -> dict[str, Any]:
        cards = {
            model.name: {
                "id": model.name,
                "object": "model",
                "created": model.created,
                "owned_by": "rvtop",
                "root": model.path,
                "parent": None,
                "max_model_len": model.max_model_len,
            }
            for source in self._sources
            for model in source.models.values()
        }
        return {"object": "list", "data": list(cards.values())}

    async def _describe(self) -> dict[str, Any]:
        rows = await asyncio.gather(*(source.engine_rows() for source in self._sources))
        return {
            "topology": self._topology,
            "node": socket.gethostname(),
            "pid": os.getpid(),
            "started_at": self._started,
            "models": [card["id"] for card in self._models()["data"]],
            "engines": [row for source_rows in rows for row in source_rows],
            **self._facts,
            **(await self._live() if self._live else {}),
        }
