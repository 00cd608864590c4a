"""Sessions one after another: what a showdown and a sweep have in common."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from rvtop.contract.showdown import HEADS
from rvtop.errors import UserError
from rvtop.session.request import Outcome, SessionRequest
from rvtop.study.knobs import knobs_of
from rvtop.study.rows import Result
from rvtop.system.files import unwritable, written_whole

INTERRUPTED = 130

Run = Callable[[SessionRequest], Outcome]
Say = Callable[[str], None]
T = TypeVar("T")


class Study(Protocol[T]):
    """Several sessions, each a turn; ``begin`` and ``end`` are called around each of them."""

    @property
    def word(self) -> str:
        """What it is called in the lines that it says."""

    @property
    def total(self) -> int | None:
        """Sessions in all; None without end."""

    @property
    def exit_code(self) -> int: ...

    def turns(self) -> Iterator[T]:
        """All sessions that are to be run, in their order."""

    def folder(self, turn: T) -> str:
        """The name of a turn's run folder."""

    def begin(self, turn: T) -> SessionRequest:
        """What its session is asked for."""

    def end(self, turn: T, outcome: Outcome) -> Result:
        """Keeps how it ended. Raises UserError when that can't be written."""

    def finish(self) -> None:
        """Nothing more is run."""


def write_study(path: Path, found: Mapping[str, Any]) -> None:
    """Writes what a study has found by now. Raises FileFault."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as part:
            text = json.dumps(found, indent=1, ensure_ascii=False)
            part.write_text(text + "\n", "utf-8", errors="replace")
    except OSError as error:
        raise unwritable(path, error) from error


def run_turns(study: Study[T], run: Run, say: Say) -> int:
    """Runs each turn of ``study`` as a session of its own; returns the exit code. Raises UserError when
    its folder can't be written."""
    total, interrupted = study.total, False
    for number, turn in enumerate(study.turns(), 1):
        say(f"{study.word}: {study.folder(turn)} ({number}{'' if total is None else f' of {total}'})")
        request = study.begin(turn)
        try:
            outcome = run(request)
        except UserError as error:  # what keeps this one from starting need not keep the next
            outcome = Outcome(INTERRUPTED if error.exit_code == INTERRUPTED else 4, str(error))
        except KeyboardInterrupt:
            outcome = Outcome(INTERRUPTED)
        say(f"{study.word}: {_line(study.end(turn, outcome))}")
        interrupted = outcome.interrupted or outcome.exit_code == INTERRUPTED
        if interrupted:
            break
    study.finish()
    return INTERRUPTED if interrupted else study.exit_code


def result_of(
    name: str, folder: Path, arguments: Sequence[str], outcome: Outcome, digest: str | None, reason: str = ""
) -> Result:
    """How the session in ``folder`` ended. ``digest``: of the prompts that the first one sent; a ``reason``
    says why it does not count though nothing failed."""
    summary, code = outcome.summary, outcome.exit_code
    knobs, start_s = knobs_of(folder, arguments)
    if reason:
        code, summary = 0, None
    elif code == INTERRUPTED:
        reason = "interrupted"
    elif summary is None:
        reason = outcome.message or "no results"
    elif code not in (0, 1):
        reason = outcome.message or f"ended with exit code {code}"
    elif digest is not None and summary.get("prompts_digest") != digest:
        code, reason = 5, "its prompts are not those of the first session: their digests differ"
    return Result(name, folder.name, code, reason, summary, start_s, knobs)


def exit_code(codes: Collection[int]) -> int:
    """130 interrupted, 5 a part of rvtop died, 4 no topology started, 3 a target was lost, 1 a threshold
    was missed or all requests of one failed, else 0."""
    if codes and all(code == 4 for code in codes):
        return 4
    return next((code for code in (INTERRUPTED, 5, 3, 1) if code in codes), 0)


def _line(result: Result) -> str:
    if result.reason or result.summary is None:
        return f"{result.folder} does not count: {result.reason}"
    kpm = result.summary["kpm"]
    figures = (f"{head} {'--' if kpm.get(key) is None else f'{kpm[key]:.4g}'}" for key, head in HEADS.items())
    return f"{result.folder}: {', '.join(figures)}"
