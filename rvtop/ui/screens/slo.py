"""A small box for the limits by which goodput is counted."""

from __future__ import annotations

import math

from rvtop.contract.command import SetSlo
from rvtop.ui.format import clip, sig3
from rvtop.ui.screens.dialog import Asked, TypedDialog

_NAMES = {"ttft": "ttft_ms", "tpot": "tpot_ms", "e2e": "e2e_ms"}
_HINT = "type for example 200, ttft 200 e2e 5 s, or off"


def parse_slo(text: str) -> SetSlo:
    """The limits that ``text`` means: one of TTFT in ms, names each with a limit, or ``off``.

    Raises ValueError with one line to show.
    """
    words = text.lower().replace("=", " ").replace(",", " ").replace("≤", " ").split()
    if words == ["off"]:
        return SetSlo()
    if words and words[0] not in _NAMES:
        words.insert(0, "ttft")
    found: dict[str, float] = {}
    while words:
        name = words.pop(0)
        if name not in _NAMES or not words:
            raise ValueError(f"not a limit: {clip(name, 12)}; {_HINT}")
        value, unit = words.pop(0), ""
        for known in ("ms", "s"):
            if value.endswith(known):
                value, unit = value.removesuffix(known), known
                break
        else:
            unit = words.pop(0) if words and words[0] in ("ms", "s") else "ms"
        found[_NAMES[name]] = _limit(value) * (1000 if unit == "s" else 1)
    return SetSlo(**found)


def _limit(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"not a number: {clip(text, 12)}; {_HINT}") from None
    if not 0 < value < math.inf:
        raise ValueError(f"a limit is more than 0 ms, not {clip(text, 12)}")
    return value


class SloScreen(TypedDialog[SetSlo]):
    """Returns the limits; those that are not named are none."""

    def __init__(self, ttft_ms: float | None) -> None:
        now = f"now TTFT ≤ {sig3(ttft_ms)} ms" if ttft_ms is not None else "now no limit of TTFT"
        hint = f"limits in ms, {now}; those not named are none"
        asked = Asked("set the SLO", "enter sets it   esc leaves it", hint, "200   ttft 200 e2e 5s   off", 48)
        super().__init__(asked, parse_slo)
