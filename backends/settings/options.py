"""What a start was asked for, as plain data. The ground floor: stdlib only, and nothing of ours but the other
settings."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

from backends.settings.auto_place import AutoPlace
from backends.settings.autoscale import Autoscale
from backends.settings.graph import GraphOptions
from backends.settings.lora import LoraOptions
from backends.settings.models import ModelSpec as ModelSpec
from backends.settings.serve import ServeOptions
from backends.settings.serve_llm import ServeLlmOptions
from backends.settings.split import SplitOptions
from backends.settings.vllm import VllmOptions
from backends.settings.vllm_server import VllmServerOptions

DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass
class Options:
    """What the command line asked for. ``listener`` is already bound, so that the port is ours before
    anything heavy loads. ``engine_concurrency`` None is the topology's own default; ``max_queue`` None is
    unlimited; ``threads`` None leaves torch's default. ``ray_address`` None starts a local cluster,
    ``num_replicas`` None gives every GPU (without one: every node) an engine, ``front_processes`` None as
    many processes in front of it as its cores can feed. ``autoscale`` None is a fixed number of replicas;
    so is ``auto_place`` None."""

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
    front_processes: int | None = 1
    vllm_server: VllmServerOptions = field(default_factory=VllmServerOptions)
    autoscale: Autoscale | None = None
    auto_place: AutoPlace | None = None
    serve: ServeOptions = field(default_factory=ServeOptions)
    serve_llm: ServeLlmOptions = field(default_factory=ServeLlmOptions)
    split: SplitOptions = field(default_factory=SplitOptions)
    graph: GraphOptions = field(default_factory=GraphOptions)
    lora: LoraOptions = field(default_factory=LoraOptions)

    @property
    def names(self) -> list[str]:
        """What requests are meant to name: the alias of a split in place of its arms."""
        splits = self.split.splits
        arms = {arm.model for split in splits for arm in split.arms}
        return [split.alias for split in splits] + [m.name for m in self.models if m.name not in arms]

    @property
    def url(self) -> str:
        """Where clients reach it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.listener.getsockname()[1]}"
