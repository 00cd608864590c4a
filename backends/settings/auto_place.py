"""Replicas of several models by a plan: ``--auto-place`` and what it goes by. Stdlib only."""

from __future__ import annotations

import argparse
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from backends.errors import UsageError

#: Those that other topologies refuse, as argparse names them.
_FLAGS = ("auto_place", "place_mix", "place_slo", "place_resource")
_LIMITS = ("ttft_ms", "tpot_ms")


@dataclass(frozen=True)
class AutoPlace:
    """``mix`` are the requests a second of each model that are expected at the start; a model without one is
    taken for as much asked as the least of the others. ``resource`` is the Ray resource whose units are
    slots; None: GPUs, and without one cores."""

    mix: Mapping[str, float] = field(default_factory=dict)
    ttft_ms: float = 1000.0
    tpot_ms: float | None = None
    resource: str | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags, in a group of their own, without defaults, so that giving one shows."""
    add = parser.add_argument_group("Placement of several models (topology rvc)").add_argument
    add(
        "--auto-place",
        action="store_const",
        const=True,
        help="plan each model's replicas from its size, the SLO and what arrives, and anew as that shifts",
    )
    add("--place-mix", metavar="MODEL=RPS,…", help="requests a second of each model to plan the start for")
    add("--place-slo", metavar="ttft_ms=N,tpot_ms=N", help="limits to plan for (default: ttft_ms=1000)")
    add("--place-resource", metavar="NAME", help="a Ray resource whose units are the slots, instead of GPUs")


def from_args(args: argparse.Namespace, models: Collection[str]) -> AutoPlace | None:
    """None where nothing is asked for. ``models`` are the names that are served. Raises UsageError."""
    if not args.auto_place:
        for name in _FLAGS[1:]:
            if getattr(args, name) is not None:
                raise UsageError(f"--{name.replace('_', '-')}: needs --auto-place")
        return None
    if args.num_replicas is not None:
        raise UsageError("--num-replicas: --auto-place says how many there are; leave it out")
    mix = _numbers("--place-mix", args.place_mix or "", models, "for example a=9,b=3")
    slo = _numbers("--place-slo", args.place_slo or "", _LIMITS, "for example ttft_ms=500,tpot_ms=50")
    return AutoPlace(mix, slo.get("ttft_ms", 1000.0), slo.get("tpot_ms"), args.place_resource)


def refuse_flags(args: argparse.Namespace, topology: str) -> None:
    """Raises UsageError when one of the flags is given to a topology without them."""
    for name in _FLAGS:
        if getattr(args, name) is not None:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} is for topology rvc: {topology} has the same engines for every model")


def _numbers(flag: str, text: str, known: Collection[str], example: str) -> dict[str, float]:
    """``NAME=NUMBER,…``. Raises UsageError."""
    found: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.rpartition("=")
        if not equals or name not in known:
            raise UsageError(f"{flag} {part!r}: write NAME=NUMBER with one of {', '.join(known)}, {example}")
        try:
            found[name] = float(value)
        except ValueError:
            found[name] = math.nan
        if not 0 < found[name] < math.inf:
            raise UsageError(f"{flag} {part!r}: must be a number greater than 0")
    return found
