"""Signals in every order, frozen and starved processes, inherited descriptors, and clocks that jump."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.faults.attempts import Skip, attempt
from tests.faults.attempts.cli import (
    check,
    ended,
    folder,
    lines,
    long_run,
    mock,
    ran,
    rvtop,
    stopped,
    until,
    workers,
)
from tests.mock.process import MockError
from tests.mock.wall_clock import wall_clock
from tests.unit.processes import alive


def stepping() -> tuple[dict[str, str], Path]:
    """An environment in which the wall clock follows a file, and that file. Raises Skip."""
    try:
        return wall_clock(folder())
    except MockError as error:
        raise Skip(f"a clock that jumps can't be built: {error}") from error


def _jump(sign: str, seconds: int = 3600) -> None:
    env, step = stepping()
    with mock(ttft_ms=20, step_ms=2) as server:
        process, run = long_run(server.url, env=env)
        step.write_text(sign * seconds)
        before = lines(run)
        until(lambda: lines(run) > before + 40, "requests behind the jump")
        step.write_text("")
        before = lines(run)
        until(lambda: lines(run) > before + 20, "requests behind the jump back")
        done = stopped(process, run)
    assert set(done.errors) <= {"cancelled"}, done.errors
    for row in done.rows():
        if row["error"] is None:
            assert row["sent_ns"] <= row["headers_ns"] <= row["first_token_ns"] <= row["last_token_ns"]
            assert 15e6 < row["first_token_ns"] - row["sent_ns"] < 20e9, row
    seconds_told = [row["t_s"] for row in done.rows("timeline.jsonl")]
    assert seconds_told == sorted(seconds_told) and seconds_told[-1] < 120, seconds_told[-3:]


@attempt("the wall clock jumps an hour forward and back in a run: no time in the log does")
def clock_forward() -> None:
    _jump("+")


@attempt("the wall clock jumps an hour back and forward in a run")
def clock_back() -> None:
    _jump("-")


@attempt("a run that begins in 1970, before which nothing was")
def clock_1970() -> None:
    env, step = stepping()
    with step.open("wb") as file:
        file.write(b"-")
        file.truncate(int(time.time()) - 1000)  # a file of holes
    with mock() as server:
        assert not ran(server.url, env=env).errors


def _signalled(*signals: int) -> None:
    with mock() as server:
        process, run = long_run(server.url)
        for name in signals:
            process.send_signal(name)
            time.sleep(0.1)
        before = lines(run)
        until(lambda: lines(run) > before + 20 or process.poll() is not None, "the load to go on")
        assert process.poll() is None, (process.returncode, process.communicate())
        done = stopped(process, run)
    assert set(done.errors) <= {"cancelled"}, done.errors


@attempt("SIGWINCH, SIGPIPE, SIGCONT, SIGURG: the load goes on")
def signals_harmless() -> None:
    _signalled(signal.SIGWINCH, signal.SIGPIPE, signal.SIGCONT, signal.SIGURG, signal.SIGCHLD)


@attempt("SIGTSTP and SIGCONT of the session: the load goes on")
def signals_stop_and_go() -> None:
    _signalled(signal.SIGTSTP, signal.SIGCONT, signal.SIGTSTP, signal.SIGTSTP, signal.SIGCONT)


@attempt("SIGUSR1 and SIGUSR2 of the session end it, and leave nothing")
def signals_usr() -> None:
    with mock() as server:
        for name in (signal.SIGUSR1, signal.SIGUSR2):
            process, run = long_run(server.url)
            below = workers(process.pid)
            process.send_signal(name)
            process.communicate(timeout=30)
            assert process.returncode != 0
            until(lambda below=below: not any(map(alive, below)), "the workers to go")
            report = ended(rvtop("report", run), run)
            assert report.code == 0 and "requests" in report.out, (report.code, report.err)


@attempt("SIGTERM, SIGINT and SIGHUP at once: results, exit 130")
def signals_all_at_once() -> None:
    with mock() as server:
        process, run = long_run(server.url)
        os.kill(process.pid, signal.SIGSTOP)
        for name in (signal.SIGTERM, signal.SIGHUP):
            os.kill(process.pid, name)
        os.kill(process.pid, signal.SIGCONT)
        done = ended(process, run)
        check(done, 130)


@attempt("Ctrl-C in the first half second of a start: exit 130, nothing left, no folder half made")
def signals_at_once_after_start() -> None:
    with mock() as server:
        for wait_s in (0.05, 0.1, 0.2, 0.3, 0.8, 1.6, 2.4):
            run = folder() / "run"
            process = rvtop("run", "--rate", 20, "--duration", "10m", "--target", server.url, "--out", run)
            time.sleep(wait_s)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=40)
            if b"Traceback" in err and b"rvtop/" not in err:  # Python's own start: no line of ours had run
                continue
            assert process.returncode in (130, -2), (wait_s, process.returncode, err)
            assert b"Traceback" not in err, (wait_s, err)


@attempt("SIGINT to a worker: it is the session's to end it")
def signals_to_a_worker() -> None:
    with mock() as server:
        process, run = long_run(server.url)
        for pid in workers(process.pid):
            os.kill(pid, signal.SIGINT)
        before = lines(run)
        until(lambda: lines(run) > before + 20, "the load to go on")
        assert set(stopped(process, run).errors) <= {"cancelled"}


@attempt("a worker stopped for 3 s (SIGSTOP): its requests are late, none is lost, and the run says so")
def workers_frozen() -> None:
    with mock() as server:
        process, run = long_run(server.url, "--workers", 2)
        frozen = workers(process.pid)[0]
        os.kill(frozen, signal.SIGSTOP)
        time.sleep(3)
        os.kill(frozen, signal.SIGCONT)
        time.sleep(1.5)
        done = stopped(process, run)
    assert set(done.errors) <= {"cancelled"}, done.errors
    late = [row for row in done.rows() if row["sent_ns"] and row["sent_ns"] - row["intended_ns"] > 5e8]
    assert len(late) > 10
    assert done.summary["client_limited"]


@attempt("one of 4 workers killed: its requests are worker_lost, the others go on")
def workers_one_killed() -> None:
    with mock(ttft_ms=300) as server:
        process, run = long_run(server.url, "--workers", 4)
        os.kill(workers(process.pid)[1], signal.SIGKILL)
        time.sleep(1.5)
        done = stopped(process, run, 5, "died (killed by SIGKILL)")
    assert set(done.errors) <= {"cancelled", "worker_lost"} and done.errors.get("worker_lost"), done.errors


@attempt("all workers killed: exit 5, results so far")
def workers_all_killed() -> None:
    with mock() as server:
        process, run = long_run(server.url, "--workers", 2)
        for pid in workers(process.pid):
            os.kill(pid, signal.SIGKILL)
        done = ended(process, run)
        check(done, 5, "load worker")
    assert done.ok >= 10


@attempt("a worker killed while it is stopped, then the session interrupted")
def workers_killed_while_frozen() -> None:
    with mock() as server:
        process, run = long_run(server.url, "--workers", 2)
        pid = workers(process.pid)[0]
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        done = ended(process, run)
        check(done, 130)


@attempt("the session stopped for 3 s: the workers go on, and nothing is lost")
def session_frozen() -> None:
    with mock() as server:
        process, run = long_run(server.url)
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(3)
        os.kill(process.pid, signal.SIGCONT)
        time.sleep(1)
        done = stopped(process, run)
    rows = [row for row in done.rows() if row["error"] is None]
    assert len(rows) > 120, len(rows)
    assert set(done.errors) <= {"cancelled"}, done.errors


@attempt("nice 19 beside a busy loop")
def starved_nice() -> None:
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        with mock() as server:
            done = ran(server.url, before=("nice", "-n", "19"), limit_s=80)
    finally:
        busy.kill()
        busy.wait()
    assert set(done.errors) <= {"unfinished"}, done.errors


@attempt("one core for all, and the memory of half a gigabyte")
def starved_memory() -> None:
    if shutil.which("prlimit") is None or shutil.which("taskset") is None:
        raise Skip("there is no prlimit or taskset")
    with mock() as server:
        done = ran(server.url, before=("taskset", "-c", "0", "prlimit", "--data=536870912"), limit_s=80)
    assert not done.errors


@attempt("stdin closed, and a hundred descriptors inherited")
def descriptors_inherited() -> None:
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(100)]
    try:
        with mock() as server:
            assert not ran(server.url, close_fds=False).errors
            assert not ran(server.url, before=("sh", "-c", 'exec "$@" <&-', "sh")).errors
    finally:
        for fd in held:
            os.close(fd)


@attempt("started with SIGINT, SIGHUP and SIGPIPE ignored, as nohup and shells do")
def signals_ignored_from_the_start() -> None:
    with mock() as server:
        done = ran(server.url, before=("sh", "-c", 'trap "" INT HUP PIPE; exec "$@"', "sh"))
        assert not done.errors
        process, run = long_run(server.url, before=("sh", "-c", 'trap "" INT HUP; exec "$@"', "sh"))
        process.send_signal(signal.SIGTERM)
        check(ended(process, run), 130)


@attempt("started with all signals blocked")
def signals_blocked_from_the_start() -> None:
    blocked = "import os,signal,sys; signal.pthread_sigmask(signal.SIG_BLOCK, {2, 15, 1}); "
    blocked += "os.execv(sys.argv[1], sys.argv[1:])"
    with mock() as server:
        assert not ran(server.url, before=(sys.executable, "-c", blocked)).errors


@attempt("two runs at once on one server: both whole")
def two_at_once() -> None:
    with mock() as server:
        started = []
        for _ in range(2):
            run = folder() / "run"
            words = ("--rate", 20, "--duration", "1s", "--output-tokens", 8)
            started.append((rvtop("run", *words, "--target", server.url, "--out", run, "--ui", "none"), run))
        for process, run in started:
            done = ended(process, run)
            check(done, 0)
            assert not done.errors


@attempt("kill -9: what was answered more than a second before has its line")
def killed_loses_a_second() -> None:
    with mock(ttft_ms=20, step_ms=2) as server:
        process, run = long_run(server.url)
        until(lambda: lines(run) > 200, "requests")
        at_ns = time.perf_counter_ns()
        process.kill()
        process.wait()
        log = server.stop()
    before = int((log.last_ns[log.done] < at_ns - 1e9).sum())
    kept = lines(run)
    assert before > 50, before
    assert kept >= before, f"{before} answers were a second old, {kept} have a line"


@attempt("a log that is read while it is written always ends in a whole line after a kill")
def killed_in_the_middle() -> None:
    with mock() as server:
        process, run = long_run(server.url)
        process.kill()
        process.wait()
        time.sleep(0.5)
    for line in (run / "requests.jsonl").read_bytes().split(b"\n")[:-1]:
        with contextlib.suppress(StopIteration):
            json.loads(line)
    done = ended(rvtop("report", run), run)
    assert done.code == 0, done.err
