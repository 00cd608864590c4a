"""One topology with each combination of engine arguments, one after another with the same load.

What is done is told by the run folders that are whole, so a sweep that was killed goes on where it was.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rvtop.errors import UserError
from rvtop.results.stored import inner, read_summary
from rvtop.scenario.thresholds import check_thresholds
from rvtop.session.request import Outcome, SessionRequest
from rvtop.study.rows import Result
from rvtop.study.sweep_rows import rows
from rvtop.study.turns import exit_code, result_of, write_study
from rvtop.system.files import unwritable

SWEEP = "sweep.json"
#: How a run has ended that need not be run again.
_WHOLE = ("done", "all_failed")
#: Combinations of more would take days; the user has mistyped something.
_MOST = 1000
_NAME_LIMIT = 80

Values = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Combination:
    """``values`` of the engine arguments that vary. ``number`` counts from 1, in the order of the options."""

    number: int
    values: Values

    @property
    def name(self) -> str:
        """``max_num_seqs=64 max_num_batched_tokens=2048``."""
        return " ".join(f"{key}={value}" for key, value in self.values.items())

    @property
    def stem(self) -> str:
        """The beginning of its run folders' names: unique by its number."""
        plain = "".join(c if c.isalnum() or c in "=_.-" else "-" for c in self.name)
        return f"{self.number:02}-{plain}"[:_NAME_LIMIT]


@dataclass(frozen=True, slots=True)
class SweepTurn:
    """One session of a sweep; ``repeat`` counts from 1."""

    combination: Combination
    repeat: int
    folder: str


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """What is to be run. ``arguments`` go to ``python -m backends`` in all of them, after which come those of
    each combination."""

    topology: str
    combinations: tuple[Combination, ...]
    repeat: int = 1
    seed: int = 0
    models: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    slo: Mapping[str, float] = field(default_factory=dict)  # ttft_ms, tpot_ms, e2e_ms
    work: str = ""  # the scenario, whole

    def turns(self) -> list[SweepTurn]:
        """All sessions. Each repeat has an order of its own, drawn by ``seed``: a machine that warms up or
        slows down favours no combination."""
        made = []
        for repeat in range(1, self.repeat + 1):
            order = list(self.combinations)
            random.Random(f"{self.seed}/{repeat}").shuffle(order)
            suffix = f"-{repeat}" if self.repeat > 1 else ""
            made += [SweepTurn(one, repeat, one.stem + suffix) for one in order]
        return made

    def identity(self) -> dict[str, Any]:
        """What must be the same for a sweep to go on in its folder."""
        return {
            "topology": self.topology,
            "vary": [dict(one.values) for one in self.combinations],
            "repeat": self.repeat,
            "seed": self.seed,
            "models": list(self.models),
            "arguments": list(self.arguments),
            "work": self.work,
        }


def combinations(vary: Sequence[str]) -> tuple[Combination, ...]:
    """All combinations of ``k=v1,v2`` each. Raises UserError."""
    axes: dict[str, list[str]] = {}
    for text in vary:
        key, sign, listed = text.partition("=")
        values = [value.strip() for value in listed.split(",")]
        key = key.strip()
        if not sign or not key or not all(values):
            raise UserError(f"--vary {text}: write NAME=VALUE,VALUE, as max_num_seqs=64,256")
        if key in axes:
            raise UserError(f"--vary {text}: {key} stands twice; give all its values in one --vary")
        if len(set(values)) < len(values):
            raise UserError(f"--vary {text}: a value stands twice; name each once")
        axes[key] = values
    if not axes:
        raise UserError("sweep needs --vary NAME=VALUE,VALUE, as --vary max_num_seqs=64,256")
    count = 1
    for values in axes.values():
        count *= len(values)
    if count > _MOST:
        raise UserError(f"--vary: {count} combinations; {_MOST} at most")
    found = itertools.product(*axes.values())
    return tuple(
        Combination(number, dict(zip(axes, values, strict=True))) for number, values in enumerate(found, 1)
    )


class SweepRun:
    """The state of a sweep (``rvtop.study.turns.Study``). Raises UserError for a folder that holds another
    sweep, or something else."""

    word = "sweep"

    def __init__(self, request: SessionRequest, plan: SweepPlan) -> None:
        self.request, self.plan = request, plan
        self.results: list[Result] = []
        self.resumed = 0  # sessions that were done before
        self._turns = {turn.folder: turn for turn in plan.turns()}
        self._codes: set[int] = set()
        self._digest: str | None = None
        self._check_folder()
        self._folder_fd = _held_alone(request.out)
        for turn in self._turns.values():
            self._take_done(turn)

    # -- its course --------------------------------------------------------------------------

    @property
    def total(self) -> int:
        """Sessions that are to be run now."""
        return len(self._turns) - self.resumed

    def turns(self) -> Iterator[SweepTurn]:
        """Those that are not done yet, in their order."""
        done = {result.folder for result in self.results}
        return iter([turn for turn in self._turns.values() if turn.folder not in done])

    def folder(self, turn: SweepTurn) -> str:
        """The name of its run folder."""
        return turn.folder

    def begin(self, turn: SweepTurn) -> SessionRequest:
        """What its session is asked for. What a killed one left is moved aside. Raises UserError."""
        out = self.request.out / turn.folder
        self.write()  # a folder that can't be written ends it before anything starts
        _move_aside(out)
        backend = self.request.backend
        assert backend is not None
        return replace(self.request, out=out, backend=replace(backend, arguments=self._arguments(turn)))

    def end(self, turn: SweepTurn, outcome: Outcome) -> Result:
        """Keeps how it ended. Raises UserError when ``sweep.json`` can't be written."""
        out = self.request.out / turn.folder
        result = result_of(turn.combination.name, out, self._arguments(turn), outcome, self._digest)
        self._keep(result)
        self._codes.add(result.exit_code)
        self.write()
        return result

    def finish(self) -> None:
        """Nothing more is run: another sweep may go on in its folder."""
        if self._folder_fd is not None:
            os.close(self._folder_fd)
            self._folder_fd = None

    @property
    def exit_code(self) -> int:
        return exit_code(self._codes)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One a combination, in the order of the options."""
        named = [(one.name, dict(one.values)) for one in self.plan.combinations]
        return rows(named, self.results, self.plan.slo)

    def write(self) -> None:
        """Writes ``sweep.json``. Raises FileFault."""
        found = {"schema": 1, **self.plan.identity(), "slo": dict(self.plan.slo), "rows": self.rows}
        write_study(self.request.out / SWEEP, found)

    # -- inside ------------------------------------------------------------------------------

    def _arguments(self, turn: SweepTurn) -> tuple[str, ...]:
        varied = [f"{key}={value}" for key, value in turn.combination.values.items()]
        return (*self.plan.arguments, *(part for text in varied for part in ("--engine-arg", text)))

    def _keep(self, result: Result) -> None:
        if self._digest is None and result.summary is not None:
            self._digest = result.summary.get("prompts_digest")
        self.results.append(result)

    def _check_folder(self) -> None:
        path = self.request.out / SWEEP
        try:
            held = json.loads(path.read_bytes())
        except FileNotFoundError:
            if self.request.out.is_dir() and any(self.request.out.iterdir()):
                raise UserError(
                    f"--out {self.request.out}: holds something else; give another folder"
                ) from None
            return
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: can't be read: {error}; give another --out") from None
        if not isinstance(held, dict):
            raise UserError(f"{path}: not a sweep of this version; give another --out")
        for key, value in self.plan.identity().items():
            if held.get(key) != value:
                raise UserError(
                    f"--out {self.request.out}: holds a sweep whose {_CALLED.get(key, key)} differ; "
                    "give the same again to go on with it, or another folder"
                )

    def _take_done(self, turn: SweepTurn) -> None:
        """Takes the result of a session that was run before."""
        out = self.request.out / turn.folder
        if not out.is_dir():
            return
        try:
            summary = read_summary(out)
        except UserError:  # it was killed
            return
        if inner(summary, "end").get("kind") not in _WHOLE:
            return
        missed = inner(summary, "end").get("kind") == "all_failed"
        if self.request.scenario is not None:
            missed |= bool(check_thresholds(self.request.scenario.thresholds, summary))
        outcome = Outcome(int(missed), "", summary)
        self._keep(result_of(turn.combination.name, out, self._arguments(turn), outcome, self._digest))
        self._codes.add(self.results[-1].exit_code)
        self.resumed += 1


_CALLED = {"vary": "combinations (--vary)", "arguments": "engine arguments", "work": "scenario or its files"}


def _held_alone(folder: Path) -> int | None:
    """Makes the folder, and opens it with a lock that ends with this process. Raises UserError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        raise UserError(f"--out {folder}: another sweep runs there; wait for it, or give another") from None
    except OSError:  # a file system without locks
        os.close(held)
        return None
    return held


def _move_aside(folder: Path) -> None:
    """Renames what a session that did not end left there. Raises UserError."""
    if not folder.exists():
        return
    for number in itertools.count(1):
        aside = folder.with_name(f"{folder.name}.cut{number}")
        if not aside.exists():
            break
    try:
        if any(folder.iterdir()):
            folder.rename(aside)
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}; move it away, or give another --out") from error
