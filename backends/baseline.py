"""Topology `baseline`: Hugging Face `generate` in this process.

    client ──HTTP──▶ aiohttp ──▶ admission queue ──function call──▶ HfEngine (a thread per running request)

Engine: Hugging Face. Where it runs: here. How a request reaches it: a function call. This is the single-node
reference that the Ray topologies are measured against.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import torch

from backends.api.admission import Admission
from backends.api.control import Control
from backends.api.http_aiohttp import HttpServer
from backends.api.local_server import LocalServer
from backends.api.metrics import Metrics
from backends.api.render import Renderer
from backends.api.retrieval import open_retrieval
from backends.api.service import ServedModel, Service
from backends.api.splits import local
from backends.engines.hf import HfEngine, load_engine
from backends.models.load import resolve_step
from backends.process.events import Steps
from backends.rpc import beside
from backends.settings.accelerators import CPU, torch_devices, torch_platform
from backends.settings.options import ModelSpec, Options

NAME = "baseline"


async def start(options: Options, steps: Steps) -> LocalServer:
    """Loads every model into an engine of its own and serves them on ``options.listener``."""
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    server = HttpServer(options.api_key)
    await server.start(options.listener)
    grpc = beside.GrpcBeside()
    try:
        grpc = await beside.here(options.grpc, options.api_key)
        retrieval = await open_retrieval(options, steps)  # first: a refused index should not wait for weights
        models = [await _load(spec, number, options, steps) for number, spec in enumerate(options.models)]
        service = Service(models, metrics=Metrics(), retrieval=retrieval)
        with steps.step("http", options.url):
            facts = {"max_queue": options.max_queue, "index": options.index}
            splits, chooser = local(options.split, service)
            control = Control(NAME, [service], facts, splits=splits)
            server.serve(service, control, chooser)
            grpc.serve(service, control, options.listener.getsockname()[1])
    except BaseException:
        await grpc.close()
        await server.close()
        raise
    return LocalServer(server, service, grpc)


async def _load(spec: ModelSpec, number: int, options: Options, steps: Steps) -> ServedModel:
    path = await resolve_step(spec, steps)
    with steps.step("weights", spec.name):
        engine = await asyncio.to_thread(_engine, path, spec, number, options)
        renderer = await asyncio.to_thread(Renderer.load, path, trust_remote_code=options.trust_remote_code)
    with steps.step("warm-up", spec.name):
        await asyncio.to_thread(engine.warm_up)
    return ServedModel(
        name=spec.name,
        path=str(path),
        renderer=renderer,
        admission=Admission([engine], options.max_queue),
        max_model_len=engine.info.max_model_len,
    )


def _engine(path: Path | str, spec: ModelSpec, number: int, options: Options) -> HfEngine:
    kind, count = torch_platform(), torch_devices()
    return load_engine(
        path,
        engine=f"hf-{number}",
        model_name=spec.name,
        dtype=options.dtype,
        concurrency=options.engine_concurrency or 1,
        max_model_len=options.max_model_len,
        seed=options.seed,
        device=f"{kind}:{number % count}" if count else CPU,
        trust_remote_code=options.trust_remote_code,
    )
