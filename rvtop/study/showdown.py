"""Runs topologies one after another with the same work, and compares them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rvtop.errors import UserError
from rvtop.session.request import Outcome, SessionRequest, topology_options
from rvtop.study.entries import Turn
from rvtop.study.rows import HEADS, Result, rows

SHOWDOWN = "showdown.json"
_INTERRUPTED = 130

Run = Callable[[SessionRequest], Outcome]
Say = Callable[[str], None]


def run_turns(
    request: SessionRequest,
    turns: Sequence[Turn],
    run: Run,
    say: Say,
    *,
    models: Sequence[str] = (),
    reference: str,
) -> tuple[list[Result], int]:
    """Runs each turn as a session of its own: ``request`` on the turn's topology, in a folder under its
    ``out``. ``showdown.json`` is written after each, so that an end at any time keeps what is done.
    Returns the results and the exit code. Raises UserError when the folder can't be written."""
    results: list[Result] = []
    digest: str | None = None
    for number, turn in enumerate(turns, 1):
        say(f"showdown: {turn.folder} ({number} of {len(turns)})")
        backend = topology_options(turn.entry.topology, models=models, port=0, arguments=turn.entry.arguments)
        try:
            outcome = run(replace(request, out=request.out / turn.folder, backend=backend))
        except UserError as error:  # what keeps this topology from starting need not keep the next
            outcome = Outcome(4, str(error))
        except KeyboardInterrupt:
            outcome = Outcome(_INTERRUPTED)
        result = _result(turn, outcome, digest)
        if digest is None and result.summary is not None:
            digest = result.summary.get("prompts_digest")
        results.append(result)
        say(_line(result))
        _write(request, turns, results, reference)
        if outcome.exit_code == _INTERRUPTED:
            break
    return results, exit_code(results)


def exit_code(results: Sequence[Result]) -> int:
    """130 interrupted, 5 a part of rvtop died, 4 no topology started, 3 a target was lost, 1 a threshold
    was missed or all requests of one failed, else 0."""
    codes = [result.exit_code for result in results]
    if codes and all(code == 4 for code in codes):
        return 4
    return next((code for code in (_INTERRUPTED, 5, 3, 1) if code in codes), 0)


def _result(turn: Turn, outcome: Outcome, digest: str | None) -> Result:
    summary, reason = outcome.summary, ""
    if outcome.exit_code == _INTERRUPTED:
        reason = "interrupted"
    elif summary is None:
        reason = outcome.message or "no results"
    elif outcome.exit_code not in (0, 1):
        reason = outcome.message or f"ended with exit code {outcome.exit_code}"
    elif digest is not None and summary.get("prompts_digest") != digest:
        reason = "its prompts are not those of the first topology: their digests differ"
        return Result(turn.entry.name, turn.folder, 5, reason, summary)
    return Result(turn.entry.name, turn.folder, outcome.exit_code, reason, summary)


def _line(result: Result) -> str:
    if result.reason or result.summary is None:
        return f"showdown: {result.folder} does not count: {result.reason}"
    kpm = result.summary["kpm"]
    figures = (f"{head} {'--' if kpm.get(key) is None else f'{kpm[key]:.4g}'}" for key, head in HEADS.items())
    return f"showdown: {result.folder}: {', '.join(figures)}"


def _write(request: SessionRequest, turns: Sequence[Turn], results: Sequence[Result], reference: str) -> None:
    found: dict[str, Any] = {
        "schema": 1,
        "scenario": request.scenario.name if request.scenario else None,
        "order": [turn.folder for turn in turns],
        "arguments": {turn.entry.name: list(turn.entry.arguments) for turn in turns},
        "reference": reference,
        "rows": rows(results, reference),
    }
    path = Path(request.out, SHOWDOWN)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give --out a folder that can be written") from error
