"""The process of one vLLM engine: a Ray actor that serves the HTTP surface on a port of its own.

    router ──HTTP, with the run's bearer──▶ aiohttp ──▶ admission ──▶ VllmEngine (AsyncLLM) ──▶ EngineCore

Everything of the engine is one process group with one private temporary folder. A reaper outside of it
ends both when this process ends, however it ends: vLLM's own processes would not notice.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backends.api.admission import Admission
from backends.api.control import Control
from backends.api.http_aiohttp import HttpServer
from backends.api.render import Renderer
from backends.api.retrieval import open_retrieval
from backends.api.service import ServedModel, Service
from backends.api.tools import Tools
from backends.api.vllm_tools import VllmTools
from backends.engines.vllm_environment import vllm_environment
from backends.errors import StartFailure
from backends.models.load import ModelError, resolve_model
from backends.process.events import Steps
from backends.process.log_tail import LogTail
from backends.process.scratch_dir import OwnedTempDir
from backends.router.fleet import Served
from backends.settings.engine import engine_arguments
from backends.settings.options import Options
from backends.settings.vllm import split_tools
from backends.text import make_logs_visible

log = logging.getLogger("backends.cluster.vllm_actor")

# The router keeps idle connections to us; were we to close one first, a request could be lost on it.
KEEP_ALIVE_S = 7200.0
# How long readers get to receive the error of a generation that was ended.
ERROR_DELIVERY_S = 1.0


@dataclass(frozen=True)
class EngineSpec:
    """What an engine's process needs. ``options`` are the head's (without its socket); ``environ`` is what
    the head's environment says to vLLM and Hugging Face; ``queue`` is how many may wait for this engine."""

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

    def __repr__(self) -> str:  # the token and the environment stay out of every log
        return f"EngineSpec({self.engine}, {self.model}={self.source})"


class VllmActor:
    """Runs in the actor's process. Every method but the first is async, so that short calls never wait."""

    def __init__(self, spec: EngineSpec) -> None:
        os.setpgid(0, 0)
        self._folder = OwnedTempDir("rvtop-eng-", group=os.getpid())
        environ = vllm_environment(
            os.environ | dict(spec.environ),
            spec.options.vllm,
            folder=str(self._folder.path),
            cpu_threads=None if spec.gpu_share else spec.threads,
        )
        for name in set(os.environ) - set(environ):
            del os.environ[name]
        os.environ.update(environ | self._folder.env)  # marks vLLM's processes for the reaper
        self._spec = spec
        self._log = LogTail.of_this_process()
        make_logs_visible()
        self._engine: Any = None
        self._tools: Tools | None = None
        self._service: Service | None = None
        self._server: HttpServer | None = None

    async def where(self) -> str:
        """The node's id, once the actor is placed."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    async def load(self) -> None:
        """Loads the model into vLLM. Raises UsageError when vLLM refuses an argument, StartFailure."""
        spec, options = self._spec, self._spec.options
        try:
            self._path = str(await asyncio.to_thread(resolve_model, spec.source))
        except ModelError as error:
            raise StartFailure(f"model {spec.model}: {error}") from error
        given = engine_arguments(options, path=self._path, model=spec.model, gpu_share=spec.gpu_share)
        arguments, parser = split_tools(given)
        try:
            from backends.engines.vllm import load_engine

            self._engine = await load_engine(
                arguments,
                engine=spec.engine,
                model=spec.model,
                devices=_devices() if spec.gpu_share else (),
                threads=spec.threads,
                node_id=await self.where(),
            )
            if parser is not None:
                self._tools = VllmTools(parser, self._engine.tokenizer, self._engine.model_config)
        except ImportError as error:
            raise StartFailure(f"vLLM cannot be imported on {socket.gethostname()}: {error}") from error
        except StartFailure as error:
            if type(error) is StartFailure and (reason := self._log.reason()):
                raise StartFailure(f"{spec.engine}: {reason}") from error
            raise

    async def warm_up(self) -> None:
        await self._engine.warm_up()

    async def serve(self) -> Served:
        """Opens the engine's port."""
        spec = self._spec
        renderer = await asyncio.to_thread(
            Renderer.load, self._path, trust_remote_code=spec.options.trust_remote_code
        )
        model = ServedModel(
            name=spec.model,
            path=self._path,
            renderer=renderer,
            admission=Admission([self._engine], spec.queue),
            max_model_len=self._engine.info.max_model_len,
            tools=self._tools,
        )
        retrieval = await open_retrieval(spec.options, Steps(lambda event, **fields: None))
        self._service = _VllmService([model], retrieval=retrieval)
        listener = socket.socket(socket.AF_INET6 if ":" in self._host() else socket.AF_INET)
        listener.bind((self._host(), 0))
        listener.listen(4096)
        listener.setblocking(False)
        self._server = HttpServer(spec.token, keep_alive_s=KEEP_ALIVE_S)
        await self._server.start(listener)
        self._server.serve(self._service, Control("rvc", [self._service]))
        return Served(listener.getsockname()[:2], self._engine.info, self._path)

    async def died(self) -> str:
        """Returns when vLLM is gone; this process is then of no use. (When the process itself dies, the
        call fails.)"""
        assert self._service is not None
        reason: str = await self._engine.died()
        self._service.models[self._spec.model].admission.set_up(self._spec.engine, False)
        await asyncio.sleep(0.1)  # running requests get the reason before the process ends
        return self._log.reason() or reason

    async def drain(self, grace_s: float) -> None:
        """Admits no more requests and waits until running ones have ended. After ``grace_s`` seconds they are
        cut."""
        if self._service is None:
            return
        self._service.stop_admitting()
        if not await self._service.drain(grace_s):
            await self._engine.stop()
            await self._service.drain(ERROR_DELIVERY_S)

    async def close(self) -> None:
        """Ends vLLM's processes. This one is the head's to end."""
        if self._engine is not None:
            await self._engine.close()

    async def log_lines(self) -> list[str]:
        """The last lines that vLLM printed."""
        return self._log.lines()

    def _host(self) -> str:
        import ray

        return "127.0.0.1" if self._spec.loopback else str(ray.util.get_node_ip_address())


class _VllmService(Service):
    """A service whose metrics are vLLM's own."""

    async def metrics_page(self) -> str:
        engines = [engine for model in self.models.values() for engine in model.admission.engines]
        return "".join(engine.metrics_page() for engine in engines)  # type: ignore[attr-defined]


def _devices() -> tuple[str, ...]:
    """The GPUs that Ray gave this process, by the node's numbers."""
    import ray

    ids = ray.get_runtime_context().get_accelerator_ids().get("GPU") or []
    return tuple(f"cuda:{gpu}" for gpu in ids) or ("cuda:0",)
