"""The topologies that can be started: what each is, and which packages it needs.

They are described once, in ``backends/topologies.json``, which ``backends.registry`` reads too.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Topology:
    """``about`` is one line; ``extras`` of rvtop bring what it needs. ``experiment``: one of the four that
    the experiment compares, as a showdown does unless told otherwise. The others are columns of the Start
    screen: what makes tokens, where that runs, how a request gets there, what it adds to the one before."""

    about: str
    extras: tuple[str, ...]
    experiment: bool = False
    engine: str = ""
    where: str = ""
    route: str = ""
    adds: str = ""


def _read() -> dict[str, Topology]:
    """From the package ``backends``, which is found but not imported; empty where it is not installed."""
    found = find_spec("backends")
    folders = list(found.submodule_search_locations or ()) if found is not None else []
    if not folders:
        return {}
    described = json.loads(Path(folders[0], "topologies.json").read_text("utf-8"))
    columns = ("engine", "where", "route", "adds")
    return {
        name: Topology(
            entry["about"],
            tuple(entry["extras"]),
            entry.get("experiment", False),
            **{column: entry.get(column, "") for column in columns},
        )
        for name, entry in described.items()
    }


TOPOLOGIES = _read()

#: The packages of each extra without which nothing of it starts.
_PACKAGES = {
    "hf": ("torch", "transformers", "aiohttp"),
    "ray": ("ray", "aiohttp"),
    "vllm": ("vllm", "aiohttp"),
    "llm": ("pyarrow", "pandas"),
}


def missing(name: str, find: Callable[[str], object | None] = find_spec) -> str:
    """Why topology ``name`` can't start here and what to install, in one line; empty when it can.

    Looks the packages up without importing them (milliseconds; importing takes seconds).
    """
    extras = TOPOLOGIES[name].extras
    absent = list(dict.fromkeys(p for extra in extras for p in _PACKAGES[extra] if find(p) is None))
    if not absent:
        return ""
    verb = "is" if len(absent) == 1 else "are"
    wanted = ",".join(extra for extra in extras if not set(_PACKAGES[extra]).isdisjoint(absent))
    return f"{', '.join(absent)} {verb} not installed: pip install 'rvtop[{wanted}]'"
