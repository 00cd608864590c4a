"""How long a person waits for the first frame, and a script for an answer."""

from __future__ import annotations

import os
import pty
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.mock.fast import any_mock

_RUNS = 7
_LIMIT_S = 20.0
_FRAME = "──".encode()  # a panel's rule
_FIGURES = b"TARGET"
_RVTOP = str(Path(sys.executable).with_name("rvtop"))


def first_frame_s(url: str) -> tuple[float, float]:
    """Seconds from the start of ``rvtop attach`` until the screen is drawn, and until figures are on it."""
    folder = tempfile.mkdtemp()
    command = [_RVTOP, "attach", url, "--yes", "--out", f"{folder}/run"]
    began = time.perf_counter()
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", COLUMNS="120", LINES="40")
        os.execv(_RVTOP, command)
    try:
        seen = b""
        drawn = 0.0
        while _FIGURES not in seen:
            if time.perf_counter() - began > _LIMIT_S:
                raise TimeoutError(f"no figures within {_LIMIT_S:g} s")
            if select.select([terminal], [], [], 0.05)[0]:
                seen += os.read(terminal, 65536)
            if not drawn and _FRAME in seen:
                drawn = time.perf_counter() - began
        took = time.perf_counter() - began
        os.write(terminal, b"q")
        _read_to_end(terminal)
        return drawn, took
    finally:
        os.waitpid(pid, 0)
        os.close(terminal)
        shutil.rmtree(folder, ignore_errors=True)


def _read_to_end(terminal: int) -> None:
    try:
        while os.read(terminal, 65536):
            pass
    except OSError:
        return  # Linux reports the end of a terminal so


def command_s(*arguments: str) -> float:
    """Seconds that one command takes."""
    began = time.perf_counter()
    subprocess.run([_RVTOP, *arguments], check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    """Prints medians of several runs."""
    with any_mock() as mock:
        frames = [first_frame_s(mock.url) for _ in range(_RUNS)]
    helps = [command_s("--help") for _ in range(_RUNS)]
    print("start-up, seconds (median, min, max of", _RUNS, "runs)")
    rows = (
        ("attach to first frame", [drawn for drawn, _ in frames]),
        ("attach to first figures", [figures for _, figures in frames]),
        ("rvtop --help", helps),
    )
    for name, values in rows:
        print(f"  {name:<24} {statistics.median(values):.2f}  {min(values):.2f}  {max(values):.2f}")


if __name__ == "__main__":
    main()
