"""Whether gRPC is answered beside HTTP, and where: flag -> a bound socket. Stdlib only."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Callable
from dataclasses import dataclass

from backends.errors import UsageError


@dataclass
class GrpcPlace:
    """Where gRPC is answered. ``listener`` is already bound, so that the port is ours before anything heavy
    loads."""

    host: str
    port: int
    listener: socket.socket

    @property
    def address(self) -> str:
        """As gRPC writes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return f"grpc://{self.address}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flag, in a group of its own, without a default, so that giving it shows."""
    add = parser.add_argument_group("gRPC (topologies baseline, rac, rsc, rvc)").add_argument
    add("--grpc", metavar="PORT", help="answer gRPC too, on this port of the same host; 0 takes a free one")


def from_args(
    args: argparse.Namespace, bind: Callable[[str, int], socket.socket], before: int | None
) -> GrpcPlace | None:
    """The place; None: HTTP alone. ``before``: the port of the start before, which is kept. Raises
    UsageError."""
    text = args.grpc
    if text is None:
        return None
    if not text.isdecimal() or int(text) > 65535:
        raise UsageError(f"--grpc {text}: must be a port, from 0 (a free one) to 65535")
    if args.split or args.model_size:
        raise UsageError(
            "--grpc: names for several models (--split, --model-size) are of HTTP; leave one out"
        )
    try:
        listener = bind(args.host, before or int(text))
    except UsageError as error:
        raise UsageError(f"--grpc: {str(error).replace('--port', '--grpc')}") from None
    return GrpcPlace(args.host, listener.getsockname()[1], listener)


def refuse_flags(args: argparse.Namespace, topology: str) -> None:
    """Raises UsageError when the flag is given to a topology without it."""
    if args.grpc is not None:
        raise UsageError(f"--grpc is for baseline, rac, rsc and rvc: {topology} answers over HTTP alone")
