"""Options are read without pydantic, and as Typer reads them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
import typer
import typer.core
from typer._coercion import build_runtime_param
from typer.testing import CliRunner

import rvtop.cli.app  # noqa: F401  # which installs it

CASES = [
    ["--whole", "7"],
    ["--whole", "-7"],
    ["--whole", "7.0"],
    ["--whole", "7.5"],
    ["--whole", " 7 "],
    ["--whole", "seven"],
    ["--whole", "1_000"],
    ["--whole", "99999999999999999999"],
    ["--decimal", "0.25"],
    ["--decimal", "1e3"],
    ["--decimal", "nan"],
    ["--decimal", ".5"],
    ["--decimal", "five"],
    ["--text", ""],
    ["--text", "é"],
    ["--several", "a", "--several", "b"],
    ["--few", "3"],
    ["--few", "30"],
    ["--path", "not/there"],
    ["--path", "."],
    ["--path", "/etc/passwd"],
    [],
]


def said(arguments: list[str]) -> tuple[int, str]:
    """Exit code and output of a command with an option of each type."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)

    @app.command()
    def show(
        whole: int = 1,
        decimal: Annotated[float | None, typer.Option()] = None,
        text: str = "t",
        several: Annotated[list[str] | None, typer.Option()] = None,
        few: Annotated[int, typer.Option(min=1, max=9)] = 2,
        path: Path | None = None,
    ) -> None:
        print(repr((whole, decimal, text, several, few, path)))

    ended = CliRunner().invoke(app, arguments)
    return ended.exit_code, ended.output


@pytest.mark.parametrize("arguments", CASES)
def test_an_option_is_what_typer_makes_of_it(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    ours = said(arguments)
    assert getattr(typer.core, "build_runtime_param").plain_first  # noqa: B009  # typer does not export it
    monkeypatch.setattr(typer.core, "build_runtime_param", build_runtime_param)
    assert ours == said(arguments)


def test_a_command_line_that_is_plain_brings_no_pydantic() -> None:
    code = (
        "import sys; sys.argv = ['rvtop', 'attach', '--max-rate', '7.5', '--model', 'm', '--out', 'no/such',"
        " 'http://127.0.0.1:9/none']\n"
        "from rvtop.cli.app import command\n"
        "print(command(), sorted({'pydantic', 'numpy', 'httpx', 'yaml'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["3", "[]"], ended.stderr
