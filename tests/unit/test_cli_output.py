"""stdout and stderr that are closed, full, or read by nobody; what goes wrong is one line, whatever it is."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import rvtop.cli.app
from rvtop.errors import TRACEBACK_ENV
from rvtop.results import summary
from tests.unit.processes import wait_for
from tests.unit.run_folder import command, make, phase, request

RVTOP = (sys.executable, "-P", "-m", "rvtop.cli")
FULL = "rvtop: stdout can't be written: No space left on device; what follows is not shown\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [request(i, "p", 10 * i, lag=0.5, first=20, last=60, itl_hist=[[460, 4]]) for i in range(9)]
    return make(tmp_path / "run", rows, [phase("p", 0, 0.5), command(1, "stop")])


def rvtop_in_shell(redirect: str, *words: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
    """``rvtop WORDS REDIRECT``."""
    line = f'exec "$@" {redirect}'
    return subprocess.run(["sh", "-c", line, "sh", *RVTOP, *words], capture_output=True, check=False, **more)


@pytest.mark.parametrize("words", ["report RUN", "--help", "scenario explain smoke", "ps"])
def test_a_full_disk_behind_stdout_is_one_line(words: str, folder: Path) -> None:
    ended = rvtop_in_shell(">/dev/full", *words.replace("RUN", str(folder)).split())
    assert (ended.returncode, ended.stderr.decode()) == (5, FULL)
    assert (folder / "summary.json").exists() == ("RUN" in words)


def test_a_reader_that_has_gone_is_no_fault(folder: Path) -> None:
    """``rvtop … | head -1``."""
    for words in (["report", str(folder)], ["--help"]):
        reader, writer = os.pipe()
        os.close(reader)
        ended = subprocess.run([*RVTOP, *words], stdout=writer, stderr=subprocess.PIPE, check=False)
        os.close(writer)
        assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_descriptors_that_the_shell_has_closed(closed: str, folder: Path) -> None:
    """What is read and written then must not land in what was opened in their place."""
    before = {path: path.read_bytes() for path in folder.iterdir()}
    ended = rvtop_in_shell(closed, "report", str(folder))
    assert ended.returncode == 0
    assert (b"Latency_total" in ended.stdout, ended.stderr) == (" >&-" not in f" {closed}", b"")
    after = {path: path.read_bytes() for path in folder.iterdir()}
    assert after.pop(folder / "summary.json")
    assert after == before


def test_a_pipe_that_does_not_block_gets_every_byte() -> None:
    """As another process may have made it that shares it with us."""
    code = "from rvtop.system import stdio; stdio.set_up()\nfor _ in range(300): stdio.say('x' * 999)"
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with (
        subprocess.Popen([sys.executable, "-P", "-c", code], stdout=writer) as process,
        open(reader, "rb") as out,
    ):
        os.close(writer)
        assert len(out.read()) == 300 * 1000
    assert process.returncode == 0


@pytest.mark.parametrize("encoding", ["ascii", "ascii:strict", "latin-1"])
def test_a_terminal_that_lacks_a_letter_gets_another(encoding: str, folder: Path) -> None:
    (folder / "commands.jsonl").write_text((folder / "commands.jsonl").read_text() + "…\n")
    environment = (folder / "environment.json").read_text().replace('"baseline"', '"걸작 → …"')
    (folder / "environment.json").write_text(environment)
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    ended = rvtop_in_shell("", "report", str(folder), env=env)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert b"?? ? ?" in ended.stdout
    assert ended.stdout.isascii()


def test_figures_that_cannot_be_saved_are_shown_with_a_warning(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "summary.json.part").mkdir()  # as a read-only or a full disk would, it can't be written
    monkeypatch.setattr(sys, "argv", ["rvtop", "report", str(folder)])
    assert rvtop.cli.app.command() == 0
    out, err = capfd.readouterr()
    assert "requests 9 planned, 9 ok" in out
    written = f"{folder / 'summary.json'}: can't be written: Is a directory"
    assert err == f"rvtop: warning: {written}; these figures are not saved\n"


def test_a_damaged_run_is_reported_with_what_was_left_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with open(folder / "requests.jsonl", "a") as lines:
        lines.write('{"id": 9, "ph')
    monkeypatch.setattr(sys, "argv", ["rvtop", "report", str(folder)])
    assert rvtop.cli.app.command() == 0
    out, err = capfd.readouterr()
    assert "requests.jsonl: 1 line of 10 can't be read (line 10: cut off); left out\n" in out
    assert err == ""


def test_a_run_folder_that_is_none_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "inside").mkdir()
    os.mkfifo(tmp_path / "inside/environment.json")
    for name, says in {
        "fifo": "not a folder",
        "file": "not a folder",
        "loop": "Too many levels of symbolic links",
        "inside": "not a regular file",
        "x" * 5000: "File name too long",
    }.items():
        monkeypatch.setattr(sys, "argv", ["rvtop", "report", str(tmp_path / name)])
        assert rvtop.cli.app.command() == 2
        out, err = capfd.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert says in err


def os_error(number: int, file: str | None = None) -> OSError:
    return OSError(number, os.strerror(number), file)


def chained() -> ExceptionGroup[Exception]:
    error = ImportError("numpy:\n\nIMPORTANT: PLEASE READ THIS")
    error.__cause__ = ImportError("libx.so: failed to map segment from shared object")
    return ExceptionGroup("several", [error])


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (RuntimeError("can't start new thread"), 5, "can't start a process or thread: this user may have"),
        (os_error(errno.EAGAIN), 5, "(ulimit -u)"),
        (os_error(errno.EMFILE, "/etc/hosts"), 5, "too many open files"),
        (os_error(errno.ENFILE), 5, "(ulimit -n)"),
        (MemoryError(), 5, "out of memory"),
        (chained(), 5, "(ulimit -v)"),
        (os_error(errno.EACCES, "/root/x"), 2, "rvtop: /root/x: Permission denied"),
        (os_error(errno.ENOSPC, "/tmp/x"), 5, "rvtop: /tmp/x: No space left on device"),
        (RuntimeError("Could not determine home directory."), 2, "set HOME"),
        (
            ValueError("two\nlines"),
            5,
            "rvtop: internal error: ValueError: two lines (RVTOP_TRACEBACK=1 shows where; please report)\n",
        ),
        (AssertionError(), 5, "internal error: AssertionError (RVTOP"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_nobody_expected_is_one_line(
    error: Exception,
    code: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv(TRACEBACK_ENV, raising=False)
    run_with(error, monkeypatch)
    assert rvtop.cli.app.command() == code
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("rvtop: ")
    assert says in err


def run_with(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(*_: object) -> None:
        raise error

    monkeypatch.setattr(summary, "summarise", raises)
    monkeypatch.setattr(sys, "argv", ["rvtop", "report", "x"])


def test_where_it_came_from_is_shown_to_whoever_asks(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(TRACEBACK_ENV, "1")
    run_with(ValueError("here"), monkeypatch)
    assert rvtop.cli.app.command() == 5
    err = capfd.readouterr().err
    assert "in raises" in err
    assert err.endswith("rvtop: internal error: ValueError: here (please report)\n")


def test_a_current_folder_that_was_deleted_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    run_with(os_error(errno.ENOENT), monkeypatch)
    assert rvtop.cli.app.command() == 2
    assert capfd.readouterr().err == "rvtop: the current folder was deleted; cd to one that is there\n"


@pytest.mark.parametrize(
    ("limit", "value", "says"),
    [
        (resource.RLIMIT_NOFILE, 20, "20 open files (ulimit -n) are too few"),
        (resource.RLIMIT_AS, 100 << 20, "100 MiB of memory (ulimit -v) are too little"),
        (None, 0, "can't start a process or thread"),
    ],
)
def test_limits_that_no_run_fits_in_are_named_before_it(
    limit: int | None,
    value: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    before = resource.getrlimit
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (value, value) if kind == limit else before(kind))
    start = threading.Thread.start
    threads = []

    def few(thread: threading.Thread) -> None:
        threads.append(thread)
        if limit is None and len(threads) > 3:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", few)
    for words in (
        ["run", "smoke", "--target", "http://127.0.0.1:9"],
        ["attach", "http://127.0.0.1:9"],
        ["demo"],
    ):
        threads.clear()
        monkeypatch.setattr(sys, "argv", ["rvtop", *words])
        assert rvtop.cli.app.command() in (2, 5)
        out, err = capfd.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert says in err
        wait_for(lambda: not any(thread.is_alive() for thread in threads), "the end of its threads")
