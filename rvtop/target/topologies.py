"""The topologies that can be started: what each is, and which packages it needs.

They are described once, in ``backends/topologies.json``, which ``backends.registry`` reads too.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rvtop.system.plugins import Plugin, PluginError, of_group


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
    packages: tuple[str, ...] = ()  # what it needs beside those extras
    stages: bool = False  # its engines are the replicas of one stage of several


def _read() -> dict[str, Topology]:
    """From the package ``backends``, which is found but not imported; empty where it is not installed."""
    found = find_spec("backends")
    folders = list(found.submodule_search_locations or ()) if found is not None else []
    if not folders:
        return {}
    described = json.loads(Path(folders[0], "topologies.json").read_text("utf-8"))
    return {name: _topology(entry, entry.get("experiment", False)) for name, entry in described.items()}


def _topology(entry: Mapping[str, Any], experiment: bool = False) -> Topology:
    columns = {column: str(entry.get(column, "")) for column in ("engine", "where", "route", "adds")}
    packages = tuple(entry.get("packages", ()))
    extras, stages = tuple(entry.get("extras", ())), "graph" in entry.get("flags", ())
    return Topology(entry["about"], extras, experiment, **columns, packages=packages, stages=stages)


def _added(known: Mapping[str, Topology]) -> dict[str, Topology]:
    """Those of plugins (docs/plugins.md). One that fails is left out: ``rvtop plugins`` says why."""
    found = {}
    for name, plugin in of_group("topologies").items():
        if name in known:
            continue
        with contextlib.suppress(PluginError):
            found[name] = described(plugin)
    return found


def described(plugin: Plugin) -> Topology:
    """What a plugin says of its topology. Raises PluginError."""
    entry = plugin.load()
    try:
        made = _topology(entry)
        sound = all(isinstance(text, str) for text in (entry["module"], made.about, *made.packages))
        unknown = set(made.extras) - set(_PACKAGES)
    except (TypeError, KeyError, AttributeError) as error:
        raise plugin.failed(error) from error
    if not sound or unknown:
        raise plugin.failed(ValueError("module, about and packages are texts, extras those of rvtop"))
    return made


TOPOLOGIES = _read()

#: The packages of each extra without which nothing of it starts.
_PACKAGES = {
    "hf": ("torch", "transformers", "aiohttp"),
    "ray": ("ray", "aiohttp"),
    "vllm": ("vllm", "aiohttp"),
    "llm": ("pyarrow", "pandas"),
    "rag": ("faiss", "sentence_transformers"),
}

TOPOLOGIES |= _added(TOPOLOGIES)


def missing(name: str, find: Callable[[str], object | None] = find_spec) -> str:
    """Why topology ``name`` can't start here and what to install, in one line; empty when it can.

    Looks the packages up without importing them (milliseconds; importing takes seconds).
    """
    extras, further = TOPOLOGIES[name].extras, TOPOLOGIES[name].packages
    absent = list(dict.fromkeys(p for extra in extras for p in _PACKAGES[extra] if find(p) is None))
    if not absent:
        absent = [package for package in further if find(package) is None]
        return f"{absent[0]} is not installed: pip install {' '.join(absent)}" if absent else ""
    verb = "is" if len(absent) == 1 else "are"
    wanted = ",".join(extra for extra in extras if not set(_PACKAGES[extra]).isdisjoint(absent))
    return f"{', '.join(absent)} {verb} not installed: pip install 'rvtop[{wanted}]'"
