"""Times with units, as scenario files and command lines write them."""

from __future__ import annotations

import re

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_NUMBER = r"(?:\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+)"
_ALONE = re.compile(_NUMBER)
_PART = re.compile(rf"({_NUMBER})\s*([A-Za-zµ]*)")
_WHOLE = re.compile(rf"(?:(?:{_PART.pattern})\s*)+")
#: What ``parse_duration`` takes, as a pattern for a whole text (of JSON Schema too).
DURATION = rf"^\s*({_NUMBER}|({_NUMBER}\s*(ms|s|m|h)\s*)+)\s*$"
MAX_DURATION_S = 30 * 24 * 3600.0
#: Requests that may be under way at once in a closed loop or a round.
MAX_AT_ONCE = 100_000


def parse_duration(text: str) -> float:
    """Seconds of ``10s``, ``500ms``, ``2m``, ``1h`` or a sum such as ``1m30s``; a number alone is seconds.

    Raises ValueError with a message that says how to write it.
    """
    alone = _ALONE.fullmatch(text.strip()) is not None
    if not alone and not _WHOLE.fullmatch(text.strip()):
        raise ValueError(f"must be a time such as 30s, 500ms, 2m or 1h, got {text!r}")
    total = 0.0
    for part in _PART.finditer(text.strip()):
        number, unit = part.groups()
        if alone:
            unit = "s"
        if not unit:  # 1m30
            raise ValueError(
                f"{number} in {text!r} needs a unit: {number}s, {number}ms, {number}m or {number}h"
            )
        if unit not in _SECONDS:
            raise ValueError(f"unknown unit {unit!r} in {text!r}: use ms, s, m or h")
        # Dividing keeps 500ms at exactly 0.5, multiplying by 0.001 would not always.
        total += float(number) / 1000.0 if unit == "ms" else float(number) * _SECONDS[unit]
    if total > MAX_DURATION_S:
        raise ValueError(f"must be at most 30 days, got {text!r}")
    return total


def format_duration(seconds: float) -> str:
    """``seconds`` as a scenario file writes it; ``parse_duration`` gives back exactly the same number."""
    return f"{int(seconds)}s" if seconds == int(seconds) else f"{seconds!r}s"


def human_duration(seconds: float) -> str:
    """For people to read: ``45 s``, ``1 min 30 s``, ``2 h 5 min``; fractions only below a minute."""
    if seconds < 60:
        return f"{seconds:g} s"
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    parts = [(hours, "h"), (minutes, "min"), (secs, "s")]
    return " ".join(f"{value} {unit}" for value, unit in parts if value)
