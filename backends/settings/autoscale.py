"""How many replicas a model has, as the load asks for: ``--autoscale`` -> :class:`Autoscale`. Stdlib only.

The fields are those of Ray Serve's `autoscaling_config` (Ray 2.60), with its defaults. On rsc and rsv Serve
itself follows them; on rvc :mod:`backends.scaling` does.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from backends.errors import UsageError
from backends.settings.scale_rules import Rule, parse_pattern, parse_rules

AGGREGATIONS = ("mean", "max", "min")

#: Those that other topologies refuse, as argparse names them.
_FLAGS = ("autoscale", "autoscale_on", "autoscale_pattern", "autoscale_ahead")


@dataclass(frozen=True)
class Autoscale:
    """The fields of Ray's `autoscaling_config`, in its words. ``target_ongoing_requests`` None: what a
    replica computes at once. ``metrics_interval_s`` None: Ray's own. ``rules`` are further reasons to scale
    (``--autoscale-on``); ``pattern`` is the length in seconds of a load that repeats itself, None for none,
    and ``ahead_s`` how long before a ramp of it replicas are asked for. ``warned``: a line for each
    deprecated name that was given."""

    min_replicas: int = 1
    max_replicas: int = 1
    initial_replicas: int | None = None
    target_ongoing_requests: float | None = None
    upscale_delay_s: float = 30.0
    downscale_delay_s: float = 600.0
    downscale_to_zero_delay_s: float | None = None
    upscaling_factor: float = 1.0
    downscaling_factor: float = 1.0
    look_back_period_s: float = 30.0
    aggregation_function: str = "mean"
    metrics_interval_s: float | None = None
    rules: tuple[Rule, ...] = ()
    pattern_s: float | None = None
    ahead_s: float = 30.0
    warned: tuple[str, ...] = field(default=(), compare=False)

    @property
    def first(self) -> int:
        """Replicas at the start."""
        return self.min_replicas if self.initial_replicas is None else self.initial_replicas

    def bounded(self, replicas: int) -> int:
        """``replicas``, not fewer and not more than asked for."""
        return max(self.min_replicas, min(self.max_replicas, replicas))


def _count(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise ValueError(f"must be a whole number, {least} or more")
        return int(text)

    return read


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError("must be a number of seconds, 0 or more")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError("must be a number greater than 0")
    return value


def _aggregation(text: str) -> str:
    if text.lower() not in AGGREGATIONS:
        raise ValueError(f"must be one of {', '.join(AGGREGATIONS)}")
    return text.lower()


#: Ray's field -> how it is read, and its short name.
_FIELDS: Mapping[str, tuple[Callable[[str], Any], str]] = {
    "min_replicas": (_count(0), "min"),
    "max_replicas": (_count(1), "max"),
    "initial_replicas": (_count(0), "initial"),
    "target_ongoing_requests": (_positive, "target"),
    "upscale_delay_s": (_seconds, "up"),
    "downscale_delay_s": (_seconds, "down"),
    "downscale_to_zero_delay_s": (_seconds, "down_to_zero"),
    "upscaling_factor": (_positive, "up_factor"),
    "downscaling_factor": (_positive, "down_factor"),
    "look_back_period_s": (_positive, "look_back"),
    "aggregation_function": (_aggregation, "aggregate"),
    "metrics_interval_s": (_positive, "interval"),
}
_SHORT = {short: name for name, (_, short) in _FIELDS.items()}
#: What Ray has deprecated -> what takes its place.
_DEPRECATED: Mapping[str, tuple[str, ...]] = {
    "target_num_ongoing_requests_per_replica": ("target_ongoing_requests",),
    "smoothing_factor": ("upscaling_factor", "downscaling_factor"),
    "upscale_smoothing_factor": ("upscaling_factor",),
    "downscale_smoothing_factor": ("downscaling_factor",),
}
_INTERVAL = (
    "metrics_interval_s is deprecated in Ray 2.60, which still takes it; later the environment variables "
    "RAY_SERVE_{HANDLE,REPLICA}_AUTOSCALING_METRIC_PUSH_INTERVAL_S say it"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags, in a group of their own. None of them has a default, so that giving one shows."""
    add = parser.add_argument_group("Autoscaling (topologies rsc, rsv, rvc)").add_argument
    shorts = ",".join(f"{short}=…" for _, short in _FIELDS.values())
    add(
        "--autoscale",
        metavar="MIN:MAX|FIELD=VALUE,…",
        help=f"replicas per model, as the load asks for; the fields are Ray's, or short: {shorts}",
    )
    add(
        "--autoscale-on",
        action="append",
        metavar="FIGURE>VALUE",
        help="scale on this too: kv_usage, gpu_util (0 to 1), ttft_p99 (`800ms`, `2s`), waiting; repeatable",
    )
    add(
        "--autoscale-pattern",
        metavar="LENGTH",
        help="the load repeats itself after LENGTH (`24h`, `5m`): replicas are there before it grows",
    )
    add(
        "--autoscale-ahead",
        type=float,
        metavar="S",
        help="seconds before such a growth that replicas are asked for (default: 30)",
    )


def from_args(args: argparse.Namespace) -> Autoscale | None:
    """None where nothing is asked for. Raises UsageError."""
    if args.autoscale is None:
        for name in _FLAGS[1:]:
            if getattr(args, name) is not None:
                raise UsageError(f"--{name.replace('_', '-')}: needs --autoscale MIN:MAX, which says how far")
        return None
    scale = parse(args.autoscale)
    scale = replace(scale, rules=parse_rules(args.autoscale_on or ()))
    if args.autoscale_pattern is not None:
        scale = replace(scale, pattern_s=parse_pattern(args.autoscale_pattern))
    elif args.autoscale_ahead is not None:
        raise UsageError("--autoscale-ahead: needs --autoscale-pattern LENGTH, for example 24h")
    if args.autoscale_ahead is not None:
        if not 0 < args.autoscale_ahead < math.inf:
            raise UsageError(
                f"--autoscale-ahead {args.autoscale_ahead:g}: must be a number of seconds above 0"
            )
        scale = replace(scale, ahead_s=args.autoscale_ahead)
    return scale


def parse(text: str) -> Autoscale:
    """``MIN:MAX`` or ``FIELD=VALUE,…``. Raises UsageError."""
    least, colon, most = text.partition(":")
    if colon and least.isdecimal() and most.isdecimal() and 1 <= int(least) <= int(most):
        return Autoscale(int(least), int(most))
    if "=" not in text:
        raise UsageError(
            f"--autoscale {text!r}: write MIN:MAX with 1 ≤ MIN ≤ MAX, for example 1:4, "
            "or min=1,max=4,target=2,…"
        )
    given: dict[str, Any] = {}
    warned: list[str] = []
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        full = _SHORT.get(name, name)
        places = _DEPRECATED.get(full, (full,))
        if full in _DEPRECATED:
            warned.append(f"{full} is deprecated in Ray 2.60: give {' and '.join(places)}")
        if not equals or places[0] not in _FIELDS:
            known = ", ".join(_SHORT)
            raise UsageError(
                f"--autoscale {part.strip()!r}: no field of Ray's autoscaling_config; there are {known}"
            )
        try:
            read = _FIELDS[places[0]][0](value)
        except ValueError as error:
            why = str(error) if str(error).startswith("must") else "must be a number"
            raise UsageError(f"--autoscale {name}={value}: {why}") from None
        for place in places:  # as in Ray, a name that is not deprecated counts more
            if full in _DEPRECATED:
                given.setdefault(place, read)
            elif place in given and not warned:
                raise UsageError(f"--autoscale {name}={value}: {place} is given twice")
            else:
                given[place] = read
    if "metrics_interval_s" in given:
        warned.append(_INTERVAL)
    return _checked(Autoscale(**given, warned=tuple(warned)))


def _checked(scale: Autoscale) -> Autoscale:
    low, high, first = scale.min_replicas, scale.max_replicas, scale.initial_replicas
    if low > high:
        raise UsageError(f"--autoscale min={low},max={high}: max must be at least min")
    if first is not None and not low <= first <= high:
        raise UsageError(f"--autoscale initial={first}: must be from min={low} to max={high}")
    return scale


def refuse_flags(args: argparse.Namespace, topology: str) -> None:
    """Raises UsageError when a flag of autoscaling is given to a topology without it."""
    for name in _FLAGS:
        if getattr(args, name) is not None:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{flag}: topology {topology} has a fixed number of engines (rsc, rsv and rvc scale)"
            )
