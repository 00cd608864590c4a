"""Settings of Ray Serve LLM: flags -> :class:`ServeLlmOptions`. Stdlib only."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from backends.errors import UsageError

#: What has Serve LLM stream past its ingress.
DIRECT = "RAY_SERVE_LLM_ENABLE_DIRECT_STREAMING"
# Where Ray reads it.
_READ_IN = "llm/_internal/serve/constants.py"


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
    if args.direct_streaming and not has_direct_streaming():
        raise UsageError(
            "--direct-streaming: the Ray installed here cannot stream past its ingress; leave it out, or "
            "install one that can (2.60)"
        )
    return ServeLlmOptions(batching, bool(args.direct_streaming))


def has_direct_streaming() -> bool:
    """Whether Serve LLM of the Ray installed here has it: asked of its source, since importing it takes tens
    of seconds. (Without Ray itself the start says what to install.)"""
    package = find_spec("ray")
    if package is None or package.origin is None:
        return True
    try:
        return DIRECT in (Path(package.origin).parent / _READ_IN).read_text("utf-8")
    except OSError:
        return False


def refuse_flags(args: argparse.Namespace, topology: str) -> None:
    """Raises UsageError when a flag of Ray Serve LLM is given to a topology without it."""
    for name in ("stream_batching_ms", "direct_streaming"):
        if getattr(args, name) is not None:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} is for Ray Serve LLM: topology {topology} does not run it (rsv does)")
