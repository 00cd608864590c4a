"""Settings of Ray Serve LLM: flags -> :class:`ServeLlmOptions`. Stdlib only."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

from backends.errors import UsageError


@dataclass(frozen=True)
class ServeLlmOptions:
    """What was asked of Ray Serve LLM. ``stream_batching_ms`` is for how many milliseconds it collects
    tokens before it sends them on, None for Ray's own value (50); with ``direct_streaming`` tokens go from an
    engine to Serve's HAProxy without passing through the ingress deployment."""

    stream_batching_ms: float | None = None
    direct_streaming: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags, in a group of their own. None of them has a default, so that giving one shows."""
    add = parser.add_argument_group("Ray Serve LLM (topology rsv)").add_argument
    add(
        "--stream-batching-ms",
        type=float,
        metavar="N",
        help="milliseconds for which tokens are collected; 0: each is sent at once (default: Ray's own, 50)",
    )
    add(
        "--direct-streaming",
        action="store_const",
        const=True,
        help="tokens do not pass through the ingress (only on a cluster of our own)",
    )


def from_args(args: argparse.Namespace) -> ServeLlmOptions:
    """Raises UsageError."""
    batching = args.stream_batching_ms
    if batching is not None and not 0 <= batching < math.inf:
        raise UsageError(f"--stream-batching-ms {batching:g}: must be a number of milliseconds, 0 or more")
    if batching is not None and args.direct_streaming:
        raise UsageError(
            f"--stream-batching-ms {batching:g}: --direct-streaming collects no tokens; leave one of them out"
        )
    return ServeLlmOptions(batching, bool(args.direct_streaming))


def refuse_flags(args: argparse.Namespace, topology: str) -> None:
    """Raises UsageError when a flag of Ray Serve LLM is given to a topology without it."""
    for name in ("stream_batching_ms", "direct_streaming"):
        if getattr(args, name) is not None:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} is for Ray Serve LLM: topology {topology} does not run it (rsv does)")
