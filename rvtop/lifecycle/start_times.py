"""How long starts took: of each way of starting, the last five that succeeded.

A way of starting is topology, models, arguments and machine. Each has a file of its own, so that two starts
at once lose at most one of their own records. Where a file can't be read or written, nothing is expected.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from rvtop.contract.snapshot import StartStep
from rvtop.settings.paths import state_folder
from rvtop.target.accelerators import visible_variables
from rvtop.target.backend import BackendOptions

KEPT = 5
_SCHEMA = 1


@dataclass(frozen=True)
class Start:
    """One start that succeeded: seconds in all, and of each step by its name."""

    total_s: float
    steps: Mapping[str, float] = field(default_factory=dict)


class StartTimes:
    """The starts of one way of starting, on this machine. ``environ`` says where they are kept."""

    def __init__(self, options: BackendOptions, environ: Mapping[str, str], node: str | None = None) -> None:
        devices = [environ.get(name, "") for name in (*visible_variables(), "RAY_ADDRESS")]
        way = [
            *(options.topology, list(options.models), list(options.arguments)),
            *(node or platform.node(), os.cpu_count(), devices),
        ]
        digest = hashlib.sha256(json.dumps(way).encode()).hexdigest()[:16]
        self._file = state_folder(environ) / "starts" / f"{options.topology}-{digest}.json"
        self._starts = _read(self._file)
        self._steps: dict[str, float] = {}

    @property
    def expected_s(self) -> float | None:
        """The median of the last starts, seconds; None before the first."""
        return _median([start.total_s for start in self._starts])

    def step_expected_s(self, name: str) -> float | None:
        """The same of one step."""
        return _median([start.steps[name] for start in self._starts if name in start.steps])

    def watch(self, on_step: Callable[[StartStep], None]) -> Callable[[StartStep], None]:
        """Hands each step on with the seconds it is expected to take, and notes how long those took that
        are done."""
        self._steps = {}

        def take(step: StartStep) -> None:
            if step.state == "done" and step.elapsed_s is not None:
                self._steps[step.name] = step.elapsed_s
            on_step(replace(step, expected_s=self.step_expected_s(step.name)))

        return take

    def keep(self, total_s: float) -> None:
        """The start that was watched has succeeded after ``total_s`` seconds."""
        start = Start(total_s, dict(self._steps))
        starts = [*_read(self._file), start][-KEPT:]
        fresh = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        text = json.dumps({"schema": _SCHEMA, "starts": [vars(one) for one in starts]})
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(text, "utf-8")
            fresh.replace(self._file)  # whole or not at all
        except OSError:
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)
        self._starts = starts


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None


def _read(file: Path) -> list[Start]:
    try:
        data = json.loads(file.read_text("utf-8"))
        if data["schema"] != _SCHEMA:
            return []
        starts = [_start(one) for one in data["starts"]]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return []
    return starts[-KEPT:]


def _start(data: Mapping[str, Any]) -> Start:
    return Start(
        _seconds(data["total_s"]), {str(name): _seconds(took) for name, took in data["steps"].items()}
    )


def _seconds(value: Any) -> float:
    """Raises ValueError for what is no duration."""
    seconds = float(value)
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"{value}: no duration")
    return seconds
