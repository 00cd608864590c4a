"""``rvtop plugins``: what other packages add here."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from rvtop.system.stdio import say


def plugins(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Lists the installed plugins; says whether each can be imported. Exit code 1 if one can't."""
    from rvtop.system.plugins import GROUPS, Plugin, PluginError
    from rvtop.system.plugins import plugins as installed
    from rvtop.target.topologies import described

    def state(plugin: Plugin) -> str:
        try:
            described(plugin) if plugin.group == "topologies" else plugin.load()
        except PluginError as error:
            return str(error)
        return "ok"

    rows = [
        {"group": one.group, "name": one.name, "package": one.package, "state": state(one)}
        for one in installed()
    ]
    if as_json:
        say(json.dumps(rows, ensure_ascii=False))
    elif not rows:
        say(f"no plugin is installed; there can be {', '.join(GROUPS)} (docs/plugins.md)")
    else:
        widths = [max(len(row[key]) for row in rows) for key in ("group", "name", "package")]
        for row in rows:
            cells = [row[key].ljust(width) for key, width in zip(row, widths, strict=False)]
            say("  ".join([*cells, row["state"]]))
    if any(row["state"] != "ok" for row in rows):
        raise typer.Exit(1)
