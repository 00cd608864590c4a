"""``rvtop compare``: stored runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rvtop.errors import UserError
from rvtop.system.stdio import say, say_error

if TYPE_CHECKING:
    from rvtop.results.compare import Comparison, Side


def compare_runs(
    runs: Annotated[list[Path], typer.Argument(help="Run folders: the reference, then others.")],
    fail_if: Annotated[
        list[str] | None,
        typer.Option(help="Exit with 1 if so: 'ttft_p99 > 5%' (change), 'errors > 0' (B's own); repeat."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Compare runs of different work too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON alone.")] = False,
) -> None:
    """Compares stored runs with the first of them; refuses those that did different work."""
    import json

    from rvtop.results.compare import compare
    from rvtop.results.compare_text import as_data, text_lines
    from rvtop.results.fail_if import parse_goal

    goals = [parse_goal(text) for text in fail_if or ()]
    if len(runs) < 2:
        raise UserError("compare needs two run folders or more: rvtop compare RUN RUN")
    sides = [_side(folder) for folder in runs]
    found = [compare(sides[0], side) for side in sides[1:]]
    if not force:
        _refuse(found)
    if as_json:
        data = {"reference": sides[0].where, "comparisons": [as_data(one) for one in found]}
        say(json.dumps(data, indent=2, ensure_ascii=False))
    for number, one in enumerate(found if not as_json else ()):
        for line in ([""] if number else []) + text_lines(one):
            say(line)
    missed = [why for one in found for goal in goals if (why := goal.missed(one))]
    for why in missed:
        say_error(why)
    raise typer.Exit(1 if missed else 0)


def _refuse(found: list[Comparison]) -> None:
    """Raises UserError for the first that compares different work."""
    for one in found:
        if one.refused:
            raise UserError(
                f"{one.a.where}, {one.b.where}: {one.refusal}; --force compares them all the same"
            )


def _side(folder: Path) -> Side:
    """A run; one without a summary (it was killed) is summed up, and nothing is written."""
    from rvtop.contract import run_files
    from rvtop.results.stored import read_summary, side_of
    from rvtop.text import printable_json

    if (folder / run_files.REQUESTS).is_file() and not (folder / run_files.SUMMARY).exists():
        from rvtop.results.summary import summarise  # NumPy: only where it is needed

        return side_of(folder, printable_json(summarise(folder)))
    return side_of(folder, read_summary(folder))
