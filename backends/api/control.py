"""The control endpoint on the head, over all engines: models, health, metrics, topology. Pure."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import orjson

from backends.api import fields
from backends.api.defaults import REPLICAS, Settings
from backends.api.metrics import CONTENT_TYPE as METRICS_TYPE
from backends.api.metrics import merge_pages
from backends.api.splits import SPLIT_PATH, Splits
from backends.errors import ApiError, StartFailure, unavailable
from backends.models.adapters import AdapterFolder
from backends.process import again
from backends.process.notices import NOTICES

JSON_TYPE = "application/json"
CONTROL_PATHS = ("/health", "/v1/models", "/metrics", "/rvtop/topology", "/rvtop/cluster", SPLIT_PATH)
#: What a POST asks the engines to do, by its path; vLLM's names. With what an engine needs for it.
ACTIONS = {
    "/reset_prefix_cache": "a prefix cache that can be reset",
    "/start_profile": "a profiler (vLLM's --profiler-config)",
    "/stop_profile": "a profiler (vLLM's --profiler-config)",
}


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


class EngineGroup(Protocol):
    """Engines that answer the control endpoint together: a service in this process, or a fleet of actors or
    replicas."""

    @property
    def models(self) -> Mapping[str, Listed]: ...

    def ready(self) -> bool: ...

    def restarts(self) -> int:
        """How often an engine was started anew since the backend serves."""
        ...

    async def engine_rows(self) -> list[dict[str, Any]]: ...

    async def metrics_page(self) -> str: ...


@runtime_checkable
class Acting(Protocol):
    """A group of engines that follow ACTIONS."""

    async def act(self, action: str) -> bool | None:
        """Whether ``action`` (its path without the slash) was done by all that can; None: none of them has
        anything of the kind."""
        ...


class Control:
    """Answers the control paths as ``(content type, body)``; ``/health`` raises ApiError (503) while the
    backend cannot answer. ``facts`` are further entries of ``/rvtop/topology``, ``live`` asks for those that
    change. ``cluster`` is what ``/rvtop/cluster`` says beside the notices, where there is one: known, and
    asked of nobody, since it is read each second and while nothing answers. ``adapters`` are listed as models
    too."""

    def __init__(
        self,
        topology: str,
        groups: Sequence[EngineGroup],
        facts: Mapping[str, Any] | None = None,
        live: Callable[[], Awaitable[Mapping[str, Any]]] | None = None,
        splits: Splits | None = None,
        cluster: Callable[[], Mapping[str, Any]] | None = None,
        adapters: AdapterFolder | None = None,
    ) -> None:
        self._adapters = adapters
        self._cluster = cluster
        self._topology = topology
        self._groups = groups
        self._facts = dict(facts or {})
        self._live = live
        self._splits = splits
        self._settings = Settings(topology)
        self._started = time.time()

    async def answer(self, path: str) -> tuple[str, bytes] | None:
        """None for a path that is not the control endpoint's."""
        match path:
            case "/health":
                return JSON_TYPE, self._health()
            case "/v1/models":
                return JSON_TYPE, orjson.dumps(self._models())
            case "/metrics":
                pages = await asyncio.gather(*(group.metrics_page() for group in self._groups))
                return METRICS_TYPE, merge_pages(pages).encode()
            case "/rvtop/topology":
                return JSON_TYPE, orjson.dumps(await self._describe())
            case path if path == SPLIT_PATH:
                return JSON_TYPE, orjson.dumps({"splits": self._told()})
            case "/rvtop/cluster":
                known = self._cluster() if self._cluster is not None else {}
                return JSON_TYPE, orjson.dumps({"notices": NOTICES.rows(), **known})
        return None

    async def split(self, body: bytes) -> tuple[str, bytes]:
        """Changes the shares of an alias (see :meth:`Splits.change`). Raises ApiError."""
        if self._splits is None:
            raise ApiError(404, "This server splits no name.", type="NotFoundError")
        told = await self._splits.change(body)
        again.keep("split", self._splits.shares())
        return JSON_TYPE, orjson.dumps({"splits": told})

    async def set(self, body: bytes) -> tuple[str, bytes]:
        """Changes what requests get that do not say it themselves. Raises ApiError."""
        now = await self._settings.change(body, list(self._groups))
        again.keep("set", fields.json_object(body))
        return JSON_TYPE, orjson.dumps(now)

    async def as_before(self) -> None:
        """Where this program was started again in its own place: changes what was changed before. To be
        called once the engines are up, before requests come."""
        kept = again.changed_before("set")
        replicas = {name: count for name, count in kept.items() if name.endswith(REPLICAS)}
        defaults = {name: value for name, value in kept.items() if name not in replicas}
        for values in filter(None, (defaults, replicas)):  # for which the new cluster may lack the room
            await _changed_again("set", self._settings.change(orjson.dumps(values), list(self._groups)))
        if self._splits is not None:
            for alias, shares in again.changed_before("split").items():
                body = orjson.dumps({"alias": alias, "shares": shares})
                await _changed_again("split", self._splits.change(body))

    async def act(self, path: str) -> tuple[str, bytes]:
        """Has the engines follow one of ACTIONS. Raises ApiError: 404 where no engine has anything of the
        kind, 409 where one could not."""
        groups = [group for group in self._groups if isinstance(group, Acting)]
        done = await asyncio.gather(*(group.act(path.removeprefix("/")) for group in groups))
        if all(one is None for one in done):
            raise ApiError(404, f"No engine here has {ACTIONS[path]}.", type="NotFoundError")
        if False in done:
            raise ApiError(409, "An engine could not: requests hold what it needs.", type="ConflictError")
        return JSON_TYPE, orjson.dumps({"success": True})

    def _health(self) -> bytes:
        if not all(group.ready() for group in self._groups):
            raise unavailable("Not every model has an engine that is ready.")
        restarts = sum(group.restarts() for group in self._groups)
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
            for group in self._groups
            for model in group.models.values()
        }
        for split in self._splits.options.splits if self._splits else ():
            card = cards[split.arms[0].model]
            cards[split.alias] = card | {"id": split.alias, "parent": split.arms[0].model}
        if self._adapters is not None and (base := cards.get(self._adapters.parent)) is not None:
            for name in self._adapters.names():
                path = str(self._adapters.path / name)
                cards.setdefault(name, base | {"id": name, "root": path, "parent": self._adapters.parent})
        return {"object": "list", "data": list(cards.values())}

    def _told(self) -> list[dict[str, Any]]:
        return self._splits.told() if self._splits else []

    async def _describe(self) -> dict[str, Any]:
        rows = await asyncio.gather(*(group.engine_rows() for group in self._groups))
        return {
            "topology": self._topology,
            "node": socket.gethostname(),
            "pid": os.getpid(),
            "started_at": self._started,
            "models": [card["id"] for card in self._models()["data"]],
            "engines": [row for group_rows in rows for row in group_rows],
            **({"splits": told} if (told := self._told()) else {}),
            **self._facts,
            **(await self._live() if self._live else {}),
        }


async def _changed_again(command: str, changing: Awaitable[Any]) -> None:
    """Awaits a change of the start before; where it can't be any more, says so and the backend serves without
    it."""
    try:
        await changing
    except (ApiError, StartFailure) as error:
        NOTICES.say(f"what `rvtop {command}` changed is lost: {error}", "warn")
