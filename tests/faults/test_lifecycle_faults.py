"""``rvtop up``, ``ps``, ``logs``, ``down`` as processes, and kill -9 of each: nothing is ever left."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rvtop.lifecycle import state
from rvtop.lifecycle.processes import MARK_ENV, Process, alive, members, send, wait_until
from rvtop.lifecycle.state import Deployment

FAKE = Path(__file__).parent / "fake_backend"
LIMIT_S = 60.0


class Place:
    """A state folder of its own, and what was started under it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {**os.environ, "XDG_STATE_HOME": str(folder), "RVTOP_API_KEY": ""}
        self.env.pop("RAY_ADDRESS", None)
        self.marks: set[str] = set()

    def fake(self) -> Place:
        """From now on ``python -m backends`` is the one beside this file."""
        self.env["PYTHONPATH"] = str(FAKE)
        return self

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(self._command(*args), env=self.env, capture_output=True, text=True, timeout=120)
        self._note()
        return done

    def popen(self, *args: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._command(*args), env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def known(self, name: str) -> Deployment:
        found = state.entry(name)
        assert found is not None
        self._note()
        return found

    def until(self, name: str, condition: Callable[[Deployment], bool]) -> Deployment:
        """Waits until the entry of a name is so."""
        got: list[Deployment] = []

        def check() -> bool:
            found = state.entry(name)
            if found is None:
                return False
            got[:] = [found]
            return condition(found)

        assert wait_until(check, LIMIT_S), got
        self._note()
        return got[0]

    def rest(self) -> list[Process]:
        """What runs still of all that was ever up here."""
        self._note()
        return [left for mark in self.marks for left in members(mark)]

    def clear(self) -> None:
        for found in state.deployments():
            send(found.supervisor, signal.SIGKILL)
        for left in self.rest():
            send(left, signal.SIGKILL)

    def _command(self, *args: str) -> list[str]:
        return [sys.executable, "-m", "rvtop.cli", *args]

    def _note(self) -> None:
        self.marks |= {found.mark for found in state.deployments() if found.mark}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    made = Place(tmp_path)
    yield made
    made.clear()


def lines(text: str) -> list[str]:
    return text.splitlines()


# -- the real backend --------------------------------------------------------------------------


def test_a_deployment_serves_a_run_survives_its_backend_and_goes_down(place: Place, tmp_path: Path) -> None:
    up = place.run("up", "baseline", "--model", "tiny=tiny", "--threads", "1")
    assert up.returncode == 0, up.stderr
    steps = [line.split()[0] for line in lines(up.stdout) if line.rstrip().endswith("done  tiny")]
    assert "weights" in steps
    known = place.known("baseline")
    assert (known.state, known.models, known.restarts) == ("ready", ("tiny",), 0)
    assert f"baseline is up at {known.url}" in up.stdout
    assert f"rvtop attach {known.url}" in up.stdout
    assert state.running() == [known]

    again = place.run("up", "baseline")
    assert (again.returncode, again.stdout) == (2, "")
    assert lines(again.stderr) == [
        f"rvtop: baseline is up at {known.url} already; rvtop down baseline first, or give this one --name"
    ]

    assert known.url is not None
    out = tmp_path / "run"
    run = place.run(
        *("run", "--target", known.url, "--rate", "4", "--duration", "3s", "--output-tokens", "8"),
        *("--prompt-tokens", "16", "--out", str(out), "--yes"),
    )
    assert run.returncode == 0, run.stderr
    summary = json.loads((out / "summary.json").read_text())
    assert summary["requests"]["ok"] == summary["requests"]["planned"] > 0
    assert summary["topology"] == "baseline"
    assert summary["server"]["running_max"] is not None

    assert send(known.backend, signal.SIGKILL)
    dead = place.until("baseline", lambda d: d.state == "restarting")
    assert "killed by SIGKILL" in dead.message
    ps = place.run("ps")
    assert re.search(r"^baseline .* (restarting|ready) ", ps.stdout, re.M)
    back = place.until("baseline", lambda d: d.state == "ready" and d.restarts == 1)
    assert (back.url, back.supervisor) == (known.url, known.supervisor)
    assert back.backend != known.backend
    assert "the backend is back" in place.run("logs", "baseline", "-n", "5").stdout

    down = place.run("down", "baseline")
    assert down.returncode == 0
    assert re.fullmatch(r"baseline: down, nothing is left \([\d.]+ s\)\n", down.stdout)
    assert state.deployments() == []
    assert place.rest() == []
    with pytest.raises(ConnectionRefusedError):
        _connect(known.url)


def _connect(url: str) -> None:
    socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=5).close()


def test_a_taken_port_and_wrong_options_are_one_line(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = place.run("up", "baseline", "--port", str(port))
    assert (done.returncode, len(lines(done.stderr))) == (2, 1)
    assert f"port {port} on 127.0.0.1 is in use" in done.stderr
    for args, words in (
        (["nonsense"], "unknown topology 'nonsense'"),
        (["baseline", "--flux", "3"], "--flux"),
        (["baseline", "--model", "m=/no/such/folder"], "/no/such/folder"),
        (["baseline", "--name", "../x"], "use letters, digits"),
    ):
        done = place.run("up", *args)
        assert (done.returncode, len(lines(done.stderr))) == (2, 1), done.stderr
        assert words in done.stderr
    assert not state.home().exists() or list(state.home().iterdir()) == []
    assert place.rest() == []


# -- a backend that acts as it is told ---------------------------------------------------------


def test_a_failed_start_shows_the_engines_last_words(place: Place) -> None:
    done = place.fake().run("up", "broken")
    assert done.returncode == 4
    assert "  | CUDA out of memory: tried to allocate 2 GiB" in lines(done.stdout)
    log = place.folder / "rvtop" / "logs" / "broken.log"
    assert lines(done.stderr) == [f"rvtop: broken did not start: the weights do not fit (its log: {log})"]
    assert state.deployments() == []
    assert list(state.home().iterdir()) == []
    assert place.rest() == []
    assert "CUDA out of memory" in place.run("logs", "broken").stdout


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)]
)
def test_whatever_ends_up_early_ends_all(place: Place, number: signal.Signals, code: int) -> None:
    up = place.fake().popen("up", "slow")
    assert up.stdout is not None
    assert up.stdout.readline().startswith("  weights")
    known = place.until("slow", lambda d: d.state == "starting" and bool(members(d.mark)))
    up.send_signal(number)
    up.communicate(timeout=LIMIT_S)
    assert up.returncode == code
    assert wait_until(lambda: not alive(known.supervisor) and not place.rest(), LIMIT_S)
    assert state.deployments() == []


def test_kill_9_of_the_supervisor_takes_the_backend_with_it(place: Place) -> None:
    assert place.fake().run("up", "steady", "--name", "mine").returncode == 0
    known = place.known("mine")
    assert send(known.supervisor, signal.SIGKILL)
    assert wait_until(lambda: not alive(known.backend), LIMIT_S)
    assert place.rest() == []
    gone = place.known("mine")
    assert (gone.state, gone.running) == ("gone", False)
    assert state.running() == []
    ps = place.run("ps")
    assert re.search(r"^mine +steady .* gone +-- ", ps.stdout, re.M)
    assert "its supervisor crashed or was killed; rvtop down mine removes the entry" in ps.stdout
    down = place.run("down")
    assert (down.returncode, state.deployments()) == (0, [])
    assert down.stdout.startswith("mine: was not running any more")
    assert place.run("up", "steady", "--name", "mine").returncode == 0  # the name is free again
    assert place.run("down", "mine").returncode == 0


def test_a_backend_that_does_not_stop_is_ended_by_force(place: Place) -> None:
    assert place.fake().run("up", "stubborn").returncode == 0
    known = place.known("stubborn")
    assert len(members(known.mark)) == 2
    down = place.run("down", "--timeout", "1")
    assert down.returncode == 0, down.stderr
    assert "stubborn: did not stop within 1 s, killed; nothing is left" in down.stdout
    assert place.rest() == []
    assert not alive(known.supervisor)


def test_an_unhealthy_backend_shows_and_gets_well_again(place: Place, tmp_path: Path) -> None:
    sick = tmp_path / "sick"
    place.fake().env["FAKE_SICK"] = str(sick)
    assert place.run("up", "steady").returncode == 0
    sick.touch()
    ill = place.until("steady", lambda d: d.state == "unhealthy")
    assert ill.message == "/health: HTTP 503: no engine"
    sick.unlink()
    assert place.until("steady", lambda d: d.state == "ready").message == ""


def test_a_log_is_followed_until_the_deployment_is_down(place: Place) -> None:
    assert place.fake().run("up", "steady").returncode == 0
    follow = place.popen("logs", "-f", "-n", "1")
    assert follow.stdout is not None
    assert "steady is up at" in follow.stdout.readline()
    assert place.run("down").returncode == 0
    rest, _ = follow.communicate(timeout=LIMIT_S)
    assert "down" in rest
    assert follow.returncode == 0


def test_all_at_once_and_names_that_are_not(place: Place) -> None:
    place.fake()
    assert lines(place.run("down").stderr) == [
        "rvtop: nothing is up; start something with: rvtop up TOPOLOGY"
    ]
    assert place.run("down", "--all").stdout == "nothing is up\n"
    for name in ("a", "b"):
        assert place.run("up", "steady", "--name", name).returncode == 0
    ambiguous = place.run("logs")
    assert (ambiguous.returncode, lines(ambiguous.stderr)) == (
        2,
        ["rvtop: several deployments: a, b; name one"],
    )
    unknown = place.run("down", "c")
    assert (unknown.returncode, lines(unknown.stderr)) == (
        2,
        ["rvtop: c: no such deployment; known: a, b"],
    )
    down = place.run("down", "--all")
    assert down.returncode == 0
    assert [line.split(",")[0] for line in lines(down.stdout)] == ["a: down", "b: down"]
    assert (state.deployments(), place.rest()) == ([], [])


def test_no_secret_is_in_any_file_or_argument(place: Place) -> None:
    place.fake().env["RVTOP_API_KEY"] = "s3cr3t-of-the-test"
    assert place.run("up", "steady").returncode == 0
    known = place.known("steady")
    for path in place.folder.rglob("*"):
        if path.is_file():
            assert b"s3cr3t" not in path.read_bytes(), path
    for found in (known.supervisor, known.backend):
        assert found is not None
        assert b"s3cr3t" not in Path(f"/proc/{found.pid}/cmdline").read_bytes()
    assert (state.folder_of("steady").stat().st_mode & 0o077) == 0
    assert MARK_ENV not in os.environ


def test_two_at_once_under_one_name(place: Place) -> None:
    first = place.fake().popen("up", "slow", "--name", "one")
    place.until("one", lambda d: d.running)
    second = place.run("up", "steady", "--name", "one")
    assert (second.returncode, len(lines(second.stderr))) == (2, 1)
    assert "one is starting already" in second.stderr
    assert place.run("down", "one").returncode == 0
    _, said = first.communicate(timeout=LIMIT_S)
    assert first.returncode == 4
    assert "taken down while it started" in said
    assert place.rest() == []
