"""The process of one vLLM engine: a Ray actor that serves the HTTP surface on a port of its own.

    router ──HTTP, with the run's bearer──▶ aiohttp ──▶ admission ──▶ VllmEngine (AsyncLLM) ──▶ EngineCore

With `--front-processes N` there are N - 1 further processes that do all of that up to the same EngineCore
(:mod:`backends.cluster.vllm_front`), each with a port of its own.

Everything of the engine is one process group with one private temporary folder. A reaper outside of it
ends both when this process ends, however it ends: vLLM's own processes would not notice.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from typing import Any

from backends.api.control import Control
from backends.api.defaults import Defaults
from backends.api.http_aiohttp import HttpServer
from backends.cluster.vllm_front import FrontSpec
from backends.cluster.vllm_fronts import SPARE_PLACES, Fronts
from backends.cluster.vllm_service import EngineSpec, VllmService, drained, listen, open_service, serve_on
from backends.engines.vllm_clients import ClientPlace, client_places, share_metrics
from backends.engines.vllm_environment import vllm_environment
from backends.errors import StartFailure
from backends.errors.text import make_logs_visible
from backends.models.load import ModelError, check_weights, resolve_model
from backends.process.log_tail import LogTail
from backends.process.scratch_dir import OwnedTempDir
from backends.router.fleet import Served
from backends.settings import kv_events
from backends.settings.accelerators import ray_ids
from backends.settings.engine import engine_arguments
from backends.settings.vllm import split_tools

log = logging.getLogger("backends.cluster.vllm_actor")


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
        self._service: VllmService | None = None
        self._server: HttpServer | None = None
        self._fronts: Fronts | None = None
        self._grpc: Any = None
        if spec.fronts > 1:
            metrics = self._folder.path / "metrics"
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(metrics)
            share_metrics(metrics)

    async def where(self) -> str:
        """The node's id, once the actor is placed."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    async def load(self) -> None:
        """Loads the model into vLLM. Raises UsageError when vLLM refuses an argument, StartFailure."""
        spec, options = self._spec, self._spec.options
        try:
            self._path = str(await asyncio.to_thread(resolve_model, spec.source))
            check_weights(self._path)
        except ModelError as error:
            raise StartFailure(f"model {spec.model}: {error}") from error
        given = engine_arguments(options, path=self._path, model=spec.model, gpu_share=spec.gpu_share)
        arguments, self._parser = split_tools(given)
        published = kv_events.sockets(self._folder.path) if options.vllm.kv_events else None
        if published is not None:
            arguments.append(kv_events.argument(published))
        devices = ray_ids(spec.resource) or ("0",) if spec.gpu_share else ()
        places = client_places(self._folder.path, spec.fronts - 1 + SPARE_PLACES) if spec.fronts > 1 else []
        try:
            from backends.engines.vllm import load_engine

            if places:
                self._fronts = await self._begin_fronts(arguments, devices, places)
            self._engine = await load_engine(
                arguments,
                engine=spec.engine,
                model=spec.model,
                devices=devices,
                threads=spec.threads,
                node_id=await self.where(),
                places=places,
                kv_events=published,
            )
        except ImportError as error:
            raise StartFailure(f"vLLM cannot be imported on {socket.gethostname()}: {error}") from error
        except StartFailure as error:
            if type(error) is StartFailure and (reason := self._log.reason()):
                raise StartFailure(f"{spec.engine}: {reason}") from error
            raise

    async def warm_up(self) -> None:
        await self._engine.warm_up()

    async def act(self, action: str) -> bool | None:
        """Follows one of ``api.control.ACTIONS``."""
        done: bool | None = await self._engine.act(action)
        return done

    async def serve(self) -> Served:
        """Opens the engine's port, those of its front processes, and its gRPC port."""
        spec = self._spec
        self._service = await open_service(
            spec, self._engine, self._path, self._parser, self._folder.path, self._fronts
        )
        listener = listen(self._host())
        self._server = await serve_on(self._service, spec.token, listener)
        further: tuple[tuple[str, int], ...] = ()
        if self._fronts is not None:
            further = await self._fronts.up()
            self._fronts.watch(self._engine.abort)
        if spec.grpc:
            from backends.rpc.server import GrpcServer

            host = listener.getsockname()[0]
            self._grpc = GrpcServer(f"[{host}]:0" if ":" in host else f"{host}:0", spec.token)
            further += ((host, await self._grpc.start()),)
            self._grpc.serve(self._service, Control("rvc", [self._service]))
        return Served(listener.getsockname()[:2], self._engine.info, self._path, further)

    async def configure(self, defaults: Defaults) -> None:
        """Requests from now on get these where they say nothing themselves."""
        assert self._service is not None
        await self._service.configure(defaults)

    async def died(self) -> str:
        """Returns when vLLM is gone; this process is then of no use. (When the process itself dies, the
        call fails.)"""
        assert self._service is not None
        ends = [asyncio.create_task(self._engine.died())]
        if self._fronts is not None:
            ends.append(asyncio.create_task(self._fronts.failed()))
        done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        reason: str = next(iter(done)).result()
        self._service.models[self._spec.model].admission.set_up(self._spec.engine, False)
        if self._fronts is not None:
            self._fronts.lost()
        await asyncio.sleep(0.1)  # running requests get the reason before the process ends
        return self._log.reason() or reason

    async def drain(self, grace_s: float) -> None:
        """Admits no more requests and waits until running ones have ended. After ``grace_s`` seconds they are
        cut."""
        if self._service is not None:
            fronts = [] if self._fronts is None else [self._fronts.drain(grace_s)]
            await asyncio.gather(drained(self._service, self._engine, grace_s), *fronts)

    async def close(self) -> None:
        """Ends vLLM's processes. This one is the head's to end."""
        if self._fronts is not None:
            await self._fronts.close()
        if self._engine is not None:
            await self._engine.close()

    async def log_lines(self) -> list[str]:
        """The last lines that vLLM printed."""
        return self._log.lines()

    async def _begin_fronts(
        self, arguments: list[tuple[str, str]], devices: tuple[str, ...], places: list[ClientPlace]
    ) -> Fronts:
        spec = self._spec
        front = FrontSpec(
            spec=spec,
            arguments=arguments,
            tool_parser=self._parser,
            path=self._path,
            devices=devices,
            node_id=await self.where(),
            place=places[0],
            host=self._host(),
            port=0,
            metrics=os.environ["PROMETHEUS_MULTIPROC_DIR"],
        )
        fronts = Fronts(front, places, spec.fronts - 1)
        await fronts.begin()
        return fronts

    def _host(self) -> str:
        import ray

        return "127.0.0.1" if self._spec.loopback else str(ray.util.get_node_ip_address())
