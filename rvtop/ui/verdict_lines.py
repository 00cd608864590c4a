"""A verdict as lines: the figures that say so, what it means, what its try does, how the other rules stand.
Pure."""

from __future__ import annotations

import shlex
import textwrap

from rvtop.contract.command import Retarget
from rvtop.contract.snapshot import Snapshot

_STATES = {"holds": "●", "no": "○", "unknown": "·"}
_SAYS = {"holds": "", "no": "no: ", "unknown": ""}


def trial(s: Snapshot) -> Retarget | None:
    """What tries the knob: the same server of ours with it turned; None where rvtop can't start that."""
    verdict = s.verdict
    if verdict is None or verdict.arguments is None or not verdict.topology or not s.target.owned:
        return None
    return Retarget(topology=verdict.topology, arguments=verdict.arguments)


def consequence(s: Snapshot) -> str:
    """What enter does."""
    verdict, command = s.verdict, trial(s)
    if command is not None:
        words = shlex.join((command.topology, *command.arguments))
        return (
            f"enter   starts {words}: in place of the server of now, or beside it where a GPU is free; same "
            "load, and what was before stays as the ghost (b)"
        )
    if verdict is not None and verdict.line:
        return f"enter   copies   {verdict.line}"
    return ""


def dialog_lines(s: Snapshot, width: int) -> list[str]:
    """All of it, wrapped to ``width`` cells."""
    verdict = s.verdict
    if verdict is None:
        return ["There is no load, so nothing to say of it."]
    made = [" · ".join(verdict.figures), "", verdict.why]
    if verdict.knob:
        made.append(f"knob    {verdict.knob}")
    if does := consequence(s):
        made.append(does)
    if verdict.source:
        made.append(f"source  {verdict.source}")
    made += ["", "rules, the first that holds is the verdict:"]
    made += [f"{_STATES[one.state]} {one.name:<14} {_SAYS[one.state]}{one.text}" for one in verdict.rules]
    return [line for text in made for line in _wrapped(text, width)]


def _wrapped(text: str, width: int) -> list[str]:
    indent = " " * 8 if text[:8].rstrip() in ("knob", "enter", "source") else " " * 2
    return textwrap.wrap(text, max(20, width), subsequent_indent=indent) or [""]
