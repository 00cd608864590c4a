"""``rvtop scenario …`` and ``rvtop index …``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from rvtop.cli.options import scenario_named
from rvtop.errors import UserError
from rvtop.system.stdio import say, say_error
from rvtop.text import printable

scenario_app = typer.Typer(help="Scenario files: check, explain, schema.", rich_markup_mode=None)
index_app = typer.Typer(help="Builds, searches or imports a document index for RAG.", rich_markup_mode=None)


@scenario_app.command("check")
def scenario_check(
    files: Annotated[list[str], typer.Argument(metavar="FILE…", help="Scenario files or shipped names.")],
) -> None:
    """Checks scenario files. Says ok, or every mistake with file, line and key; exit code 2 then."""
    sound = True
    for file in files:
        try:
            found = scenario_named(file)
        except UserError as error:
            sound = False
            for line in error.lines:
                say_error(line)
        else:
            count = len(found.phases)
            say(f"{printable(file)}: ok ({found.name}, {count} phase{'s' * (count != 1)})")
    if not sound:
        raise typer.Exit(2)


@scenario_app.command("schema")
def scenario_schema() -> None:
    """Prints the JSON Schema of scenario files, for editors."""
    from rvtop.scenario.json_schema import schema_text

    say(schema_text().rstrip("\n"))


@scenario_app.command("explain")
def scenario_explain(file: Annotated[str, typer.Argument(help="Scenario file or shipped name.")]) -> None:
    """Says in words what a scenario will do."""
    from rvtop.scenario.explain import explain

    for line in explain(scenario_named(file)).split("\n"):
        say(printable(line))  # it names files


_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def _rag(name: str, context: typer.Context) -> None:
    import subprocess

    command = [sys.executable, "-P", "-m", "backends.rag", name, *context.args]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


@index_app.command("build", context_settings=_PASS_ON)
def index_build(context: typer.Context) -> None:
    """Builds an index: rvtop index build SOURCE… --out DIR."""
    _rag("build", context)


@index_app.command("search", context_settings=_PASS_ON)
def index_search(context: typer.Context) -> None:
    """Searches an index: rvtop index search DIR QUERY."""
    _rag("search", context)


@index_app.command("import", context_settings=_PASS_ON)
def index_import(context: typer.Context) -> None:
    """Converts a LangChain FAISS folder. As in rvtop index import DIR --out DIR2."""
    _rag("import", context)
