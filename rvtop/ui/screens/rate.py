"""A small box to type a rate into."""

from __future__ import annotations

import math
import re

from rvtop.ui.format import clip, rate
from rvtop.ui.screens.dialog import Asked, TypedDialog

_CHANGE = re.compile(r"(?P<percent>[+-]\d+(?:[.,]\d+)?)\s*%|[x×*]\s*(?P<times>\d+(?:[.,]\d+)?)")
_HINT = "type for example 12.5, +10% or x2"


def parse_rate(text: str, most: float | None, now: float | None = None) -> float:
    """The requests per second that ``text`` means: a number, or a change of ``now`` (``+10%``, ``x2``).

    Raises ValueError with one line to show.
    """
    typed = text.strip()
    if changed := _CHANGE.fullmatch(typed):
        by = float((changed["percent"] or changed["times"]).replace(",", "."))
        value = (now or 0.0) * (1 + by / 100 if changed["percent"] else by)
        return _checked(float(f"{value:.6g}"), typed, most)
    try:
        value = float(typed.replace(",", "."))
    except ValueError:
        raise ValueError(f"not a number: {clip(typed, 12)}; {_HINT}") from None
    return _checked(value, typed, most)


def _checked(value: float, typed: str, most: float | None) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{typed} is no rate; {_HINT}")
    if value < 0:
        raise ValueError(f"a rate is 0 or more, not {typed}")
    if most is not None and value > most:
        raise ValueError(f"{typed} is over the maximum of {rate(most)} (--max-rate)")
    return value


class RateScreen(TypedDialog[float]):
    """Returns the typed rate. ``begin`` stands in the box already."""

    def __init__(self, now: float | None, most: float | None, begin: str = "") -> None:
        hint = f"requests a second, now {rate(now)}"
        if most is not None:
            hint += f", at most {rate(most)}"
        asked = Asked("set the rate", "enter sets it   esc leaves it", hint, "12.5   +10%   x2", 24, begin)
        super().__init__(asked, lambda text: parse_rate(text, most, now))
