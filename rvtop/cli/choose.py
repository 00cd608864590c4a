"""``rvtop choose``: vLLM's own server or Ray Serve LLM, by four questions and measured figures of both."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rvtop.cli.options import Out
from rvtop.errors import UserError
from rvtop.study import choice
from rvtop.system.stdio import say, say_error
from rvtop.text import printable

if TYPE_CHECKING:
    from rvtop.study.choice_table import FigureSet

_SHIPPED = "shipped with rvtop; rvtop choose --measure makes those of this machine"


def choose(
    *,
    single_model: Annotated[
        bool | None, typer.Option("--single-model/--several-models", help="How many models are served.")
    ] = None,
    pipeline: Annotated[
        bool | None,
        typer.Option("--pipeline/--no-pipeline", help="Whether retrieval or other steps belong to it."),
    ] = None,
    fine_scaling: Annotated[
        bool | None,
        typer.Option("--fine-scaling/--no-fine-scaling", help="Whether parts scale by queue or latency."),
    ] = None,
    least_complexity: Annotated[
        bool | None,
        typer.Option("--least-complexity/--any-complexity", help="Whether simple operation comes first."),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Start both here with a small model and measure them (minutes).")
    ] = False,
    out: Out = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON alone.")] = False,
) -> None:
    """Chooses vLLM's own server or Ray Serve LLM, by four questions. Compares both; says what starts it."""
    if out is not None and not measure:
        raise UserError("--out is for the runs of --measure: give both, or neither")
    given = {
        "single_model": single_model,
        "pipeline": pipeline,
        "fine_scaling": fine_scaling,
        "least_complexity": least_complexity,
    }
    answers = answered({key: value for key, value in given.items() if value is not None})
    code, source, folder = 0, _SHIPPED, None
    if measure:
        from rvtop.cli.showdown import plain_session
        from rvtop.study.measure import measured

        progress = say_error if as_json else say
        found, folder, code = measured(out, lambda request: plain_session(request, quiet=True), progress)
        source = f"measured here; runs and choose.json: {printable(str(folder))}"
    else:
        from rvtop.study.choice_table import shipped

        found = shipped()
    if as_json:
        say(json.dumps(told(answers, found, folder)))
    else:
        for line in lines(answers, found, source):
            say(line)
    raise typer.Exit(code)


def answered(given: Mapping[str, bool]) -> dict[str, bool]:
    """``given``, and the answers that a user types to the other questions as far as they still decide.
    Raises UserError where nobody can be asked."""
    answers = dict(given)
    for question in choice.QUESTIONS:
        if choice.decide(answers):
            break
        if question.key not in answers:
            answers[question.key] = _ask(question)
    return answers


def _ask(question: choice.Question) -> bool:
    options = f"{question.yes} or {question.no}"
    if sys.stdin is None or not sys.stdin.isatty():
        raise UserError(f"choose: no terminal to ask in: {question.text} Give {options}")
    while True:
        print(f"{question.text} [y/n] ", end="", file=sys.stderr, flush=True)
        text = sys.stdin.readline()
        if not text:
            raise UserError(f"choose: no answer: {question.text} Give {options}")
        word = text.strip().lower()
        if word in ("y", "yes", "n", "no"):
            return word.startswith("y")
        say_error("answer y or n")


def lines(answers: Mapping[str, bool], found: FigureSet, source: str) -> list[str]:
    """The answer in one line, the comparison, the workloads it fits and the command that starts it."""
    from rvtop.study.choice_table import table

    topology = choice.decide(answers)
    fits = choice.fitting(answers)
    width = max(len(one.name) for one in fits)
    return [
        f"{topology}: {choice.TITLES[topology]} ({choice.why(answers)})",
        *table(found),
        f"figures: {source}",
        *([f"  {found.hardware}; {found.made}"] if found.hardware else []),
        "fits:",
        *(f"  {one.name:<{width}}  {one.why}: {one.command}" for one in fits),
        f"start: {choice.start_command(answers)}",
    ]


def told(answers: Mapping[str, bool], found: FigureSet, folder: Path | None) -> dict[str, Any]:
    """The same as JSON; ``folder`` holds the runs that were measured, None: the shipped figures."""
    from rvtop.study.choice_table import rows, written

    return {
        "schema": 1,
        "topology": choice.decide(answers),
        "why": choice.why(answers),
        "answers": dict(answers),
        "rows": [
            {"property": row.name, "said": dict(row.said), "measured": dict(row.measured) or None}
            for row in rows(found)
        ],
        "figures": written(found),
        "folder": None if folder is None else str(folder),
        "workloads": [
            {"name": one.name, "why": one.why, "scenario": one.scenario, "command": one.command}
            for one in choice.fitting(answers)
        ],
        "start": choice.start_command(answers),
    }
