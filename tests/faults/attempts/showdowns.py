"""A showdown, and a switch of the target, interrupted and killed at each stage, with real servers."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from tests.faults.attempts import attempt
from tests.faults.attempts.cli import Done, ended, folder, lines, rvtop, scenario, until
from tests.faults.attempts.sockets import ctl, goes_on, session
from tests.unit.processes import alive, children

_SHORT = """\
name: short
workload: {kind: synthetic, prompt_tokens: 8, output_tokens: 4, count: 8}
phases: [{name: hold, rate: 4, duration: 4s, drain: 60s}]
"""
_LIMIT_S = 240.0


def begun() -> tuple[Any, Path]:
    """A showdown of one topology, twice."""
    out = folder() / "out"
    words = ("--topologies", "baseline", "--repeat", 2, "--model", "a=tiny", "--threads", 1)
    process = rvtop("showdown", scenario(_SHORT), *words, "--ui", "plain", "--out", out)
    return process, out


def over(process: Any, out: Path, code: int) -> Done:
    """How it ended; nothing of it runs."""
    below = children(process.pid)
    done = ended(process, out, 120)
    assert done.code == code, (done.code, done.err)
    until(lambda: not any(alive(pid) for pid in below), "the end of its processes")
    return done


def backend_of(process: Any) -> list[int]:
    return [pid for pid, line in children(process.pid).items() if "-m backends" in line]


@attempt("a showdown interrupted while its first topology starts: exit 130, nothing left", limit_s=300)
def showdown_interrupted_in_a_start() -> None:
    process, out = begun()
    until(lambda: backend_of(process), "the start", _LIMIT_S)
    process.send_signal(signal.SIGINT)
    over(process, out, 130)


@attempt("a showdown interrupted under load, twice: exit 130, what is done is kept", limit_s=400)
def showdown_interrupted_under_load() -> None:
    process, out = begun()
    until(lambda: lines(out / "baseline-1") >= 2, "the load", _LIMIT_S)
    process.send_signal(signal.SIGINT)
    over(process, out, 130)
    if (out / "showdown.json").exists():
        json.loads((out / "showdown.json").read_bytes())
    process, out = begun()
    until(lambda: lines(out / "baseline-2") >= 2, "the load of the second one", 2 * _LIMIT_S)
    process.send_signal(signal.SIGINT)
    over(process, out, 130)
    assert json.loads((out / "showdown.json").read_bytes())["rows"], "what was done is kept"


@attempt("kill -9 of a showdown in a start and under load, and of its backend: nothing left", limit_s=400)
def showdown_killed() -> None:
    for ready in (lambda p, o: backend_of(p), lambda p, o: lines(o / "baseline-1") >= 2):
        process, out = begun()
        until(lambda ready=ready, p=process, o=out: ready(p, o), "the moment", _LIMIT_S)
        below = children(process.pid)
        process.kill()
        process.wait()
        until(lambda below=below: not any(alive(pid) for pid in below), "the end of all")
    process, out = begun()
    until(lambda: lines(out / "baseline-1") >= 2, "the load", _LIMIT_S)
    for pid in backend_of(process):
        os.kill(pid, signal.SIGKILL)
    until(lambda: (out / "showdown.json").exists() or process.poll() is not None, "the first one's end")
    process.send_signal(signal.SIGINT)
    over(process, out, 130)


@attempt("a showdown whose folder can't be written, is a file, holds another: one line, exit 2")
def showdown_folders() -> None:
    base = folder()
    (base / "file").write_text("x")
    (base / "other").mkdir()
    (base / "other" / "showdown.json").write_text("{}")
    path = scenario(_SHORT)
    for out in ("file", "file/x", "other", "/proc/x"):
        words = ("--topologies", "baseline", "--model", "a=tiny", "--ui", "none", "--out", base / out)
        done = ended(rvtop("showdown", path, *words), base)
        assert done.code == 2 and len(done.err.splitlines()) == 1, (out, done.code, done.err)
    for names in ("", ",", "none", "baseline,baseline", "baseline,none"):
        words = ("--topologies", names, "--out", base / "new", "--ui", "none")
        done = ended(rvtop("showdown", path, *words), base)
        assert done.code == 2 and len(done.err.splitlines()) == 1, (names, done.code, done.err)


@attempt("a switch while a switch runs, undo and a rate meanwhile: each is answered", limit_s=400)
def switch_in_a_switch() -> None:
    with session() as (process, run, path):
        words = ("retarget", "topology=baseline", "models=a=tiny")
        both = []
        for _ in range(2):
            both.append(rvtop("ctl", path, *words))
            time.sleep(1)
        ctl(path, "rate", 5)
        undo = rvtop("ctl", path, "undo")
        ends = [ended(one, run, 200) for one in (*both, undo)]
        for done in ends:
            assert done.code in (0, 2) and len(done.err.splitlines()) <= 1, (done.code, done.err)
        assert any(done.code == 0 for done in ends), [done.err for done in ends]
        goes_on(run)
        process.send_signal(signal.SIGINT)
        over(process, run, 130)


@attempt("a switch that is interrupted, killed, and whose new server is killed while it starts", limit_s=400)
def switch_interrupted() -> None:
    for how in ("interrupt", "kill", "kill the server"):
        with session() as (process, run, path):
            switching = rvtop("ctl", path, "retarget", "topology=baseline", "models=a=tiny")
            until(lambda p=process: backend_of(p), "the new server", _LIMIT_S)
            below = children(process.pid)
            if how == "kill the server":
                for pid in backend_of(process):
                    os.kill(pid, signal.SIGKILL)
                done = ended(switching, run, 200)
                assert done.code == 2 and len(done.err.splitlines()) == 1, (done.code, done.err)
                goes_on(run)
            process.send_signal(signal.SIGKILL if how == "kill" else signal.SIGINT)
            assert process.wait(120) == (-9 if how == "kill" else 130)
            if how != "kill the server":
                done = ended(switching, run)
                assert done.code in (2, 3) and len(done.err.splitlines()) == 1, (done.code, done.err)
            until(lambda: not any(alive(pid) for pid in below), "the end of all")  # noqa: B023


@attempt("switches to what is not there: a topology, a model, an option; one line each, the load stays")
def switch_refused() -> None:
    with session() as (process, run, path):
        for words in (
            ("topology=none",),
            ("topology=baseline", "models=a=/no/such/folder"),
            ("topology=baseline", "models=a=tiny", "arguments=--no-such-option"),
            ("topology=baseline", "place=nowhere"),
            ("url=http://127.0.0.1:1", "topology=baseline"),
            (),
        ):
            done = ended(rvtop("ctl", path, "retarget", *words), run, 200)
            assert done.code == 2 and len(done.err.splitlines()) == 1, (words, done.code, done.err)
        goes_on(run)
        process.send_signal(signal.SIGINT)
        over(process, run, 130)
