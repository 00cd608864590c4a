"""A run goes on to its results wherever its lines can't be written."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.sessions import unlimited
from tests.mock.fast import any_mock
from tests.mock.process import MockProcess
from tests.unit.processes import alive, children, wait_for


@pytest.fixture(scope="module")
def mock() -> Iterator[MockProcess]:
    with any_mock(ttft_ms=20, step_ms=5, tokens=8) as running:
        yield running


def words(mock: MockProcess, out: Path, duration: str = "1s") -> list[str]:
    load = ["run", "--rate", "20", "--duration", duration, "--output-tokens", "8", "--arrivals", "constant"]
    return [sys.executable, "-P", "-m", "rvtop.cli", *load, "--target", mock.url, "--out", str(out)]


def requests_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "summary.json").read_bytes())["requests"]
    return found


@pytest.mark.parametrize("redirect", [">/dev/full", "<&- >&- 2>&-", ">/dev/full 2>/dev/full"])
def test_a_run_whose_lines_nobody_can_get_has_its_results(
    redirect: str, mock: MockProcess, tmp_path: Path
) -> None:
    line = ["sh", "-c", f'exec "$@" {redirect}', "sh", *words(mock, tmp_path / "run")]
    ended = subprocess.run(line, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert requests_of(tmp_path / "run")["ok"] == 20
    told = b"rvtop: stdout can't be written: No space left on device; what follows is not shown\n"
    assert unlimited(ended.stderr.decode()).encode() == (told if redirect == ">/dev/full" else b"")


def test_a_reader_that_goes_away_does_not_end_a_run(mock: MockProcess, tmp_path: Path) -> None:
    """`rvtop run … | head -1`."""
    with subprocess.Popen(
        words(mock, tmp_path / "run"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert unlimited(process.stderr.read().decode()) == ""
    assert process.returncode == 0
    assert requests_of(tmp_path / "run")["ok"] == 20


def test_a_reader_that_stalls_does_not_hold_a_run_up(mock: MockProcess, tmp_path: Path) -> None:
    """`rvtop run … | less`, or Ctrl-S: the results are there before a line was read."""
    phases = "".join(f"  - {{name: {'p' * 50}{i}, rate: 20, duration: 20ms}}\n" for i in range(60))
    workload = "workload: {kind: synthetic, prompt_tokens: 5, output_tokens: 8}\n"
    (tmp_path / "s.yaml").write_text(f"name: many\n{workload}phases:\n{phases}")
    command = [*words(mock, tmp_path / "run")[:4], "run", str(tmp_path / "s.yaml"), "--target", mock.url]
    command += ["--out", str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pipesize=4096) as process:
        wait_for((tmp_path / "run" / "summary.json").exists, "the results", 200.0)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, unlimited(err.decode())) == (0, "")
    assert len(out) > 4096
    assert b"p59" in out


def test_a_terminal_that_is_closed_ends_a_run_quietly_with_its_results(
    mock: MockProcess, tmp_path: Path
) -> None:
    """It gets a SIGHUP, and everything it writes from then on is an I/O error."""
    out = tmp_path / "run"
    master, slave = os.openpty()
    with open(tmp_path / "stderr", "wb") as errors:
        process = subprocess.Popen(
            words(mock, out, "20m"),
            stdin=slave,
            stdout=slave,
            stderr=errors,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
    os.close(slave)
    try:
        wait_for(
            lambda: (out / "requests.jsonl").exists() and (out / "requests.jsonl").stat().st_size, "load"
        )
        below = children(process.pid)
        os.close(master)
        assert process.wait(120) == 130
    finally:
        process.kill()
        process.wait()
    assert (
        unlimited((tmp_path / "stderr").read_text()) == f"rvtop: interrupted; what was measured is in {out}\n"
    )
    assert requests_of(out)["ok"] > 0
    wait_for(lambda: not any(map(alive, below)), "the end of all that it had started")
