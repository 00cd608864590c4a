"""A small box to type an instant of a run into."""

from __future__ import annotations

import re

from rvtop.ui.format import clip, clock
from rvtop.ui.screens.dialog import Asked, TypedDialog

_INSTANT = re.compile(r"(?:(?:(?P<h>\d{1,4}):)?(?P<m>\d{1,4}):)?(?P<s>\d{1,6}(?:\.\d+)?)\s*s?")


def parse_instant(text: str, length_s: float) -> float:
    """The seconds since the run's start that ``text`` means: ``90``, ``90s``, ``1:30`` or ``1:02:03``.

    Raises ValueError with one line to show.
    """
    found = _INSTANT.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"not a time: {clip(text.strip(), 12)}; type for example 90 or 1:30")
    seconds = int(found["h"] or 0) * 3600 + int(found["m"] or 0) * 60 + float(found["s"])
    if seconds > length_s:
        raise ValueError(f"the run is over at {clock(length_s)}")
    return seconds


class InstantScreen(TypedDialog[float]):
    """Returns the typed instant in seconds."""

    def __init__(self, length_s: float) -> None:
        hint = f"minutes:seconds, up to {clock(length_s)}"
        asked = Asked("go to", "enter goes there   esc leaves it", hint, "1:30", 16)
        super().__init__(asked, lambda text: parse_instant(text, length_s))
