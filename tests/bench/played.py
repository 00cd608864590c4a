"""A dashboard whose session is a recorded run, ten of its pictures a second:
``python -m tests.bench.played RUN [--showdown]``.

What the screens cost that a load alone does not open is measured on it: each picture differs from the one
before, as under load, and nothing else runs. ``--showdown``: the run is the topology that runs in a showdown
of five, the four others have its figures.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from rvtop.contract.command import Command
from rvtop.contract.showdown import COMPARED, Score, Showdown
from rvtop.contract.snapshot import Snapshot
from rvtop.results.recording import Recording, read_recording
from rvtop.ui.app import RvtopApp
from rvtop.ui.run import run_app_async
from rvtop.ui.screens.table import SHOWDOWN_SCREENS
from tests.mock.fast import FastMock

_PICTURES_A_SECOND = 10
_TOPOLOGIES = ("baseline", "rac", "rsc", "vllm", "rvc")


def record(folder: Path, rate: float, tokens: int, step_ms: float, seconds: int) -> None:
    """A run of so many seconds, in ``folder``: ``rate`` requests a second of ``tokens`` tokens, one each
    ``step_ms``."""
    command = [sys.executable, "-m", "rvtop.cli", "run", "--out", str(folder), "--yes", "--ui", "none"]
    command += ["--rate", f"{rate:g}", "--duration", f"{seconds}s", "--arrivals", "constant"]
    command += ["--output-tokens", str(tokens), "--prompt-tokens", "50"]
    with FastMock(ttft_ms=50, step_ms=step_ms, tick_ms=step_ms, tokens=tokens) as mock:
        subprocess.run([*command, "--target", mock.url], check=True, stderr=subprocess.DEVNULL)


class Played:
    """A ``SessionHandle``: the pictures of ``recording`` in turn, for ever. Commands do nothing."""

    def __init__(self, recording: Recording, *, showdown: bool) -> None:
        self._recording, self._showdown = recording, showdown
        self._began = time.monotonic()
        self._scores = _scores(recording.at(len(recording) - 1))

    def snapshot(self) -> Snapshot | None:
        """The picture of now."""
        number = int((time.monotonic() - self._began) * _PICTURES_A_SECOND)
        s = replace(self._recording.at(number % len(self._recording)), seq=number + 1)
        if s.state in ("done", "draining"):
            s = replace(s, state="running")
        if not self._showdown:
            return s
        elapsed_s = number / _PICTURES_A_SECOND
        show = Showdown("played", self._scores, "rac", turn=5, turns=5, elapsed_s=elapsed_s, left_s=60.0)
        return replace(s, showdown=show)

    def send(self, command: Command) -> None:
        """A run that is over takes no command."""

    async def close(self) -> None:
        """Ends nothing."""


def _scores(s: Snapshot) -> tuple[Score, ...]:
    """Four topologies that are done, with the figures of ``s``, and one that runs."""
    phase = s.latency.ttft_phase
    figures: dict[str, float | None] = dict.fromkeys(COMPARED, phase.mean_ns / 1e6) | {"completed_pct": 100.0}
    change = dict.fromkeys(COMPARED, -12.5)
    *done, last = _TOPOLOGIES
    rows = [
        Score(name, "done", figures, change_pct=change, repeats=3, start_s=21.0, ttft=phase) for name in done
    ]
    return (*rows, Score(last, "run", expected_start_s=48.0))


def main() -> None:
    """Shows it until it is left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--showdown", action="store_true")
    options = parser.parse_args()
    handle = Played(read_recording(options.run), showdown=options.showdown)
    screens = SHOWDOWN_SCREENS if options.showdown else None
    sys.exit(asyncio.run(run_app_async(RvtopApp(handle, yes=True, screens=screens))))


if __name__ == "__main__":
    main()
