"""Which topologies there are. Stdlib only: listing them must not import torch or Ray.

A topology is one module with ``async def start(options, steps) -> Running``. To add one: write that file and
add its entry to ``topologies.json``. That is a data file because rvtop reads it too: rvtop never imports this
package, and a process that prints the list would cost its Start screen a tenth of a second.
"""

from __future__ import annotations

import importlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from backends.errors import UsageError
from backends.process.running import Topology


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
    return {
        name: Entry(entry["module"], entry["about"], tuple(entry["extras"]), tuple(entry["flags"]))
        for name, entry in described.items()
    }


REGISTRY = _read()


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
