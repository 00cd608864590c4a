"""``rvtop compare``: stored runs side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rvtop.errors import UserError
from rvtop.system.stdio import say, say_error

if TYPE_CHECKING:
    from rvtop.results.compare import Comparison
    from rvtop.results.fail_if import Goal


def compare_runs(
    runs: Annotated[list[Path], typer.Argument(help="Run folders: the reference, then others.")],
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            help="Exit with 1 if so: 'ttft_p99 > 5%' (a change that is significant; with ! at its end any), "
            "'errors > 0' (B's own); repeat."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Compare runs of different work too.")] = False,
    level: Annotated[float, typer.Option(help="Level of the intervals, %.")] = 95.0,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write it as a page that needs no other file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON alone.")] = False,
) -> None:
    """Compares stored runs with the first of them. Refuses those that did different work."""
    import json

    from rvtop.results.compare import compare
    from rvtop.results.compare_text import as_data, text_lines
    from rvtop.results.fail_if import parse_goal
    from rvtop.results.stored import side_of

    goals = [parse_goal(text) for text in fail_if or ()]
    if len(runs) < 2:
        raise UserError("compare needs two run folders or more: rvtop compare RUN RUN")
    if not 50 <= level < 100:
        raise UserError(f"--level {level:g}: give 50 or more and less than 100, as 95")
    summed_up: dict[Path, Mapping[str, Any]] = {}
    summaries = [_summary(folder, summed_up) for folder in runs]
    sides = [side_of(folder, summary) for folder, summary in zip(runs, summaries, strict=True)]
    found = [compare(sides[0], side, level) for side in sides[1:]]
    if not force:
        _refuse(found)
    if as_json:
        data = {
            "reference": sides[0].where,
            "comparisons": [as_data(one) for one in found],
            "fail_if": [_goal(goal, one) for one in found for goal in goals],
        }
        say(json.dumps(data, indent=2, ensure_ascii=False))
    for number, one in enumerate(found if not as_json else ()):
        for line in ([""] if number else []) + text_lines(one):
            say(line)
    if html is not None:
        _write_page(html, runs, found, summed_up)
        if not as_json:
            say(f"page: {html}")
    missed = [why for one in found for goal in goals if (why := goal.missed(one))]
    spared = [why for one in found for goal in goals if (why := goal.spared(one))]
    for why in (*missed, *spared):
        say_error(why)
    raise typer.Exit(1 if missed else 0)


def _goal(goal: Goal, found: Comparison) -> dict[str, Any]:
    missed = goal.missed(found)
    return {
        "goal": goal.text,
        "folder": found.b.where,
        "missed": bool(missed),
        "why": missed or goal.spared(found),
    }


def _refuse(found: list[Comparison]) -> None:
    """Raises UserError for the first that compares different work."""
    for one in found:
        if one.refused:
            raise UserError(
                f"{one.a.where}, {one.b.where}: {one.refusal}; --force compares them all the same"
            )


def _summary(folder: Path, summed_up: dict[Path, Mapping[str, Any]]) -> Mapping[str, Any]:
    """A run's; one without a summary (it was killed), or with one that tells no blocks, is summed up, and
    nothing is written. ``summed_up`` gets what was."""
    from rvtop.contract import run_files
    from rvtop.results.stored import read_summary
    from rvtop.text import printable_json

    if folder in summed_up:
        return summed_up[folder]
    written = (folder / run_files.SUMMARY).exists() or not (folder / run_files.REQUESTS).is_file()
    summary = read_summary(folder) if written else {}
    if "blocks" not in summary and (folder / run_files.REQUESTS).is_file():
        from rvtop.results.summary import summarise  # NumPy: only where it is needed

        summary = summed_up[folder] = printable_json(summarise(folder))
    return summary


def _write_page(
    html: Path, runs: list[Path], found: list[Comparison], summed_up: Mapping[Path, Mapping[str, Any]]
) -> None:
    """``summed_up``: the summaries that were made anew of the runs' requests. Raises UserError."""
    from rvtop.results.html.overlay import Run, difference_section, overlay_page, read_run
    from rvtop.system.files import written_for

    labels = [found[0].a.label, *(one.b.label for one in found)]
    alike = len(set(labels)) < len(labels)
    names = [folder.name if alike else label for folder, label in zip(runs, labels, strict=True)]
    letters = [chr(ord("A") + number) for number in range(len(runs))]
    shown = [
        Run(name, folder, summed_up[folder]) if folder in summed_up else read_run(name, folder)
        for name, folder in zip(map(" ".join, zip(letters, names, strict=True)), runs, strict=True)
    ]
    page = overlay_page(
        f"{', '.join(names[1:])} against {names[0]}",
        [*dict.fromkeys(str(run.summary["name"]) for run in shown), f"{len(runs)} runs"],
        [difference_section(one, letter) for one, letter in zip(found, letters[1:], strict=True)],
        shown,
    )
    with written_for("--html", html) as part:
        part.write_text(page, "utf-8")
