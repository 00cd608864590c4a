"""What a process of an RVC engine serves: the one that started the engine, or another in front of it."""

from __future__ import annotations

import asyncio
import math
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from backends.api.admission import Admission
from backends.api.control import Control
from backends.api.http_aiohttp import HttpServer
from backends.api.render import Renderer
from backends.api.retrieval import open_retrieval
from backends.api.service import Retrieval, ServedModel, Service
from backends.api.tools import Tools
from backends.api.vllm_tools import VllmTools
from backends.cluster.machine import machine_facts
from backends.engines.adapters import Adapters
from backends.models.adapters import AdapterFolder
from backends.process.events import Steps
from backends.settings.options import Options

# The router keeps idle connections to us; were we to close one first, a request could be lost on it.
KEEP_ALIVE_S = 7200.0
# How long readers get to receive the error of a generation that was ended.
ERROR_DELIVERY_S = 1.0
# Where tokens stream, the thread that tokenizes prompts waits for the interpreter's lock: ten times less than
# by default, or a prompt would wait for it more than once, 5 ms each.
SWITCH_S = 0.0005


@dataclass(frozen=True)
class EngineSpec:
    """What an engine's processes need. ``options`` are the head's (without its socket); ``environ`` is what
    the head's environment says to vLLM and Hugging Face; ``queue`` is how many may wait for this engine;
    ``fronts`` how many processes answer for it."""

    engine: str
    model: str
    source: str
    gpu_share: float
    threads: int
    queue: int | None
    loopback: bool
    token: str
    options: Options
    environ: Mapping[str, str]
    fronts: int = 1

    def __repr__(self) -> str:  # the token and the environment stay out of every log
        return f"EngineSpec({self.engine}, {self.model}={self.source})"


class OtherFronts(Protocol):
    """The other processes in front of the same engine."""

    @property
    def restarts(self) -> int: ...

    def rows(self) -> list[dict[str, Any]]: ...


class VllmService(Service):
    """A service whose metrics are vLLM's own. ``fronts`` are the other processes that serve its engine."""

    def __init__(
        self,
        models: Sequence[ServedModel],
        *,
        retrieval: Retrieval | None = None,
        fronts: OtherFronts | None = None,
    ) -> None:
        super().__init__(models, retrieval=retrieval)
        self._fronts = fronts

    async def engine_rows(self) -> list[dict[str, Any]]:
        rows = [row | {"machine": machine_facts()} for row in await super().engine_rows()]
        if self._fronts is not None:
            for row in rows:  # of the one engine
                own = {"pid": os.getpid(), "state": row["state"], "in_flight": row["in_flight"]}
                row["fronts"] = [own, *self._fronts.rows()]
                row["in_flight"] = sum(front["in_flight"] for front in row["fronts"])
                row["front_restarts"] = self._fronts.restarts
        return rows

    async def metrics_page(self) -> str:
        engines = [engine for model in self.models.values() for engine in model.admission.engines]
        return "".join(engine.metrics_page() for engine in engines)  # type: ignore[attr-defined]


async def open_service(
    spec: EngineSpec,
    engine: Any,
    path: str,
    tool_parser: str | None,
    scratch: Path,
    fronts: OtherFronts | None = None,
) -> VllmService:
    """The service of one front process of ``engine``, a client of vLLM. Each of several queues its part of
    what may wait. ``scratch``: the engine's folder for what it keeps. Raises StartFailure."""
    sys.setswitchinterval(SWITCH_S)
    renderer = await asyncio.to_thread(Renderer.load, path, trust_remote_code=spec.options.trust_remote_code)
    tools: Tools | None = None
    if tool_parser is not None:
        tools = VllmTools(tool_parser, engine.tokenizer, engine.model_config)
    queue = None if spec.queue is None else math.ceil(spec.queue / spec.fronts)
    model = ServedModel(
        name=spec.model,
        path=path,
        renderer=renderer,
        admission=Admission([engine], queue, queues=spec.fronts),
        max_model_len=engine.info.max_model_len,
        tools=tools,
        adapters=_adapters(spec, engine, path, scratch),
        aliases=spec.options.split.aliases_of(spec.model),
    )
    retrieval = await open_retrieval(spec.options, Steps(lambda event, **fields: None))
    return VllmService([model], retrieval=retrieval, fronts=fronts)


def _adapters(spec: EngineSpec, engine: Any, path: str, scratch: Path) -> Adapters | None:
    folder, rank = spec.options.lora.folder_of(spec.model), engine.info.max_lora_rank
    if folder is None or rank is None:
        return None
    return Adapters(AdapterFolder(folder, spec.model), engine, path, scratch / "adapters", rank)


async def drained(service: VllmService, engine: Any, grace_s: float) -> None:
    """Admits no more requests and waits until running ones have ended. After ``grace_s`` seconds they are
    cut."""
    service.stop_admitting()
    if not await service.drain(grace_s):
        await engine.stop()
        await service.drain(ERROR_DELIVERY_S)


async def serve_on(service: VllmService, token: str, listener: socket.socket) -> HttpServer:
    """Answers on a socket of its own, to whoever has the run's bearer."""
    server = HttpServer(token, keep_alive_s=KEEP_ALIVE_S)
    await server.start(listener)
    server.serve(service, Control("rvc", [service]))
    return server


def listen(host: str, port: int = 0) -> socket.socket:
    """A listening socket. ``port`` 0 takes a free one. Raises OSError."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(4096)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener
