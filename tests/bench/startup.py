"""How long a person waits for the first frame, a script for an answer, and what a short run costs."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.terminal import Screen, cpu_s
from tests.mock.fast import any_mock

_RUNS = 7
_LIMIT_S = 30.0
_FRAME = "──".encode()  # a panel's rule
_FIGURES = b"watching"  # the session has its server
_RVTOP = str(Path(sys.executable).with_name("rvtop"))


def first_frame_s(url: str) -> tuple[float, float, float]:
    """Of ``rvtop attach``: seconds until the screen is drawn, its own CPU seconds until then, and seconds
    until the server's figures are on it."""
    folder = tempfile.mkdtemp()
    screen = Screen([_RVTOP, "attach", url, "--yes", "--out", f"{folder}/run"])
    try:
        drawn = screen.read_until(_FRAME, _LIMIT_S)
        cost = cpu_s(screen.process.pid)
        return drawn, cost, screen.read_until(_FIGURES, _LIMIT_S)
    finally:
        screen.leave()
        shutil.rmtree(folder, ignore_errors=True)


def command_s(*arguments: str) -> float:
    """Seconds that one command takes."""
    began = time.perf_counter()
    subprocess.run([_RVTOP, *arguments], check=True, capture_output=True)
    return time.perf_counter() - began


def run_cpu_s(url: str, rate: float, seconds: int, *options: str) -> float:
    """CPU seconds of all processes of a run of so many ``seconds``."""
    folder = Path(tempfile.mkdtemp())
    run = [_RVTOP, "run", "--target", url, "--rate", f"{rate:g}", "--duration", f"{seconds}s", *options]
    run += ["--ui", "none", "--yes"]
    limit = str(60 + 4 * seconds)
    tree = [sys.executable, "-m", "tests.bench.tree", "--limit", limit, "--report", str(folder / "report")]
    try:
        subprocess.run(
            [*tree, "--", *run, "--out", str(folder / "run")], check=True, stdout=subprocess.DEVNULL
        )
        report = json.loads((folder / "report").read_bytes())
        if report["code"] != 0:
            raise RuntimeError(f"a run of {seconds} s ended with {report['code']}")
        return float(report["cpu_s"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Prints medians of several runs."""
    with any_mock() as mock:
        frames = [first_frame_s(mock.url) for _ in range(_RUNS)]
        runs = [run_cpu_s(mock.url, 5, 1) for _ in range(_RUNS)]
    rows: tuple[tuple[str, Callable[[], list[float]]], ...] = (
        ("attach to first frame", lambda: [drawn for drawn, _, _ in frames]),
        ("  of that, its own CPU", lambda: [cost for _, cost, _ in frames]),
        ("attach to first figures", lambda: [figures for _, _, figures in frames]),
        ("a run of 1 s, CPU of all", lambda: runs),
        ("rvtop --help", lambda: [command_s("--help") for _ in range(_RUNS)]),
    )
    print("start-up, seconds (median, min, max of", _RUNS, "runs)")
    for name, taken in rows:
        values = taken()
        print(
            f"  {name:<24} {statistics.median(values):.2f}  {min(values):.2f}  {max(values):.2f}", flush=True
        )


if __name__ == "__main__":
    main()
