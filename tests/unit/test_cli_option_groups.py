"""Groups of options: one dataclass, in as many commands as share it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from rvtop.cli.app import app
from rvtop.cli.option_groups import grouped


@dataclass(frozen=True)
class Fruit:
    apples: Annotated[int, typer.Option(help="How many.")] = 2
    kinds: Annotated[list[str] | None, typer.Option("--kind", help="Repeat.")] = None
    basket: Annotated[Path | None, typer.Option("-b", "--basket")] = None


@dataclass(frozen=True)
class MoreFruit:
    apples: int = 3


def seen(*words: str) -> str:
    """What a command with a group, between options of its own, is called with."""
    made = typer.Typer()

    @made.command()
    @grouped
    def command(
        *,
        place: Annotated[str, typer.Argument()],
        fruit: Fruit,
        loud: Annotated[bool, typer.Option("--loud")] = False,
    ) -> None:
        print(repr((place, fruit, loud)))

    ended = CliRunner().invoke(made, words)
    assert ended.exit_code == 0, ended.output
    return ended.output.strip()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["here"], ("here", Fruit(), False)),
        (
            ["--kind", "a", "here", "--apples", "7", "--kind", "b", "-b", "x", "--loud"],
            ("here", Fruit(7, ["a", "b"], Path("x")), True),
        ),
    ],
)
def test_a_group_is_made_of_its_options(words: list[str], wanted: tuple[str, Fruit, bool]) -> None:
    assert seen(*words) == repr(wanted)


def test_two_groups_with_one_option_are_refused() -> None:
    with pytest.raises(TypeError, match="apples is in two groups"):

        @grouped
        def command(*, fruit: Fruit, more: MoreFruit) -> None: ...


@pytest.mark.parametrize("name", ["run", "attach", "demo"])
def test_every_command_that_runs_a_session_has_the_options_of_a_session(name: str) -> None:
    lines = CliRunner().invoke(app, [name, "--help"]).output
    for option in ("--out", "--control", "--readonly", "--serve", "--serve-on", "--serve-control", "--theme"):
        assert f" {option} " in lines
