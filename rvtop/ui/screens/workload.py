"""A small box for the lengths of the requests."""

from __future__ import annotations

from rvtop.contract.command import SetWorkload
from rvtop.ui.format import clip
from rvtop.ui.screens.dialog import Asked, TypedDialog

_NAMES = {"in": "prompt_tokens", "prompt": "prompt_tokens", "out": "max_tokens", "answer": "max_tokens"}
_HINT = "type for example in 512 out 128, out 64, or off"


def parse_workload(text: str) -> SetWorkload:
    """The lengths that ``text`` means, in tokens: ``in 512 out 128``, either alone, or ``off`` for those that
    the workload has.

    Raises ValueError with one line to show.
    """
    words = text.lower().replace("=", " ").replace(",", " ").split()
    if words == ["off"]:
        return SetWorkload(0, 0)
    found: dict[str, int] = {}
    while words:
        name = words.pop(0)
        if name not in _NAMES or not words:
            raise ValueError(f"not a length: {clip(name, 12)}; {_HINT}")
        value = words.pop(0)
        if value == "off":
            value = "0"
        elif not value.isascii() or not value.isdigit() or not int(value):
            raise ValueError(f"a length is a number of tokens from 1, not {clip(value, 12)}; {_HINT}")
        found[_NAMES[name]] = int(value)
    return SetWorkload(**found)


class WorkloadScreen(TypedDialog[SetWorkload]):
    """Returns the lengths; those that are not named stay."""

    def __init__(self) -> None:
        hint = "tokens of a prompt (in) and of an answer (out); off: as the workload has them"
        asked = Asked("workload", "enter sends it   esc leaves it", hint, "in 512 out 128   out 64   off", 48)
        super().__init__(asked, parse_workload)
