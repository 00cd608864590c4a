"""What differs between the sides of a comparison: work, settings, what their servers say of themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rvtop.contract.run_files import ENVIRONMENT
from rvtop.results.compare import SPAN, Comparison
from rvtop.text import printable

#: ``name=value`` of vLLM's configuration as ``/server_info`` writes it; a value may be in quotes or brackets.
_SETTING = re.compile(r"(\w+)=('[^']*'|\[[^\]]*\]|\{[^}]*\}|\([^)]*\)|[^\s,]*)")
_LONGEST = 60


def server_facts_of(folder: Path, key: str = "server") -> Mapping[str, Any]:
    """What a server said of itself when the run in ``folder`` began (``target.acts.server_facts``); ``key``:
    ``server_b`` is the second one of live pairs. Empty where the folder does not tell."""
    try:
        found = json.loads((folder / ENVIRONMENT).read_bytes()).get(key)
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def differing_servers(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """A line for each setting that both tell, and differently; or one that says that nothing can be told."""
    if not a or not b:
        who = "neither server tells" if not a and not b else "A does not tell" if not a else "B does not tell"
        return [f"servers: {who} its configuration"]
    ours, theirs = (dict(_settings(told)) for told in (a, b))
    return [
        f"server: {printable(name)} {_short(ours[name])} → {_short(theirs[name])}"
        for name in ours
        if name in theirs and ours[name] != theirs[name]
    ] or ["servers: the same, as far as they tell"]


def differing_runs(found: Comparison) -> list[str]:
    """A line for each entry of work and settings that is not the same on both sides."""
    told = [
        *_entries("work", found.a.work, found.b.work),
        *_entries("setting", found.a.setting, found.b.setting),
    ]
    return told or ["work and settings: the same"]


def _entries(kind: str, a: Mapping[str, str], b: Mapping[str, str]) -> Iterator[str]:
    for name in dict.fromkeys((*a, *b)):
        if a.get(name) != b.get(name) and name != SPAN:
            yield f"{kind}: {name} {_short(a.get(name))} → {_short(b.get(name))}"


def _settings(told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in told.items():
        if isinstance(value, Mapping):
            yield from ((str(key), str(one)) for key, one in value.items())
        elif name == "vllm_config":
            yield from _SETTING.findall(str(value))
        else:
            yield name, str(value)


def _short(value: str | None) -> str:
    text = "--" if value is None else printable(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
