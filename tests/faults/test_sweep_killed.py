"""A sweep of real sessions that is killed in its second one, goes on, and is interrupted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.mock.fast import any_mock
from tests.unit.processes import alive, children, wait_for

LIMIT_S = 200.0
Begin = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def begun() -> Iterator[Begin]:
    """Begins a sweep, which ends with the test at the latest."""
    started: list[subprocess.Popen[str]] = []

    def begin(out: Path, url: str, long_one: int = 0) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "tests.sweeper", str(out), url, str(long_one)]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(words, stdout=pipe, stderr=subprocess.STDOUT, text=True))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def lines(path: Path) -> int:
    return len(path.read_bytes().splitlines()) if path.exists() else 0


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = process.communicate(timeout=LIMIT_S)
    return process.returncode, said


@pytest.mark.timeout(900)
def test_each_combination_is_run_once_whole(begun: Begin, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with any_mock(20, 2) as mock:
        first = begun(out, mock.url, 2)

        def whole() -> list[Path]:
            return sorted(path.parent for path in out.glob("*/summary.json"))

        def second_runs() -> bool:
            others = [p for p in out.glob("*/requests.jsonl") if whole() and p.parent not in whole()]
            return first.poll() is not None or any(lines(path) >= 2 for path in others)

        wait_for(second_runs, "the load of the second one", LIMIT_S)
        assert first.poll() is None, first.communicate()[0]
        below = children(first.pid)
        first.kill()
        first.communicate()
        wait_for(lambda: not any(alive(pid) for pid in below), "the end of its processes", LIMIT_S)
        (done,) = whole()
        kept = (done / "requests.jsonl").read_bytes()

        code, said = ended(begun(out, mock.url))
        assert (code, said.splitlines()[0]) == (0, "1 done"), said
        assert len(whole()) == 2
        assert (done / "requests.jsonl").read_bytes() == kept, "what was done is not run again"
        assert len(list(out.glob("*.cut1"))) == 1
        rows = json.loads((out / "sweep.json").read_text())["rows"]
        assert [row["repeats"] for row in rows] == [1, 1]
        assert all(row["figures"]["completed_pct"] == 100.0 for row in rows)


@pytest.mark.timeout(900)
def test_ctrl_c_leaves_nothing_that_runs(begun: Begin, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with any_mock(20, 2) as mock:
        process = begun(out, mock.url, 1)
        wait_for(
            lambda: process.poll() is not None or any(lines(p) >= 2 for p in out.glob("*/requests.jsonl")),
            "the load",
            LIMIT_S,
        )
        assert process.poll() is None, process.communicate()[0]
        below = children(process.pid)
        process.send_signal(signal.SIGINT)
        code, said = ended(process)
        assert code == 130, said
        wait_for(lambda: not any(alive(pid) for pid in below), "the end of its processes", LIMIT_S)
        assert json.loads((out / "sweep.json").read_text())["rows"]
