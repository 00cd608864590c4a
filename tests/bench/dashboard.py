"""Does drawing move a timestamp? The same load with the dashboard on a pseudo-terminal and without a screen,
in turn: ``python -m tests.bench.dashboard``. What counts is the error of TTFT against the mock's log; the
mock writes to all streams each 10 ms."""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.bench.terminal import Screen
from tests.mock.fast import FastMock

_ROWS, _COLUMNS = 40, 120
_LIMIT_MS = 1.0
_TOKENS = 64


@dataclass(frozen=True)
class Run:
    """One run. Milliseconds; ``updates``: redraws a second while the load ran, 0 without a screen."""

    mean_error: float
    p99_error: float
    delivered_pct: float
    updates: float


def measure(rate: float, seconds: int, drawn: bool) -> Run:
    """One run of `rvtop run`, with a screen or without."""
    folder = Path(tempfile.mkdtemp())
    out = folder / "run"
    updates = 0.0
    try:
        with FastMock(ttft_ms=50, step_ms=10, tick_ms=10, tokens=_TOKENS) as mock:
            command = [
                sys.executable,
                "-m",
                "rvtop.cli",
                "run",
                "--target",
                mock.url,
                "--rate",
                f"{rate:g}",
            ]
            command += ["--duration", f"{seconds}s", "--arrivals", "constant", "--prompt-tokens", "50"]
            command += ["--output-tokens", str(_TOKENS), "--workers", "1", "--yes", "--out", str(out)]
            if drawn:
                updates = _draw([*command, "--ui", "dashboard"], out, seconds)
            else:
                subprocess.run([*command, "--ui", "none"], check=True)
            log = mock.stop()
        told = json.loads((out / "summary.json").read_bytes())["ttft_ms"]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    truth = log.ttft_ns / 1e6
    return Run(
        mean_error=told["mean"] - float(truth.mean()),
        p99_error=told["p99"] - float(np.percentile(truth, 99)),
        delivered_pct=100 * int(log.done.sum()) / (rate * seconds),
        updates=updates,
    )


def _draw(command: list[str], out: Path, seconds: int) -> float:
    """Runs the dashboard until the summary is there, then leaves it; redraws a second under load."""
    screen = Screen(command)
    try:
        end = time.monotonic() + seconds + 60
        while not (out / "summary.json").exists():
            if time.monotonic() > end or screen.process.poll() is not None:
                raise RuntimeError(f"the dashboard left no summary; exit code {screen.process.poll()}")
            screen.read(0.2)
        over = time.monotonic() - 1.0
        screen.press(b"q")
        while screen.process.poll() is None and time.monotonic() < end:
            screen.read(0.2)
        span = max(1.0, seconds - 2.0)
        return sum(over - span <= t <= over for t in screen.updates) / span
    finally:
        screen.close()


def main(arguments: list[str] | None = None) -> None:
    """Prints the errors of both, and what lies between them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", default="400,1600")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args(arguments)
    print(
        f"dashboard: {options.pairs} pairs of runs a rate, with the screen ({_COLUMNS} x {_ROWS}) and"
        " without; error of TTFT against the mock's log, ms",
        flush=True,
    )
    for text in options.rates.split(","):
        runs: dict[bool, list[Run]] = {True: [], False: []}
        for number in range(options.pairs):
            for drawn in (True, False) if number % 2 == 0 else (False, True):
                runs[drawn].append(measure(float(text), options.seconds, drawn))
        worse = _tell(text, "dashboard", runs[True]) - _tell(text, "headless", runs[False])
        kept = "within" if worse <= _LIMIT_MS else "MORE than"
        said = f"drawing makes the mean's error worse by {worse:+.2f} ms: {kept} {_LIMIT_MS:g} ms"
        print(f"  {text:>5} rps {said}", flush=True)


def _tell(rate: str, name: str, runs: list[Run]) -> float:
    """Prints the line of several runs; returns how far the median of their mean errors is from 0."""
    middle = statistics.median(run.mean_error for run in runs)
    each = " ".join(f"{run.mean_error:+.2f}" for run in runs)
    tail = statistics.median(run.p99_error for run in runs)
    least = min(run.delivered_pct for run in runs)
    updates = statistics.mean(run.updates for run in runs)
    shown = f", {updates:.1f} redraws/s" if updates else ""
    print(
        f"  {rate:>5} rps {name:<9} mean error {middle:+.2f} (runs: {each}), p99 error {tail:+.2f},"
        f" delivered {least:.2f} %{shown}",
        flush=True,
    )
    return abs(middle)


if __name__ == "__main__":
    main()
