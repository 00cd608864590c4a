"""What other packages add to rvtop, by entry points of theirs (docs/plugins.md).

``importlib.metadata`` would cost a start 50 ms; here the installed packages' ``entry_points.txt`` are looked
through for our groups, which takes 2.
"""

from __future__ import annotations

import importlib
import sys
from configparser import ConfigParser
from configparser import Error as NotIni
from dataclasses import dataclass
from functools import cache, reduce
from pathlib import Path
from typing import Any

from rvtop.errors import UserError
from rvtop.text import NAME_LIMIT, printable

#: The groups, without ``rvtop.`` before them: what one of each is.
GROUPS = {
    "topologies": "a server that rvtop starts",
    "workloads": "prompts of a scenario",
    "telemetry": "a source of the server's figures",
    "exporters": "a format of rvtop export",
}


class PluginError(UserError):
    """A plugin is not there, or fails."""


@dataclass(frozen=True)
class Plugin:
    """An entry point: ``value`` is ``package.module:attribute``, of the distribution ``package``."""

    group: str
    name: str
    value: str
    package: str

    def load(self) -> Any:
        """Imports it. Raises PluginError with the reason in one line."""
        module, _, attribute = self.value.partition(":")
        try:
            found = importlib.import_module(module.strip())
            return reduce(getattr, filter(None, attribute.strip().split(".")), found)
        except Exception as error:
            raise self.failed(error) from error

    def failed(self, error: Exception) -> PluginError:
        """What to raise where its code raised ``error``."""
        text = printable(f"{type(error).__name__}: {error}", 300)
        return PluginError(f"plugin {self.name} ({self.package}): {text}")


@cache
def plugins() -> tuple[Plugin, ...]:
    """All that are installed, by group and name. Of two of one name the first on ``sys.path`` counts."""
    found: dict[tuple[str, str], Plugin] = {}
    for place in dict.fromkeys(sys.path):
        for file in sorted(Path(place or ".").glob("*.dist-info/entry_points.txt")):
            for plugin in _of_file(file):
                found.setdefault((plugin.group, plugin.name), plugin)
    return tuple(found[key] for key in sorted(found))


def of_group(group: str) -> dict[str, Plugin]:
    """Those of one group, by name."""
    return {plugin.name: plugin for plugin in plugins() if plugin.group == group}


def named(group: str, name: str, where: str) -> Plugin:
    """The plugin of that name. Raises PluginError, whose line begins with ``where`` it was asked for."""
    known = of_group(group)
    if name not in known:
        there = f"installed are {', '.join(known)}" if known else "none is installed"
        raise PluginError(f"{where} {printable(name, NAME_LIMIT)}: no such plugin; {there} (docs/plugins.md)")
    return known[name]


def _of_file(file: Path) -> list[Plugin]:
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return []
    if "[rvtop." not in text:
        return []
    ini = ConfigParser(delimiters=("=",), interpolation=None)
    ini.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their capitals
    try:
        ini.read_string(text)
    except NotIni:
        return []
    package = printable(file.parent.name.partition("-")[0], NAME_LIMIT)
    return [
        Plugin(group, printable(name, NAME_LIMIT), value, package)
        for group in GROUPS
        if ini.has_section(f"rvtop.{group}")
        for name, value in ini.items(f"rvtop.{group}")
    ]
