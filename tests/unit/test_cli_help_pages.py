"""``--help``: every command and every option is listed, under one heading, and short enough to be read."""

from __future__ import annotations

import re
from collections import Counter
from typing import Annotated, ClassVar

import pytest
import typer
from typer.testing import CliRunner

from rvtop.cli.app import app
from rvtop.cli.help_pages import SECTIONS, OptionsByHeading
from rvtop.cli.option_groups import grouped

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
LISTED = [name for names in SECTIONS.values() for name in names]


def help_of(*words: str) -> str:
    result = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "80"})
    assert result.exit_code == 0
    return result.output


def test_each_command_stands_in_one_section() -> None:
    assert sorted(LISTED) == sorted(COMMANDS)
    found = re.findall(r"^  ([a-z]+)  +\S", help_of().partition("Watch and load:")[2], re.MULTILINE)
    assert found == LISTED


def test_what_a_command_does_fits_its_line() -> None:
    assert "..." not in help_of().partition("Watch and load:")[2]


@pytest.mark.parametrize("group", ["deploy", "scenario", "index", "config"])
def test_what_a_command_of_a_group_does_fits_its_line(group: str) -> None:
    assert "..." not in help_of(group).partition("Commands:")[2]


@pytest.mark.parametrize("name", ["run", "attach", "showdown", "sweep", "batch", "size", "compare"])
def test_no_option_is_lost_or_listed_twice(name: str) -> None:
    named = [option for parameter in COMMANDS[name].params for option in parameter.opts if option[:2] == "--"]
    text = help_of(name)
    found = re.findall(r"^  (--[a-z0-9-]+)", text, re.MULTILINE)
    assert Counter(found) == Counter({*named, "--help"})
    assert "list[" not in text


def test_a_group_s_options_stand_under_its_heading_and_a_shared_one_stays_as_it_is() -> None:
    shared = Annotated[str, typer.Option(help="A name.")]
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Dyes:
        heading: ClassVar[str] = "Colours"
        red: Annotated[int, typer.Option(help="How red.")] = 0
        name: shared = ""

    @dataclass(frozen=True)
    class Sizes:
        own: Annotated[int, typer.Option(help="How wide.", rich_help_panel="Elsewhere")] = 0
        other: shared = ""

    globals().update(Dyes=Dyes, Sizes=Sizes, shared=shared)  # a command's annotations are read from here
    small = typer.Typer(rich_markup_mode=None, add_completion=False)

    @small.command(cls=OptionsByHeading)
    @grouped
    def paint(*, wall: Annotated[str, typer.Argument()], dyes: Dyes, sizes: Sizes) -> None: ...

    text = CliRunner().invoke(small, ["--help"], env={"COLUMNS": "80"}).output
    parts = re.split(r"^(\w[\w ]*):\n", text, flags=re.MULTILINE)
    under = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert {heading: re.findall(r"--(\w+)", part) for heading, part in under.items()} == {
        "Arguments": [],
        "Options": ["other", "help"],
        "Colours": ["red", "name"],
        "Elsewhere": ["own"],
    }
