"""What a topology is, and which there are. Stdlib only: listing them must not import torch or Ray.

A topology is one module with ``async def start(options, steps) -> Running``. To add one: write that file and
add its line to :data:`REGISTRY`.
"""

from __future__ import annotations

import importlib
import socket
from dataclasses import dataclass, field
from typing import Protocol, cast

from backends.errors import UsageError
from backends.process.events import Steps
from backends.settings.serve import ServeOptions
from backends.settings.vllm import VllmOptions

REGISTRY = {
    "baseline": "backends.baseline",
    "rac": "backends.rac",
    "rsc": "backends.rsc",
    "rvc": "backends.rvc",
}


@dataclass(frozen=True)
class ModelSpec:
    """``name=source``: the name that requests use, and a model folder, a Hub id, or a local model."""

    name: str
    source: str


@dataclass
class Options:
    """What the command line asked for. ``listener`` is already bound, so that the port is ours before
    anything heavy loads. ``engine_concurrency`` None is the topology's own default; ``max_queue`` None is
    unlimited; ``threads`` None leaves torch's default. ``ray_address`` None starts a local cluster,
    ``num_replicas`` None gives every GPU (without one: every node) an engine."""

    topology: str
    models: tuple[ModelSpec, ...]
    listener: socket.socket
    host: str = "127.0.0.1"
    api_key: str | None = field(default=None, repr=False)
    engine_concurrency: int | None = None
    max_queue: int | None = 1024
    dtype: str = "auto"
    threads: int | None = None
    max_model_len: int | None = None
    index: str | None = None
    embedder: str | None = None
    seed: int = 0
    trust_remote_code: bool = False
    ray_address: str | None = None
    num_replicas: int | None = None
    vllm: VllmOptions = field(default_factory=VllmOptions)
    serve: ServeOptions = field(default_factory=ServeOptions)

    @property
    def url(self) -> str:
        """Where clients reach it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.listener.getsockname()[1]}"


class Running(Protocol):
    """A topology that serves."""

    async def failed(self) -> str:
        """Returns, with the reason in one line, only if the topology broke and cannot mend itself."""
        ...

    async def close(self, grace_s: float) -> None:
        """Ends everything it started. What runs may go on for ``grace_s`` seconds first."""
        ...


class Topology(Protocol):
    async def start(self, options: Options, steps: Steps) -> Running:
        """Serves ``options.models``, or raises StartFailure (UsageError for impossible options) with nothing
        left running."""
        ...


def load(name: str) -> Topology:
    """The topology's module. Raises UsageError for an unknown name."""
    if name not in REGISTRY:
        raise UsageError(f"unknown topology {name!r}; known: {', '.join(REGISTRY)}")
    return cast(Topology, importlib.import_module(REGISTRY[name]))
