"""Ray Serve's settings: flags -> :class:`ServeOptions`. Stdlib only."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

from backends.errors import UsageError

GIB = 2**30
STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")


#: Those that no other topology takes, as argparse names them.
_FLAGS = (
    *("max_ongoing", "serve_batch", "serve_batch_wait", "serve_grace", "serve_grace_poll"),
    *("serve_memory", "serve_health_period", "serve_health_timeout", "serve_strategy"),
)


@dataclass(frozen=True)
class ServeOptions:
    """What was asked of Serve. ``max_ongoing`` is how many requests a replica is given at once, None for what
    its engine computes at once; ``batch`` how many requests `@serve.batch` puts into one call of `generate`,
    None for no batching, ``batch_wait_s`` how long the first of a batch waits for others; ``grace_s`` how
    long a replica that is retired may go on with the answers it has begun: as long as the longest of them
    takes; ``grace_poll_s`` how often it looks whether they have ended. ``memory_gib`` is what each replica
    reserves of its node's memory, None for nothing. Serve asks a replica every ``health_period_s`` whether it
    can answer, and replaces it when it has not said so for ``health_timeout_s``. ``strategy`` says how the
    bundles of a replica's placement group lie on nodes, None for Ray's own (PACK)."""

    max_ongoing: int | None = None
    batch: int | None = None
    batch_wait_s: float = 0.01
    grace_s: float = 120.0
    grace_poll_s: float = 0.2
    memory_gib: float | None = None
    health_period_s: float = 2.0
    health_timeout_s: float = 30.0
    strategy: str | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags, in a group of their own. None of them has a default, so that giving one shows."""
    add = parser.add_argument_group("Ray Serve (topologies rsc, rsv, graph)").add_argument
    add(
        "--max-ongoing",
        type=int,
        metavar="N",
        help="requests in a replica at once (default: what it computes)",
    )
    add("--serve-batch", type=int, metavar="N", help="put up to N requests into one batch (@serve.batch)")
    add("--serve-batch-wait", type=float, metavar="S", help="seconds that a batch waits to fill up")
    add(
        "--serve-grace",
        type=float,
        metavar="S",
        help="seconds for the answers of a replica that is retired; the longest must fit (default: 120)",
    )
    add(
        "--serve-grace-poll",
        type=float,
        metavar="S",
        help="seconds after which such a replica looks again whether its answers have ended (default: 0.2)",
    )
    add(
        "--serve-memory",
        type=float,
        metavar="GIB",
        help="memory that each replica reserves of its node (default: none)",
    )
    add(
        "--serve-health-period",
        type=float,
        metavar="S",
        help="seconds between two questions whether a replica can answer (default: 2)",
    )
    add(
        "--serve-health-timeout",
        type=float,
        metavar="S",
        help="seconds without a good answer to them after which a replica is replaced (default: 30)",
    )
    add(
        "--serve-strategy",
        metavar="STRATEGY",
        help=f"how a replica's bundles lie on nodes: {', '.join(STRATEGIES)} (default: Ray's own, PACK)",
    )


def from_args(args: argparse.Namespace) -> ServeOptions:
    """Raises UsageError."""
    given = {
        "max_ongoing": args.max_ongoing,
        "batch": args.serve_batch,
        "batch_wait_s": args.serve_batch_wait,
        "grace_s": args.serve_grace,
        "grace_poll_s": args.serve_grace_poll,
        "memory_gib": args.serve_memory,
        "health_period_s": args.serve_health_period,
        "health_timeout_s": args.serve_health_timeout,
        "strategy": args.serve_strategy,
    }
    options = ServeOptions(**{name: value for name, value in given.items() if value is not None})
    for flag, value in (("--max-ongoing", options.max_ongoing), ("--serve-batch", options.batch)):
        if value is not None and value < 1:
            raise UsageError(f"{flag} {value}: must be at least 1")
    for flag, seconds in (
        ("--serve-batch-wait", options.batch_wait_s),
        ("--serve-grace", options.grace_s),
    ):
        if not 0 <= seconds < math.inf:
            raise UsageError(f"{flag} {seconds:g}: must be a number of seconds, 0 or more")
    for flag, amount, unit in (
        ("--serve-grace-poll", options.grace_poll_s, "seconds"),
        ("--serve-health-period", options.health_period_s, "seconds"),
        ("--serve-health-timeout", options.health_timeout_s, "seconds"),
        ("--serve-memory", options.memory_gib, "GiB"),
    ):
        if amount is not None and not 0 < amount < math.inf:
            raise UsageError(f"{flag} {amount:g}: must be a number of {unit} greater than 0")
    if options.strategy is not None and options.strategy not in STRATEGIES:
        raise UsageError(f"--serve-strategy {options.strategy}: must be one of {', '.join(STRATEGIES)}")
    return options


def refuse_flags(args: argparse.Namespace, topology: str) -> None:
    """Raises UsageError when a flag of Serve is given to a topology without it."""
    for name in _FLAGS:
        if getattr(args, name) is not None:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{flag} is for Ray Serve: topology {topology} does not use it (rsc, rsv and graph do)"
            )
