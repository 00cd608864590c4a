"""The options of a topology that is started, and the arguments of ``python -m backends`` that they make."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Annotated

import typer

from rvtop.cli.options import RayAddress
from rvtop.cli.place_options import PlaceOptions
from rvtop.errors import UserError


@dataclass(frozen=True)
class EngineOptions(PlaceOptions):
    """The options of ``python -m backends`` that have one of their own here."""

    ray_address: RayAddress = None
    engine_arg: Annotated[
        list[str] | None, typer.Option("--engine-arg", help="vLLM engine argument k=v; repeat.")
    ] = None
    lora_dir: Annotated[
        str | None,
        typer.Option(
            "--lora-dir",
            metavar="[MODEL=]DIR",
            help="Topologies rvc, rsv: LoRA adapters, a folder each, asked for by name.",
        ),
    ] = None
    front_processes: Annotated[
        str | None,
        typer.Option(
            "--front-processes", metavar="N|auto", help="Topology rvc: HTTP processes in front of one engine."
        ),
    ] = None
    api_server_count: Annotated[
        int | None,
        typer.Option("--api-server-count", help="Topology vllm: HTTP processes in front of one engine."),
    ] = None
    rust_frontend: Annotated[
        bool, typer.Option("--rust-frontend", help="Topology vllm: vLLM's front end in Rust.")
    ] = False
    stream_batching_ms: Annotated[
        float | None,
        typer.Option(
            "--stream-batching-ms",
            help="Topology rsv: milliseconds for which tokens are collected; 0: each is sent at once.",
        ),
    ] = None
    kv_events: Annotated[
        bool,
        typer.Option(
            "--kv-events", help="Topologies with vLLM: engines tell what they cache, for the KV map."
        ),
    ] = False
    direct_streaming: Annotated[
        bool, typer.Option("--direct-streaming", help="Topology rsv: tokens do not pass its ingress.")
    ] = False
    grpc: Annotated[
        int | None,
        typer.Option(
            "--grpc",
            metavar="PORT",
            help="Topologies baseline, rac, rsc, rvc: answer gRPC too, on this port; 0: a free one.",
        ),
    ] = None
    split: Annotated[
        list[str] | None,
        typer.Option(
            "--split",
            metavar="ALIAS=MODEL:SHARE,…",
            help="One name for several of its models, by shares (rvtop split changes them); repeat.",
        ),
    ] = None
    fallback: Annotated[
        bool, typer.Option("--fallback", help="What an arm of --split can't answer goes to another arm.")
    ] = False
    session_header: Annotated[
        str | None,
        typer.Option(
            "--session-header", help="Header that keeps a session on one arm; default x-session-id."
        ),
    ] = None
    model_size: Annotated[
        list[str] | None,
        typer.Option(
            "--model-size",
            metavar="SIZE=MODEL",
            help="Model of requests that name model_size and no model; repeat.",
        ),
    ] = None
    autoscale: Annotated[
        str | None,
        typer.Option(
            "--autoscale",
            metavar="MIN:MAX|FIELD=VALUE,…",
            help="Topologies rsc, rsv, rvc: replicas follow the load; min=1,max=3,target=4,up=2,down=10,…",
        ),
    ] = None
    autoscale_on: Annotated[
        list[str] | None,
        typer.Option(
            "--autoscale-on",
            metavar="FIGURE>VALUE",
            help="Scale on this too: kv_usage, gpu_util, ttft_p99, waiting; repeat.",
        ),
    ] = None
    autoscale_pattern: Annotated[
        str | None,
        typer.Option(
            "--autoscale-pattern",
            metavar="LENGTH",
            help="The load repeats itself after this time (24h, 5m): replicas start before it grows.",
        ),
    ] = None
    autoscale_ahead: Annotated[
        float | None,
        typer.Option(
            "--autoscale-ahead", help="Seconds that replicas start ahead of such a growth; default 30."
        ),
    ] = None

    def arguments(self) -> list[str]:
        """The same, as arguments of ``python -m backends``."""
        ray = ["--ray-address", self.ray_address] if self.ray_address is not None else []
        return ray + self.of_gateway() + self.of_engines()

    def of_gateway(self) -> list[str]:
        """Those of names for several models."""
        split = _repeated("--split", self.split)
        sizes = _repeated("--model-size", self.model_size)
        header = [] if self.session_header is None else ["--session-header", self.session_header]
        return split + sizes + header + ["--fallback"] * self.fallback

    def of_engines(self) -> list[str]:
        """Those of them that only a topology has a use for."""
        engine = _repeated("--engine-arg", self.engine_arg)
        servers = [] if self.api_server_count is None else ["--api-server-count", str(self.api_server_count)]
        fronts = [] if self.front_processes is None else ["--front-processes", self.front_processes]
        batching = self.stream_batching_ms
        streams = [] if batching is None else ["--stream-batching-ms", f"{batching:g}"]
        switches = {
            "--rust-frontend": self.rust_frontend,
            "--direct-streaming": self.direct_streaming,
            "--kv-events": self.kv_events,
        }
        scale = _repeated("--autoscale-on", self.autoscale_on)
        scale += [
            part
            for flag, value in (
                ("--lora-dir", self.lora_dir),
                ("--autoscale", self.autoscale),
                ("--autoscale-pattern", self.autoscale_pattern),
                ("--autoscale-ahead", self.autoscale_ahead),
            )
            if value is not None
            for part in (flag, f"{value:g}" if isinstance(value, float) else value)
        ]
        given = [flag for flag, on in switches.items() if on]
        given += [] if self.grpc is None else ["--grpc", str(self.grpc)]
        return engine + fronts + servers + streams + scale + self.placing() + given


def _repeated(flag: str, texts: list[str] | None) -> list[str]:
    return [part for text in texts or () for part in (flag, text)]


def words_of(backend_options: str) -> tuple[str, ...]:
    """The words of ``--backend-options``. Raises UserError for a quotation mark that is never closed."""
    try:
        return tuple(shlex.split(backend_options))
    except ValueError as error:
        raise UserError(f"--backend-options: {error}") from None
