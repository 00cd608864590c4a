"""Settings of vLLM's own server: flags -> :class:`VllmServerOptions`. Stdlib only."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from backends.errors import UsageError


@dataclass(frozen=True)
class VllmServerOptions:
    """What was asked of `vllm serve`, beyond its engine: ``api_server_count`` processes that speak HTTP in
    front of one engine (None: vLLM's default), or its ``rust_frontend`` instead of them."""

    api_server_count: int | None = None
    rust_frontend: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags, in a group of their own. None of them has a default, so that giving one shows."""
    add = parser.add_argument_group("vLLM's own server (topology vllm)").add_argument
    add("--api-server-count", type=int, metavar="N", help="HTTP processes in front of one engine")
    add("--rust-frontend", action="store_const", const=True, help="vLLM's front end in Rust instead")


def from_args(args: argparse.Namespace) -> VllmServerOptions:
    """Raises UsageError."""
    count = args.api_server_count
    if count is not None and count < 1:
        raise UsageError(f"--api-server-count {count}: must be at least 1")
    if args.rust_frontend and count is not None and count > 1:
        raise UsageError(
            f"--api-server-count {count}: the Rust front end is one process; leave one of them out"
        )
    if args.rust_frontend and not has_rust_frontend():
        raise UsageError(
            "--rust-frontend: the vLLM installed here comes without one (the file vllm/vllm-rs); leave it "
            "out, or install a build that has it"
        )
    return VllmServerOptions(count, bool(args.rust_frontend))


def has_rust_frontend() -> bool:
    """Whether vLLM's wheel has the front end. (Without vLLM itself the start says what to install.)"""
    package = find_spec("vllm")
    return package is None or package.origin is None or Path(package.origin).with_name("vllm-rs").exists()


def refuse_flags(args: argparse.Namespace, topology: str) -> None:
    """Raises UsageError when a flag of vLLM's server is given to a topology without it."""
    for name in ("api_server_count", "rust_frontend"):
        if getattr(args, name) is not None:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{flag} is for vLLM's own server: topology {topology} does not run it (vllm does)"
            )
