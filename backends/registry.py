"""Which topologies there are. Stdlib only: listing them must not import torch or Ray.

A topology is one module with ``async def start(options, steps) -> Running``. To add one: write that file and
add its entry to ``topologies.json``. That is a data file because rvtop reads it too: rvtop never imports this
package, and a process that prints the list would cost its Start screen a tenth of a second.
"""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, cast

from backends.errors import UsageError
from backends.process.running import Topology

log = logging.getLogger("backends.registry")


@dataclass(frozen=True)
class Entry:
    """A topology: its ``module``, one line ``about`` it, the ``extras`` of rvtop that bring what it needs,
    and the groups of ``flags`` (modules of :mod:`backends.settings`) that it takes beyond those of all."""

    module: str
    about: str
    extras: tuple[str, ...]
    flags: tuple[str, ...]


def _read() -> dict[str, Entry]:
    described = json.loads(Path(__file__).with_name("topologies.json").read_text("utf-8"))
    return {name: _entry(entry) for name, entry in described.items()}


def _entry(entry: Mapping[str, Any]) -> Entry:
    extras, flags = entry.get("extras", ()), entry.get("flags", ())
    return Entry(entry["module"], entry["about"], tuple(extras), tuple(flags))


def _added(known: Mapping[str, Entry]) -> dict[str, Entry]:
    """Those that other packages add (docs/plugins.md). One that fails is left out, and the log says so."""
    found = {}
    for point in entry_points(group="rvtop.topologies"):
        if point.name in known:
            log.warning("plugin %s: rvtop has a topology of that name, which counts", point.name)
            continue
        try:
            found[point.name] = _entry(point.load())
        except Exception as error:  # noqa: BLE001 - it is somebody else's code
            log.warning("plugin %s: %s: %s", point.name, type(error).__name__, error)
    return found


REGISTRY = _read()
REGISTRY |= _added(REGISTRY)


def entry(name: str) -> Entry:
    """The topology of that name. Raises UsageError for an unknown one."""
    if name not in REGISTRY:
        raise UsageError(f"unknown topology {name!r}; known: {', '.join(REGISTRY)}")
    return REGISTRY[name]


def load(name: str) -> Topology:
    """The topology's module. Raises UsageError for an unknown name."""
    return cast(Topology, importlib.import_module(entry(name).module))


def listing() -> str:
    """The registry as JSON, as ``python -P -m backends --list`` prints it."""
    return json.dumps({name: asdict(entry) for name, entry in REGISTRY.items()}, indent=2, ensure_ascii=False)
