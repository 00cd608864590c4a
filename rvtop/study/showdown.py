"""Runs topologies one after another with the same work, and compares them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rvtop.contract.showdown import Score, Showdown
from rvtop.lifecycle.start_times import StartTimes
from rvtop.session.request import Outcome, SessionRequest, topology_options
from rvtop.study.changes import paper
from rvtop.study.entries import Entry, Turn, turns
from rvtop.study.knobs import differences, notes
from rvtop.study.rows import Result, rows
from rvtop.study.turns import exit_code, result_of, write_study
from rvtop.target.backend import BackendOptions
from rvtop.text import printable

SHOWDOWN = "showdown.json"
#: Repeats of a topology that a showdown without end keeps in its table, the newest ones.
KEPT_REPEATS = 10
#: Why a session does not count that the user ended.
SKIPPED = "skipped"
ENDED = "ended before its end"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run: ``entries`` in their order, each ``repeat`` times (None: without end)."""

    entries: tuple[Entry, ...]
    repeat: int | None
    reference: str
    models: tuple[str, ...] = ()


class ShowdownRun:
    """The state of a showdown: ``begin`` and ``end`` are called around each session, ``request`` being what
    all of them are asked for. ``showdown.json`` is written after each, so that an end at any time keeps
    what is done."""

    def __init__(
        self,
        request: SessionRequest,
        plan: Plan,
        environ: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.request = request
        self.plan = plan
        self.reference = plan.reference
        self.results: list[Result] = []
        self.version = 0  # grows with all that a picture would show anew
        self._environ = os.environ if environ is None else environ
        self._clock = clock
        self._began = clock()
        self._over_s: float | None = None
        self._ended_s = 0.0  # when the last session ended
        self._turn: Turn | None = None
        self._number = 0
        self._digest: str | None = None
        self._codes: set[int] = set()
        self._order = [] if plan.repeat is None else [turn.folder for turn in self.turns()]
        self._expected = {entry.name: self._expected_start(entry) for entry in plan.entries}

    word = "showdown"

    def folder(self, turn: Turn) -> str:
        """The name of its run folder."""
        return turn.folder

    def turns(self) -> Iterator[Turn]:
        """All sessions, in their order."""
        return turns(self.plan.entries, self.plan.repeat)

    @property
    def total(self) -> int | None:
        """Sessions in all; None without end."""
        return None if self.plan.repeat is None else len(self.plan.entries) * self.plan.repeat

    @property
    def turn(self) -> Turn | None:
        """What runs now."""
        return self._turn

    # -- its course --------------------------------------------------------------------------

    def begin(self, turn: Turn) -> SessionRequest:
        """``turn`` begins: what its session is asked for."""
        self._turn, self._number = turn, self._number + 1
        if self.plan.repeat is None:
            self._order = [*self._order[1 - KEPT_REPEATS * len(self.plan.entries) :], turn.folder]
        self.version += 1
        return replace(self.request, out=self.request.out / turn.folder, backend=self._backend(turn.entry))

    def end(self, turn: Turn, outcome: Outcome, reason: str = "") -> Result:
        """``turn`` has ended; a ``reason`` says why it does not count though nothing failed. Raises
        UserError when ``showdown.json`` can't be written."""
        self._turn, self._ended_s = None, self.elapsed_s
        folder = self.request.out / turn.folder
        result = result_of(turn.entry.name, folder, turn.entry.arguments, outcome, self._digest, reason)
        if self._digest is None and result.summary is not None:
            self._digest = result.summary.get("prompts_digest")
        self._codes.add(result.exit_code)
        own = [one for one in self.results if one.name == result.name]
        if self.plan.repeat is None and len(own) >= KEPT_REPEATS:
            self.results.remove(own[0])
        self.results.append(result)
        self._expected[turn.entry.name] = self._expected_start(turn.entry)
        self.version += 1
        self.write()
        return result

    def finish(self) -> None:
        """Nothing more is run."""
        self._over_s, self._turn = self._clock() - self._began, None
        self.version += 1

    def choose_reference(self, name: str) -> None:
        """Changes are told against ``name`` from now on. Raises what ``end`` does."""
        self.reference = name
        self.version += 1
        if self.results:
            self.write()

    @property
    def exit_code(self) -> int:
        return exit_code(self._codes)

    # -- what came of it ---------------------------------------------------------------------

    @property
    def rows(self) -> list[dict[str, Any]]:
        return rows(self.results, self.reference)

    @property
    def knobs(self) -> dict[str, Mapping[str, Any]]:
        """What is known of each topology's knobs, of the newest session that told."""
        return {result.name: result.knobs for result in self.results if result.knobs.get("engines")}

    @property
    def notes(self) -> list[str]:
        """Which knobs are not the same for all, a line each."""
        return notes(differences(self.knobs))

    @property
    def elapsed_s(self) -> float:
        return self._over_s if self._over_s is not None else self._clock() - self._began

    def picture(self) -> Showdown:
        """How it stands now."""
        found = {row["name"]: row for row in self.rows}
        return Showdown(
            scenario=self.request.scenario.name if self.request.scenario else "",
            scores=tuple(self._score(entry, found.get(entry.name)) for entry in self.plan.entries),
            reference=self.reference,
            turn=self._number,
            turns=self.total,
            repeat=self._turn.repeat if self._turn is not None else 1,
            elapsed_s=self.elapsed_s,
            left_s=self._left_s(),
            notes=tuple(printable(note) for note in self.notes),
            over=self._over_s is not None,
            folder=str(self.request.out),
        )

    def write(self) -> None:
        """Writes ``showdown.json``. Raises UserError."""
        plan = self.plan
        found: dict[str, Any] = {
            "schema": 1,
            "scenario": self.request.scenario.name if self.request.scenario else None,
            "order": self._order,
            "arguments": {entry.name: list(entry.arguments) for entry in plan.entries},
            "knobs": self.knobs,
            "differs": differences(self.knobs),
            "reference": self.reference,
            "paper": paper(),
            "rows": self.rows,
        }
        write_study(Path(self.request.out, SHOWDOWN), found)

    # -- inside ------------------------------------------------------------------------------

    def _backend(self, entry: Entry) -> BackendOptions:
        return topology_options(entry.topology, models=self.plan.models, port=0, arguments=entry.arguments)

    def _expected_start(self, entry: Entry) -> float | None:
        return StartTimes(self._backend(entry), self._environ).expected_s

    def _left_s(self) -> float | None:
        """The sessions to come take as long as those that have ended, as a mean."""
        done = self._number - (self._turn is not None)
        if self.total is None or not done or self._over_s is not None:
            return None
        return max(0.0, self._ended_s / done * self.total - self.elapsed_s)

    def _score(self, entry: Entry, row: Mapping[str, Any] | None) -> Score:
        now = self._turn is not None and self._turn.entry.name == entry.name
        own = [result for result in self.results if result.name == entry.name]
        expected = self._expected[entry.name]
        if row is None or not own:
            return Score(entry.name, "run" if now else "wait", expected_start_s=expected)
        last = own[-1]
        state = "run" if now else "skipped" if last.reason == SKIPPED else "failed" if last.reason else "done"
        return Score(
            entry.name,
            state,
            figures=row["kpm"],
            ranges={key: tuple(of) for key, of in row["range"].items() if of is not None},
            change_pct=row["change_pct"],
            verdicts=row["verdict"],
            censored=row["censored"],
            repeats=row["repeats"],
            start_s=row["start_s"],
            expected_start_s=expected,
            reason=printable(last.reason),
            ttft=next((one.ttft for one in reversed(own) if one.ttft.count), own[-1].ttft),
        )
