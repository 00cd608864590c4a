"""Reasons to scale beside the number of requests: ``--autoscale-on 'kv_usage>0.8'`` -> :class:`Rule`."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from backends.errors import UsageError

#: Figure -> what it is. Shares are 0 to 1, times are ms, over all engines of a model.
FIGURES = {
    "kv_usage": "mean share of the KV cache that is in use",
    "gpu_util": "mean share of the time in which the engines' GPUs were busy",
    "ttft_p99": "99th percentile of the time to the first token inside of the engines, last 10 s",
    "waiting": "requests that wait, per replica",
}
_SHARES = ("kv_usage", "gpu_util")
_TIMES = ("ttft_p99",)
_FORM = re.compile(r"\s*([a-z_0-9]+)\s*>\s*([0-9.]+)\s*(ms|s|%)?\s*")
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class Rule:
    """Replicas are asked for in proportion to ``figure`` over ``most``: the figure, one of FIGURES, is to be
    ``most`` at most."""

    figure: str
    most: float

    def __str__(self) -> str:
        return f"{self.figure}>{self.most:g}{'ms' if self.figure in _TIMES else ''}"


def parse_rules(texts: Sequence[str]) -> tuple[Rule, ...]:
    """Raises UsageError."""
    return tuple(_rule(text) for text in texts)


def _rule(text: str) -> Rule:
    match = _FORM.fullmatch(text)
    if match is None or match[1] not in FIGURES:
        raise UsageError(
            f"--autoscale-on {text!r}: write FIGURE>VALUE with {', '.join(FIGURES)}, for example kv_usage>0.8"
        )
    figure, unit = match[1], match[3]
    try:
        most = float(match[2])
    except ValueError:
        most = 0.0
    if figure in _SHARES:
        most = most / 100 if unit == "%" else most
        if not 0 < most <= 1 or unit in ("ms", "s"):
            raise UsageError(f"--autoscale-on {text!r}: {figure} is a share, from 0 to 1 (or in %)")
    elif figure in _TIMES:
        if unit not in ("ms", "s"):
            raise UsageError(f"--autoscale-on {text!r}: {figure} is a time: write its unit, ms or s")
        most = 1000 * most if unit == "s" else most
    elif unit is not None:
        raise UsageError(f"--autoscale-on {text!r}: {figure} is a number of requests")
    if not 0 < most < math.inf:
        raise UsageError(f"--autoscale-on {text!r}: the value must be greater than 0")
    return Rule(figure, most)


def parse_pattern(text: str) -> float:
    """The seconds of ``24h``, ``5m`` or ``300``. Raises UsageError."""
    match = re.fullmatch(r"([0-9.]+)([smhd]?)", text)
    try:
        seconds = float(match[1]) * _UNITS_S[match[2] or "s"] if match else 0.0
    except ValueError:
        seconds = 0.0
    if not 10 <= seconds < math.inf:
        raise UsageError(f"--autoscale-pattern {text!r}: write a length of at least 10 s, such as 24h or 5m")
    return seconds
