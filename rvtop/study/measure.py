"""Starts vLLM's own server and Ray Serve LLM with the small model, one after the other, and measures both:
each alone with requests one after another, then with two models of which one loses its engine."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rvtop.doctor.gpus import probe
from rvtop.errors import UserError, check_limits
from rvtop.load.fleet.workers import cores
from rvtop.results.environment import hardware
from rvtop.scenario.load import scenario_from
from rvtop.scenario.schema import to_data
from rvtop.session.request import Outcome, SessionRequest, default_out, find, topology_options
from rvtop.study.choice import CHOICES
from rvtop.study.choice_table import Figures, FigureSet, written
from rvtop.study.knobs import knobs_for
from rvtop.study.measure_watch import Loss, Watch
from rvtop.study.rows import Result
from rvtop.study.turns import Run, Say, exit_code, result_of, run_turns, write_study
from rvtop.target.preflight import check_backend

CHOICE = "choose.json"
ALONE, LOSS = "latency", "isolation"
_MODELS = {ALONE: ("a=tiny",), LOSS: ("a=tiny", "b=tiny")}
#: A few requests that don't count, then so many one after another.
_PHASES: Mapping[str, Sequence[Mapping[str, Any]]] = {
    ALONE: (
        {"name": "warm", "concurrency": 1, "requests": 4, "warmup": True},
        {"name": "one", "concurrency": 1, "requests": 40},
    ),
    # Ended as soon as both models answer again; a model that takes longer to come back has no figure.
    LOSS: (
        {"name": "warm", "concurrency": 2, "requests": 8, "warmup": True},
        {"name": "loss", "rate": 2, "duration": "20m", "drain": "5s"},
    ),
}


@dataclass(frozen=True, slots=True)
class Turn:
    """One session: a topology, and what is measured of it."""

    topology: str
    kind: str


class Measurement:
    """The study (see ``turns.run_turns``). ``sockets`` is a folder with a short path."""

    word = "choose"

    def __init__(self, out: Path, sockets: Path) -> None:
        self.out = out
        self.found: dict[str, Figures] = {}
        self._sockets = sockets
        self._codes: set[int] = set()
        self._watch: Watch | None = None

    @property
    def total(self) -> int:
        return len(CHOICES) * len(_PHASES)

    @property
    def exit_code(self) -> int:
        return exit_code(self._codes)

    def turns(self) -> Iterator[Turn]:
        """Both alone before both with two models, so that what a machine does meanwhile hits both alike."""
        return (Turn(topology, kind) for kind in _PHASES for topology in CHOICES)

    def folder(self, turn: Turn) -> str:
        return f"{turn.topology}-{turn.kind}"

    def begin(self, turn: Turn) -> SessionRequest:
        folder = self.out / self.folder(turn)
        smoke = to_data(find("smoke"))
        data = {**smoke, "name": self.folder(turn), "phases": [dict(one) for one in _PHASES[turn.kind]]}
        request = SessionRequest(
            scenario=scenario_from(data | {"thresholds": {}}, "choose"),
            out=folder,
            backend=topology_options(
                turn.topology, models=_MODELS[turn.kind], port=0, arguments=self._arguments(turn)
            ),
        )
        if turn.kind == LOSS:
            request = replace(request, control=self._sockets / turn.topology)
        self._watch = Watch(folder, request.control, engines=len(_MODELS[turn.kind]))
        self._watch.start()
        return request

    def end(self, turn: Turn, outcome: Outcome) -> Result:
        assert self._watch is not None
        watch, self._watch = self._watch, None
        watch.finish()
        result = result_of(turn.topology, self.out / self.folder(turn), self._arguments(turn), outcome, None)
        self._codes.add(result.exit_code)
        figures = self.found.get(turn.topology, Figures())
        if result.counts and turn.kind == ALONE:
            figures = _alone(figures, result, watch)
        elif result.counts:
            figures = _with_loss(figures, watch.loss)
        self.found[turn.topology] = replace(figures, folders=(*figures.folders, self.folder(turn)))
        write_study(self.out / CHOICE, {"schema": 1, **written(self.figures())})
        return result

    def finish(self) -> None:
        """Nothing more is run."""

    def figures(self) -> FigureSet:
        """What is known by now."""
        gpus, _ = probe()
        here = hardware(gpus.names if gpus is not None else ())
        return FigureSet(here, datetime.now(UTC).date().isoformat(), self.found)

    def _arguments(self, turn: Turn) -> tuple[str, ...]:
        knobs = knobs_for(cores=cores(), models=len(_MODELS[turn.kind]), gpu=probe()[0] is not None)
        return knobs.arguments(several=True)


def measured(out: Path | None, run: Run, say: Say) -> tuple[FigureSet, Path, int]:
    """Measures both; the figures, the folder that holds their runs, and the exit code. Takes minutes.
    Raises UserError for a topology that can't start here, and for an ``out`` that holds a choice already."""
    check_limits()
    folder = out or default_out("choose")
    if (folder / CHOICE).exists():
        raise UserError(f"--out {folder}: holds {CHOICE} already; give another folder")
    for topology in CHOICES:
        check_backend(topology_options(topology, models=_MODELS[ALONE], port=0, arguments=()))
    with tempfile.TemporaryDirectory(prefix="rvtop-choose-", ignore_cleanup_errors=True) as sockets:
        study = Measurement(folder, Path(sockets))
        began = time.monotonic()
        code = run_turns(study, run, say)
        say(f"choose: measured in {time.monotonic() - began:.0f} s")
        return study.figures(), folder, code


def _alone(figures: Figures, result: Result, watch: Watch) -> Figures:
    assert result.summary is not None
    return replace(
        figures,
        start_s=result.start_s,
        ttft_p50_ms=_p50(result.summary, "ttft_ms"),
        itl_p50_ms=_p50(result.summary, "itl_ms"),
        latency_avg_ms=result.summary["kpm"].get("latency_avg_ms"),
        overhead_bytes=watch.overhead_bytes,
        processes=watch.processes,
    )


def _with_loss(figures: Figures, loss: Loss | None) -> Figures:
    if loss is None:
        return figures
    return replace(figures, other_sent=loss.other_sent, other_failed=loss.other_failed, back_s=loss.back_s)


def _p50(summary: Mapping[str, Any], key: str) -> float | None:
    told = summary.get(key) or {}
    value: float | None = told.get("p50")
    return value
