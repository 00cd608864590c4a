"""Beside a session of ``rvtop choose --measure``: what its topology takes of memory, and an engine that is
killed under load."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rvtop.contract import run_files
from rvtop.errors import UserError
from rvtop.lifecycle import footprint
from rvtop.session.control_client import ControlClient

_LOOK_S = 0.5
_LOSS_PHASE = "loss"
_S = 1e9


@dataclass(frozen=True, slots=True)
class Loss:
    """An engine was killed: of the requests to the other model until the first answer of the killed one
    again (``back_s`` seconds later), so many were sent and so many failed."""

    back_s: float
    other_sent: int
    other_failed: int


def loss(rows: Sequence[Mapping[str, Any]], killed_ns: int) -> Loss | None:
    """What followed when an engine was killed at ``killed_ns`` of the run's clock; None while a model has not
    answered since. The killed model is the one that took longer to answer again."""
    models = list(dict.fromkeys(str(row["model"]) for row in rows))
    after = [row for row in rows if row["intended_ns"] >= killed_ns]
    first: dict[str, int] = {}
    for row in after:
        if row["error"] is None and row["first_token_ns"] is not None:
            name = str(row["model"])
            first[name] = min(first.get(name, row["first_token_ns"]), row["first_token_ns"])
    if len(models) < 2 or len(first) < len(models):
        return None
    killed = max(first, key=lambda name: first[name])
    others = [row for row in after if row["model"] != killed and row["intended_ns"] <= first[killed]]
    failed = sum(row["error"] is not None for row in others)
    return Loss((first[killed] - killed_ns) / _S, len(others), failed)


class Watch:
    """Looks twice a second. With a ``control`` socket it kills an engine once every one of so many
    ``engines`` has answered, and stops the session when all answer again."""

    def __init__(self, folder: Path, control: Path | None, engines: int) -> None:
        self.overhead_bytes: int | None = None
        self.processes: int | None = None
        self.loss: Loss | None = None
        self._folder = folder
        self._control = control
        self._engines = engines
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="measure", daemon=True)
        self._killed_ns: int | None = None

    def start(self) -> None:
        """Its session is about to begin."""
        self._thread.start()

    def finish(self) -> None:
        """Its session has ended; returns when it looks no more."""
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(_LOOK_S):
            backend = footprint.child_with("backends")
            rows = self._rows()
            if backend is None or not rows:
                continue
            if self._control is None:
                self._weigh(footprint.below(backend))
            elif self._killed_ns is None:
                self._kill(footprint.below(backend), rows)
            else:
                self.loss = loss(rows, self._killed_ns)
                if self.loss is not None:
                    self._end_session(self._control)
                    return

    def _weigh(self, parts: Sequence[footprint.Part]) -> None:
        found = footprint.overhead(parts)
        if found is not None and found[0] > (self.overhead_bytes or 0):
            self.overhead_bytes, self.processes = found

    def _kill(self, parts: list[footprint.Part], rows: Sequence[Mapping[str, Any]]) -> None:
        began_ns = self._began_ns()
        answered = {row["model"] for row in rows if row["phase"] == _LOSS_PHASE and row["error"] is None}
        if began_ns is not None and len(answered) == self._engines and footprint.kill_engine(parts):
            self._killed_ns = time.time_ns() - began_ns

    def _end_session(self, control: Path) -> None:
        try:
            with ControlClient(control) as client:
                client.send("stop", {})
                client.answer("stop")
        except UserError:
            pass  # it ends by itself meanwhile, which is as good

    def _began_ns(self) -> int | None:
        """The Unix time of the run's start."""
        try:
            told = json.loads((self._folder / run_files.ENVIRONMENT).read_bytes())
            return int(told["t0_unix_ns"])
        except (OSError, ValueError, KeyError):
            return None

    def _rows(self) -> list[dict[str, Any]]:
        """The requests that have ended by now; a line that is being written is left out."""
        try:
            text = (self._folder / run_files.REQUESTS).read_bytes()
        except OSError:
            return []
        return [json.loads(line) for line in text[: text.rfind(b"\n") + 1].splitlines()]
