"""``--help``: the commands by what they are for, and a command's options by what they belong to.

An option's heading is Typer's ``rich_help_panel``; a group of options names one for all of its fields
(``option_groups``). Drawn as plain text: rich would cost a tenth of a second.
"""

from __future__ import annotations

import re
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

#: Every command stands in one of these; what stands in none is listed last.
SECTIONS = {
    "Watch and load": ("demo", "attach", "run", "ctl", "mcp"),
    "Compare": ("showdown", "ab", "sweep", "quality", "batch", "choose"),
    "Look again": ("replay", "report", "compare", "share", "export"),
    "Serve": ("up", "ps", "logs", "down", "split", "set", "size", "deploy"),
    "Set up": ("doctor", "scenario", "index", "config", "plugins"),
}
_OPTIONS = "Options"


class CommandsBySection(TyperGroup):
    """The command line itself."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes the sections of commands."""
        there = {name: found for name in self.list_commands(ctx) if (found := self.get_command(ctx, name))}
        width = max(map(len, there))  # of all: the sections' texts stand below one another
        limit = formatter.width - 6 - width
        rest = [name for name in there if not any(name in names for names in SECTIONS.values())]
        for heading, names in (*SECTIONS.items(), ("More", rest)):
            rows = [
                (name.ljust(width), there[name].get_short_help_str(limit)) for name in names if name in there
            ]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)


class OptionsByHeading(TyperCommand):
    """A command whose options stand under the headings that they name."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the arguments, then the options without a heading, then the others."""
        rows: dict[str, list[tuple[str, str]]] = {"Arguments": [], _OPTIONS: []}
        for parameter in self.get_params(ctx):
            if (row := parameter.get_help_record(ctx)) is None:
                continue
            heading = getattr(parameter, "rich_help_panel", None) or _OPTIONS
            kind = "Arguments" if parameter.param_type_name == "argument" else heading
            names, text = row
            rows.setdefault(kind, []).append(
                (re.sub(r"<list\[(\w+)\]>", lambda found: f"<{found[1].lower()}>", names), text)
            )
        for heading, found in rows.items():
            if found:
                with formatter.section(heading):
                    formatter.write_dl(found)


def with_headings(app: typer.Typer) -> None:
    """Has the commands of ``app`` and of what stands below it list their options by heading."""
    for command in app.registered_commands:
        command.cls = OptionsByHeading
    for group in app.registered_groups:
        if group.typer_instance is not None:
            with_headings(group.typer_instance)
