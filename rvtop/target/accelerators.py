"""Accelerators by name, of ``backends/accelerators.json``, which ``backends.settings`` reads too.

Nothing else in rvtop knows a maker's words: their devices' files, what their driver library is asked, which
variable says what a process sees.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Toolkit:
    """What torch is built with: its name, what NVML is asked for the newest version that a driver runs, and
    the distributions that bring it, the newest first."""

    name: str
    driver_version: str
    runtimes: tuple[str, ...]


@dataclass(frozen=True)
class Accelerator:
    """One kind. ``resource`` is Ray's, ``visible`` the variable that says which of them a process sees.
    ``pci`` is the maker on the bus, ``pci_class`` how the class of
    such devices begins, ``files`` a pattern of the devices' files, ``exporters`` who tells its
    figures (``rvtop.telemetry.exporters``), ``vllm`` what adds it to vLLM, ``facts`` the names that vLLM has
    for its versions. ``run``: what of it rvtop was run on; empty: never."""

    name: str
    about: str
    resource: str
    visible: str
    pci: str = ""
    pci_class: str = "0x03"
    files: str = ""
    exporters: tuple[str, ...] = ()
    vllm: str = ""
    facts: tuple[str, ...] = ()
    toolkit: Toolkit | None = None
    run: str = ""


@cache
def accelerators() -> tuple[Accelerator, ...]:
    """All of the table; empty where the package ``backends`` is not installed."""
    found = find_spec("backends")
    folders = list(found.submodule_search_locations or ()) if found is not None else []
    if not folders:
        return ()
    table = json.loads(Path(folders[0], "accelerators.json").read_text("utf-8"))
    return tuple(_accelerator(name, entry) for name, entry in table.items())


def visible_variables() -> tuple[str, ...]:
    """What of the environment says which accelerators a process sees."""
    return tuple(dict.fromkeys(each.visible for each in accelerators()))


def version_facts() -> tuple[str, ...]:
    """The names that vLLM has for versions of drivers and libraries."""
    return tuple(fact for each in accelerators() for fact in each.facts)


def with_toolkit() -> tuple[Accelerator, Toolkit] | None:
    """The kind whose driver NVML speaks to; None without the table."""
    return next(((each, each.toolkit) for each in accelerators() if each.toolkit is not None), None)


def _accelerator(name: str, entry: Mapping[str, Any]) -> Accelerator:
    known = {field.name for field in fields(Accelerator)} - {"toolkit"}
    given: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in entry.items()
        if key in known
    }
    toolkit = entry.get("toolkit")
    made = None if toolkit is None else Toolkit(**toolkit | {"runtimes": tuple(toolkit["runtimes"])})
    return Accelerator(name, **given, toolkit=made)
