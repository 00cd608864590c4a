"""A real ``rvtop run --control`` that other processes watch and command by ``rvtop ctl``."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rvtop.results.screen_log import read_screen
from tests.faults.sessions import unlimited
from tests.mock.fast import any_mock
from tests.mock.process import MockProcess
from tests.unit.processes import wait_for

LIMIT_S = 240
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def mock() -> Iterator[MockProcess]:
    with any_mock(ttft_ms=20, step_ms=5, tokens=8) as running:
        yield running


@pytest.fixture
def path() -> Iterator[Path]:
    """Where to listen: pytest's own folders are too deep for a Unix socket."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "s"


@pytest.fixture
def started(mock: MockProcess, tmp_path: Path, path: Path) -> Iterator[subprocess.Popen[str]]:
    """A run at 10 requests a second that nobody ends but its commands, once it listens and sends."""
    with run(mock, tmp_path / "run", path) as process:
        wait_for(lambda: sent(path) > 5, "the load")
        yield process
        process.kill()


def run(mock: MockProcess, out: Path, path: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", "-m", "rvtop.cli", "run", "--target", mock.url, "--rate", "10"]
    command += ["--duration", "10m", "--out", str(out), "--control", str(path), "--ui", "none", *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


Ctl = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ctl(path: Path, rvtop_here: Ctl) -> Ctl:
    """``rvtop ctl`` in this process, which is not the session's: exit code, stdout and stderr."""
    return partial(rvtop_here, "ctl", str(path))


def ctl_process(path: Path, *words: str) -> tuple[int, str, str]:
    """The same as a process of its own."""
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "rvtop.cli", "ctl", str(path), *words],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    return ended.returncode, ended.stdout, ended.stderr


def ask(path: Path, **command: Any) -> Any:
    """One command on a connection of its own; its answer, or None while nobody listens."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(LIMIT_S)
        try:
            client.connect(str(path))
        except OSError:
            return None
        client.sendall(json.dumps(command).encode() + b"\n")
        with client.makefile("rb") as lines:
            lines.readline()
            return json.loads(lines.readline())


def sent(path: Path) -> int:
    answer = ask(path, cmd="snapshot")
    return 0 if answer is None else int(answer["load"]["sent"])


def jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rate_pause_mark_and_stop_from_another_process_are_told_by_the_run_folder(
    started: subprocess.Popen[str], tmp_path: Path, path: Path, ctl: Ctl
) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    code, out, err = ctl_process(path, "rate", "rps=40")
    assert (code, err) == (0, "")
    assert "→ 40 rps (at " in out
    before = sent(path)
    wait_for(lambda: sent(path) > before + 40, "the new rate")
    assert ctl("mark", "cache", "cleared")[0] == 2
    code, out, err = ctl("mark", "cache cleared")
    assert (code, err) == (0, "")
    assert out.startswith("marked (at ")
    code, out, err = ctl("snapshot")
    assert (code, err) == (0, "")
    assert "rps" in out
    code, out, _ = ctl("snapshot", "--json")
    assert code == 0
    assert json.loads(out)["load"]["target_rps"] == 40.0
    assert ctl("pause")[0] == 0
    code, out, err = ctl("pause")
    assert (code, out, err) == (2, "", "rvtop: paused already\n")
    assert ctl("undo")[0] == 0  # of the pause
    assert ctl("undo")[1].startswith("undone: rate: rate 40 → 10 rps")
    assert ctl("stop")[0] == 0
    _, err = started.communicate(timeout=LIMIT_S)
    assert started.returncode == 0, err
    assert not path.exists()

    commands = jsonl(tmp_path / "run" / "commands.jsonl")
    mine = [(row["cmd"], row.get("value", row.get("note"))) for row in commands if row.get("by") == "control"]
    assert mine == [
        ("rate", 40.0),
        ("mark", "cache cleared"),
        ("pause", None),
        ("resume", None),
        ("undo", None),
        ("rate", 10.0),
        ("undo", None),
        ("stop", None),
    ]
    assert [row["of"] for row in commands if row["cmd"] == "undo"] == ["pause", "rate"]
    assert {row["by"] for row in commands if row["cmd"] == "phase"} == {"scenario"}
    events = jsonl(tmp_path / "run" / "events.jsonl")
    assert {"rate", "mark", "pause", "phase"} <= {event["kind"] for event in events}
    assert all(event["type"] == "event" and event["t_s"] >= 0 for event in events)
    (mark,) = [event for event in events if event["kind"] == "mark"]
    assert mark["text"] == "cache cleared"
    notes: list[str] = []
    screen = list(read_screen(tmp_path / "run" / "screen.jsonl.gz", notes))
    assert notes == []
    assert screen[-1].state == "done"
    assert 40.0 in {snapshot.load.target_rps for snapshot in screen}
    assert [event.text for event in screen[-1].events if event.kind == "mark"] == ["cache cleared"]
    assert len(screen[-1].series.t_s) >= 2


def test_a_killed_run_leaves_a_socket_that_the_next_one_replaces(
    started: subprocess.Popen[str], mock: MockProcess, tmp_path: Path, path: Path, ctl: Ctl
) -> None:
    with run(mock, tmp_path / "second", path) as second:  # two can't listen at one place
        _, err = second.communicate(timeout=LIMIT_S)
    assert (second.returncode, err) == (
        2,
        f"rvtop: {path}: a session listens there already; give another path\n",
    )
    assert not (tmp_path / "second").exists()
    started.kill()
    started.wait(LIMIT_S)
    assert path.is_socket()
    code, out, err = ctl("rate", "5")
    assert (code, out) == (3, "")
    assert err == f"rvtop: {path}: no session listens there; start one with rvtop run … --control {path}\n"
    assert list(read_screen(tmp_path / "run" / "screen.jsonl.gz", []))
    with run(mock, tmp_path / "third", path) as third:
        wait_for(lambda: sent(path) > 0, "the load")
        third.send_signal(signal.SIGTERM)
        third.communicate(timeout=LIMIT_S)
    assert third.returncode == 130
    assert not path.exists()


def test_watching_from_another_terminal_ends_with_the_session(
    started: subprocess.Popen[str], path: Path, ctl: Ctl
) -> None:
    watch = [sys.executable, "-P", "-m", "rvtop.cli", "attach", str(path), "--ui", "plain"]
    refused = subprocess.run([*watch, "--max-rate", "5"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "--max-rate goes with a URL" in refused.stderr
    with subprocess.Popen(watch, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert "phase" in watching.stdout.readline()  # what was said before it came
        assert ctl("mark", "seen there")[0] == 0
        while "seen there" not in (line := watching.stdout.readline()):
            assert line, "the watcher ended"
        assert ctl("stop")[0] == 0
        started.communicate(timeout=LIMIT_S)
        _, err = watching.communicate(timeout=LIMIT_S)
    assert (watching.returncode, unlimited(err)) == (0, "")


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (["fly"], 2, "ctl fly: unknown; known are: rate, closed, pause,"),
        (["rate", "1", "2", "3", "linear", "5"], 2, "ctl rate 5: too much; rate takes rps"),
        (["rate", "rps=1", "rps=2"], 2, "ctl rate: rps is given twice"),
        (["pause", "now"], 2, "ctl pause now: too much; pause takes nothing"),
        (["rate", "1"], 3, "no session listens there"),
    ],
)
def test_what_ctl_refuses_before_it_speaks(ctl: Ctl, words: list[str], code: int, what: str) -> None:
    ended, out, err = ctl(*words)
    assert (ended, out) == (code, "")
    assert what in err
    assert err.count("\n") == 1


def test_a_path_that_is_no_socket_is_left_alone(mock: MockProcess, tmp_path: Path, path: Path) -> None:
    path.write_text("precious")
    for place, what in (
        (path, "is there already, and is no socket"),
        (path.parent / "absent" / "s", "can't listen there: No such file or directory"),
        (path.parent / ("x" * 120), "too long for a Unix socket"),
    ):
        with run(mock, tmp_path / "run", place) as process:
            _, err = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 2
        assert err.startswith(f"rvtop: {place}: {what}")
        assert err.count("\n") == 1
    assert path.read_text() == "precious"
    assert os.listdir(path.parent) == ["s"]


HOLDER = """
import asyncio, sys
from pathlib import Path
from rvtop.session.client import RemoteSession
from tests.faults.sessions import request

async def main():
    phase = {"name": "a", "rate": 10, "duration": "10m"}
    asked = request(sys.argv[1], Path(sys.argv[2]), phase, control=Path(sys.argv[3]))
    await RemoteSession().start(asked)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


def test_a_session_whose_dashboard_was_killed_takes_its_socket_along(
    mock: MockProcess, tmp_path: Path, path: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, mock.url, str(tmp_path / "run"), str(path)], cwd=ROOT
    ) as holder:
        wait_for(lambda: sent(path) > 5, "the load")
        assert ask(path, cmd="mark", note="é")["ok"] == "marked"
        holder.kill()
    wait_for(lambda: (tmp_path / "run" / "summary.json").exists(), "the results")
    wait_for(lambda: not path.exists(), "the socket to go")
    assert [row["note"] for row in jsonl(tmp_path / "run" / "commands.jsonl") if row["cmd"] == "mark"] == [
        "é"
    ]
