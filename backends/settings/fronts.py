"""How many processes speak HTTP in front of one engine of ours: flag -> number. Stdlib only."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Protocol

from backends.errors import UsageError

AUTO = "auto"
# Four reach what vLLM's engine process can do (docs/results.md).
AUTO_MOST = 4
# Cores of an engine for each front, so that the engine's own process keeps the ones it needs.
AUTO_CORES = 4


class Share(Protocol):
    """What an engine has (see :class:`backends.cluster.cluster.ResourceShare`)."""

    @property
    def num_gpus(self) -> float: ...

    @property
    def threads(self) -> int: ...


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flag, in a group of its own, without a default, so that giving it shows."""
    add = parser.add_argument_group("Processes in front of an engine (topology rvc)").add_argument
    add("--front-processes", metavar="N|auto", help="processes that speak HTTP in front of one engine (1)")


def from_args(args: argparse.Namespace) -> int | None:
    """How many; None: :func:`chosen` chooses. Raises UsageError."""
    text = args.front_processes
    if text is None:
        return 1
    if text == AUTO:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--front-processes {text}: must be a whole number of at least 1, or {AUTO}")
    return int(text)


def refuse_flags(args: argparse.Namespace, topology: str) -> None:
    """Raises UsageError when the flag is given to a topology without it."""
    if args.front_processes is not None:
        instead = "has --api-server-count" if topology == "vllm" else "has no such processes"
        raise UsageError(f"--front-processes is for topology rvc: {topology} {instead}")


def chosen(asked: int | None, shares: Sequence[Share]) -> int:
    """The number of front processes of each engine. ``auto``: one for four of the engine's cores, at most
    four; a single one on the CPU, where the engine needs the cores itself."""
    if asked is not None:
        return asked
    cores = min((share.threads for share in shares if share.num_gpus), default=0)
    return max(1, min(AUTO_MOST, cores // AUTO_CORES))
