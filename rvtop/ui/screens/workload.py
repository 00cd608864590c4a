"""A small box for the lengths of the requests, and for what of their prompts is shared."""

from __future__ import annotations

from typing import Any

from rvtop.contract.command import SetWorkload
from rvtop.ui.format import clip, count
from rvtop.ui.screens.dialog import Asked, TypedDialog

_NAMES = {
    **{"in": "prompt_tokens", "prompt": "prompt_tokens", "out": "max_tokens", "answer": "max_tokens"},
    "prefix": "prefix_tokens",
}
_HINT = "type for example in 512 out 128, prefix 1024 80%, or off"


def parse_workload(text: str) -> SetWorkload:
    """What ``text`` means: ``in 512 out 128`` in tokens, ``prefix 1024 80%`` (that share of the prompts
    begins with a shared text of so many tokens; either alone, or ``none``), any of them, and ``off`` for what
    the workload has.

    Raises ValueError with one line to show.
    """
    words = text.lower().replace("=", " ").replace(",", " ").replace(" %", "%").split()
    if words == ["off"]:
        return SetWorkload(0, 0, 0)
    found: dict[str, Any] = {}
    while words:
        name = words.pop(0)
        if name not in _NAMES or not words:
            raise ValueError(f"not a length: {clip(name, 12)}; {_HINT}")
        if name == "prefix":
            found |= _prefix(words)
        else:
            found[_NAMES[name]] = _tokens(words.pop(0))
    return SetWorkload(**found)


def _prefix(words: list[str]) -> dict[str, Any]:
    """The length, the share or both that stand first in ``words``, which are taken from it."""
    found: dict[str, Any] = {}
    if words[0] == "none":
        words.pop(0)
        return {"prefix_share": 0.0}
    if not words[0].endswith("%"):
        found["prefix_tokens"] = _tokens(words.pop(0))
    if words and words[0].endswith("%"):
        found["prefix_share"] = _share(words.pop(0))
    return found


def _tokens(value: str) -> int:
    if value == "off":
        return 0
    if not value.isascii() or not value.isdigit() or not int(value):
        raise ValueError(f"a length is a number of tokens from 1, not {clip(value, 12)}; {_HINT}")
    return int(value)


def _share(value: str) -> float:
    try:
        percent = float(value.removesuffix("%"))
    except ValueError:
        percent = -1.0
    if not 0 <= percent <= 100:
        raise ValueError(f"a share is from 0% to 100%, not {clip(value, 12)}; {_HINT}")
    return percent / 100


def preview(workload: SetWorkload) -> str:
    """What the requests will be, as far as ``workload`` changes them, a line each."""
    lines = []
    if workload.prompt_tokens is not None:
        lines.append(f"prompts {_length(workload.prompt_tokens, 'of')}")
    if workload.max_tokens is not None:
        lines.append(f"answers {_length(workload.max_tokens, 'of at most')}")
    share, tokens = workload.prefix_share, workload.prefix_tokens
    if share == 0:
        lines.append("no shared prefix")
    elif share is not None or tokens is not None:
        who = "as many prompts as now" if share is None else f"{100 * share:.3g} % of the prompts"
        what = "the shared prefix" if tokens is None else f"a shared prefix {_length(tokens, 'of')}"
        lines.append(f"{who} begin with {what}")
    return "\n".join(lines)


def _length(tokens: int, of: str) -> str:
    return f"{of} {count(tokens)} tokens" if tokens else "as the workload has them"


class WorkloadScreen(TypedDialog[SetWorkload]):
    """Returns the lengths; those that are not named stay."""

    def __init__(self) -> None:
        hint = (
            "tokens of a prompt (in) and of an answer (out); prefix: what so many of the prompts have in "
            "common at their beginning; off: as the workload has them. Kinds of workload can't be mixed "
            "here: a scenario holds one kind, and another kind is another scenario"
        )
        placeholder = "in 512 out 128   prefix 1024 80%   off"
        super().__init__(
            Asked("workload", "enter sends it   esc leaves it", hint, placeholder, 64),
            parse_workload,
            preview=preview,
        )
