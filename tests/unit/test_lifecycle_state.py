"""The state of deployments: files, stale entries, pids used again, names, the table, logs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from rvtop.errors import UserError
from rvtop.lifecycle import processes, state
from rvtop.lifecycle.choose import choose
from rvtop.lifecycle.down import down
from rvtop.lifecycle.health import health
from rvtop.lifecycle.logs import last_lines, logs
from rvtop.lifecycle.processes import MARK_ENV, alive, members, process, send, wait_until
from rvtop.lifecycle.ps import age, table
from rvtop.lifecycle.state import Deployment


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


def made(name: str = "rac", **changes: object) -> Deployment:
    """An entry whose supervisor is this process, written."""
    found = Deployment(name, "rac", "ready", "m" * 16, "http://127.0.0.1:8000", ("q3b", "q15b"))
    found = replace(found, supervisor=process(os.getpid()), started_at=1000.0, version="1")
    found = replace(found, **changes)  # type: ignore[arg-type]
    state.write(state.make_folder(name), found)
    return found


def test_an_entry_comes_back_as_it_was(home: Path) -> None:
    wrote = made(backend=process(os.getppid()), restarts=2, message="한국어")
    assert state.entry("rac") == wrote
    assert state.deployments() == state.running() == [wrote]
    assert json.loads((home / "rvtop/deployments/rac/state.json").read_text())["schema"] == 1
    state.forget(state.folder_of("rac"))
    state.forget(state.folder_of("rac"))
    assert state.entry("rac") is None
    assert state.deployments() == []


def test_what_is_over_leaves_its_log_and_no_folder(home: Path) -> None:
    made()
    folder = state.folder_of("rac")
    os.close(state.lock("rac"))
    (folder / state.LOG_FILE).write_text("its last words\n")
    (folder / "log.1").write_text("long ago\n")
    assert state.log_of("rac") == folder / "log"
    state.forget(folder)
    assert list(state.home().iterdir()) == []
    kept = home / "rvtop/logs/rac.log"
    assert state.log_of("rac") == kept
    said: list[str] = []
    logs("rac", lines=5, follow=True, out=said.append)
    assert said == ["its last words"]
    made()
    (folder / state.LOG_FILE).write_text("unknown option\n")
    state.forget(folder, keep_log=False)
    assert list(state.home().iterdir()) == []
    assert kept.read_text() == "its last words\n"


def test_a_folder_that_another_start_uses_already_stays(home: Path) -> None:
    folder = state.make_folder("rac")
    (folder / "of-another").touch()
    state.forget(folder)
    assert [path.name for path in folder.iterdir()] == ["of-another"]


def test_a_name_is_locked_once_also_when_its_folder_was_removed_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = state.lock("rac")
    with pytest.raises(UserError, match="rac is being started or stopped by another rvtop"):
        state.lock("rac")
    real, times = state.fcntl.flock, []

    def slow(descriptor: int, how: int) -> None:
        if not times:  # between the opening of the lock and the locking its holder ends
            times.append(1)
            state.forget(state.folder_of("rac"))
            os.close(first)
        real(descriptor, how)

    monkeypatch.setattr(state.fcntl, "flock", slow)
    second = state.lock("rac")
    assert os.path.samestat(os.fstat(second), os.stat(state.folder_of("rac") / state.LOCK_FILE))
    os.close(second)


def test_where_it_is_kept(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert state.home() == home / "rvtop" / "deployments"
    for unset in ("", "relative/path"):
        monkeypatch.setenv("XDG_STATE_HOME", unset)
        assert state.home() == Path.home() / ".local/state/rvtop/deployments"


def test_a_file_where_the_folder_should_be_is_one_line(home: Path) -> None:
    (home / "rvtop").write_text("")
    assert state.deployments() == []
    with pytest.raises(UserError, match="can't be made"):
        state.make_folder("rac")


def test_a_write_that_fails_leaves_the_last_entry(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrote = made()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        state.write(state.folder_of("rac"), replace(wrote, state="unhealthy"))
    assert state.entry("rac") == wrote
    assert [path.name for path in state.folder_of("rac").iterdir()] == ["state.json"]


def test_a_pid_that_was_used_again_is_not_the_supervisor() -> None:
    own = process(os.getpid())
    assert own is not None
    for other in (replace(own, start_ticks=own.start_ticks - 1), replace(own, boot_id="another boot")):
        made(supervisor=other)
        found = state.entry("rac")
        assert found is not None
        assert (found.state, found.running) == ("gone", False)
        assert "rvtop down rac" in found.message
        assert state.running() == []
        assert not send(other, processes.signal.SIGKILL)  # or this test would end here


def test_one_that_gave_up_keeps_saying_why() -> None:
    made(state="failed", message="gave up", supervisor=None)
    found = state.entry("rac")
    assert found is not None
    assert (found.state, found.message, found.running) == ("failed", "gave up", False)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"name": "rac"}', '{"backend": {"pid": 1}}'])
def test_a_broken_file_is_said_and_cleared(text: str) -> None:
    (state.make_folder("rac") / state.STATE_FILE).write_text(text)
    (found,) = state.deployments()
    assert found.state == "unreadable"
    assert "rvtop down rac removes it" in found.message
    said: list[str] = []
    down("rac", everything=False, out=said.append)
    assert state.deployments() == []
    assert said[0].startswith("rac: was not running any more")


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "-f", "a b", "x" * 65, ".hidden"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(UserError, match="use letters"):
        state.folder_of(name)


def test_a_zombie_is_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    known = process(child.pid)
    assert alive(known)
    assert child.stdin is not None
    child.stdin.close()
    assert wait_until(lambda: not alive(known), 120)  # nobody has waited for it yet
    child.wait()
    assert process(child.pid) is None


def test_members_are_found_by_their_mark_and_by_their_group() -> None:
    mark = "a-mark-of-a-test"
    code = (
        "import os, subprocess, sys\n"
        "env = {k: v for k, v in os.environ.items() if k != 'RVTOP_DEPLOYMENT'}\n"
        "child = subprocess.Popen([sys.executable, '-c', 'input()'], env=env)\n"
        "print(child.pid, flush=True)\n"
        "child.wait()"
    )
    leader = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, MARK_ENV: mark},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert leader.stdout is not None
    child = int(leader.stdout.readline())
    known = process(leader.pid)
    assert known is not None
    assert [found.pid for found in members(mark)] == [leader.pid]
    assert {found.pid for found in members(mark, known)} == {leader.pid, child}
    # A group whose leader is another process by now is not ours.
    assert members("none", replace(known, start_ticks=known.start_ticks - 1)) == []
    leader.kill()
    leader.wait()
    assert [found.pid for found in members(mark, known)] == [child]
    processes.end_members(mark, known, 0.1)
    assert wait_until(lambda: members(mark, known) == [], 120)
    leader.stdout.close()
    assert leader.stdin is not None
    leader.stdin.close()


# -- which one, and the table ------------------------------------------------------------------


def test_which_one_is_meant() -> None:
    with pytest.raises(UserError, match="nothing is up"):
        choose(None)
    with pytest.raises(UserError, match="x: no such deployment; nothing is up"):
        choose("x")
    made("a")
    assert choose(None) == choose("a") == "a"
    made("b")
    with pytest.raises(UserError, match="several deployments: a, b; name one"):
        choose(None)
    with pytest.raises(UserError, match="x: no such deployment; known: a, b"):
        choose("x")
    (state.make_folder("x") / state.LOG_FILE).write_text("it was up once\n")
    assert choose("x", logs=True) == "x"


def test_the_table() -> None:
    assert table([]) == ["nothing is up; start something with: rvtop up TOPOLOGY"]
    ready = made("mine")
    dead = Deployment("rvc", "rvc", "failed", message="gave up after 6 deaths")
    pid = os.getpid()
    assert table([ready, dead], now=1075.0) == [
        f"NAME  TOPOLOGY  URL                    MODELS    HEALTH  UPTIME  RESTARTS  {'PID'}",
        f"mine  rac       http://127.0.0.1:8000  q3b,q15b  ready   1m15s   0         {pid}",
        "rvc   rvc       --                     --        failed  --      0         --",
        "  gave up after 6 deaths",
    ]
    coloured = table([ready, dead], now=1075.0, colour=True)
    assert "\x1b[32mready \x1b[0m" in coloured[1]
    assert "\x1b[31mfailed\x1b[0m" in coloured[2]


def test_ages() -> None:
    assert [age(s) for s in (-1, 59.9, 60, 3599, 3600, 86399, 90000)] == [
        *("0s", "59s", "1m00s", "59m59s", "1h00m", "23h59m", "1d01h")
    ]


# -- logs --------------------------------------------------------------------------------------


def test_the_end_of_a_log(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert last_lines(path, 5) == []
    path.write_bytes(b"one\ntwo \xff\nthree\n")
    assert last_lines(path, 2) == ["two �", "three"]
    assert last_lines(path, 0) == []
    path.write_text("first\n" + "x" * (1 << 20) + "\nlast\n")
    assert last_lines(path, 9) == ["last"]


def test_following_prints_whole_lines_and_survives_a_turnover() -> None:
    made()
    path = state.folder_of("rac") / state.LOG_FILE
    path.write_text("old\nnew\n")
    said: list[str] = []
    thread = threading.Thread(
        target=logs, args=("rac",), kwargs={"lines": 1, "follow": True, "out": said.append}
    )
    thread.start()
    assert wait_until(lambda: said == ["new"], 120)
    with path.open("a") as file:
        file.write("half of ")
        file.flush()
        file.write("a line\n")
    assert wait_until(lambda: said == ["new", "half of a line"], 120)
    path.write_text("anew\n")
    assert wait_until(lambda: said[-1] == "anew", 120)
    state.forget(state.folder_of("rac"))  # it is down
    thread.join(120)
    assert not thread.is_alive()


def test_no_log_yet() -> None:
    made()
    with pytest.raises(UserError, match="rac: has no log yet"):
        logs("rac", lines=5, follow=False, out=print)


def test_health_of_nobody_and_of_nonsense() -> None:
    assert health("http://127.0.0.1:1") == (False, "/health: [Errno 111] Connection refused", None)
