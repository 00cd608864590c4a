"""The dashboard in a terminal: files broken while it watches them, nothing installed, killed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from tests.faults.attempts import attempt
from tests.faults.attempts.cli import folder, lines, mock, until
from tests.faults.attempts.replays import stored
from tests.faults.attempts.terminals import Terminal
from tests.unit.processes import alive, children

_THEME = "base: dark\ntext: '#aabbcc'\n"
_KEYS = "? help"


@contextlib.contextmanager
def dashboard(*words: object, env: dict[str, str] | None = None) -> Iterator[tuple[Terminal, Path]]:
    """A scenario of 20 requests a second under the dashboard, its first picture drawn."""
    with mock() as server:
        run = folder() / "run"
        load = ("--rate", 20, "--duration", "20m", "--output-tokens", 8, "--ui", "dashboard")
        terminal = Terminal(
            "run", "--ui", "dashboard", *load, "--target", server.url, "--out", run, *words, env=env
        )
        terminal.until(_KEYS)
        until(lambda: lines(run) >= 5, "five requests")
        yield terminal, run


def left(terminal: Terminal, run: Path, keys: str = "qy", code: int = 0) -> str:
    """What is said when it is left by keys; the results are there, and nothing of it runs."""
    below = children(terminal.process.pid)
    for key in keys:
        terminal.keys(key)
        time.sleep(0.3)
    done = terminal.end(run)
    assert done.code == code, (done.code, done.err)
    assert (run / "summary.json").exists()
    until(lambda: not any(alive(pid) for pid in below), "the end of its processes")
    return done.err


@attempt(
    "the theme's file is broken, emptied, made a folder, deleted and mended while it is watched", limit_s=150
)
def dashboard_theme() -> None:
    config = folder()
    theme = config / "rvtop" / "themes" / "mine.yaml"
    theme.parent.mkdir(parents=True)
    theme.write_text(_THEME)
    with dashboard("--theme", "mine", env={"XDG_CONFIG_HOME": str(config)}) as (terminal, run):
        for text in ("base: [", "", "\x00\xff", "a: &a [*a, *a]\n", "text: '\x1b[2J'\n", _THEME * 2000):
            theme.write_text(text)
            os.utime(theme, ns=(time.time_ns(), time.time_ns()))
            time.sleep(1.3)
        theme.unlink()
        theme.mkdir()
        time.sleep(1.3)
        theme.rmdir()
        since = len(terminal.text)
        theme.write_text(_THEME.replace("aabbcc", "112233"))
        terminal.until("theme mine", since=since)
        left(terminal, run)


@attempt("the settings file is broken and the cache's folder is gone while a dashboard runs: it goes on")
def dashboard_settings() -> None:
    config = folder()
    file = config / "rvtop" / "config.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("theme: light\n")
    env = {"XDG_CONFIG_HOME": str(config), "XDG_STATE_HOME": str(config), "XDG_CACHE_HOME": str(config)}
    with dashboard(env=env) as (terminal, run):
        file.write_text("theme: [")
        for key in "t:?":
            terminal.keys(key)
            time.sleep(0.5)
            terminal.keys("\x1b")
            time.sleep(0.5)
        left(terminal, run)


@attempt("the Start screen with nothing installed, no home, nothing to be run: it says why, and q leaves")
def dashboard_start_bare() -> None:
    empty = folder()
    env = {"PATH": str(empty), "HOME": "/nonexistent", "RVTOP_CACHE": "/nonexistent/cache"}
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"):
        env[name] = "/nonexistent"
    terminal = Terminal(env=env, cwd=empty)
    terminal.until("quit")
    for key in ("\x1b[B", "\x1b[B", "\r", "\x1b", "\t", "x" * 300, "\x1b"):
        terminal.keys(key)
        time.sleep(0.3)
    terminal.keys("\x03")
    assert terminal.end().code == 130


@attempt("250 keys at random in a live run: no traceback, one end, results", limit_s=150)
def dashboard_random_keys() -> None:
    draw = random.Random(11)
    keys = [
        *"abcdefghijklmnoprstuvwxyz123456789BNSWXY+-:?/[].,'",
        "\x1b",
        "\t",
        "\r",
        "\x7f",
        "\x1b[A",
        "\x1b[B",
    ]
    keys += ["\x1b[1;2A", "\x1b[1;2B", "\x1b[C", "\x1b[D", "\x1b[5~", "\x1b[6~", "\x1b[<0;30;12M", "\x1b[Z"]
    with dashboard() as (terminal, run):
        for _ in range(250):
            terminal.keys(draw.choice(keys))
            time.sleep(0.05)
            if terminal.process.poll() is not None:
                break
        assert terminal.process.poll() is None or (run / "summary.json").exists(), terminal.text[-2000:]
        terminal.keys("\x1b\x1b\x1b")
        time.sleep(0.5)
        terminal.keys("\x03")
        done = terminal.end(run)
        assert done.code in (0, 130), (done.code, done.err)
        assert (run / "summary.json").exists()


@attempt("kill -9 of the dashboard, and of its session; Ctrl-C twice: results or one line, nothing runs on")
def dashboard_killed() -> None:
    with dashboard() as (terminal, run):
        below = children(terminal.process.pid)
        terminal.process.kill()
        until(lambda: not any(alive(pid) for pid in below), "the end of its processes")
        assert (run / "summary.json").exists()
    with dashboard() as (terminal, run):
        (session,) = [pid for pid, line in children(terminal.process.pid).items() if "rvtop.session" in line]
        os.kill(session, signal.SIGKILL)
        terminal.until("killed")
        terminal.keys("q")
        assert terminal.end(run).code == 5
    with dashboard() as (terminal, run):
        terminal.keys("\x03\x03")
        assert terminal.end(run).code == 130
        until(lambda: (run / "summary.json").exists(), "the results")


@attempt(
    "a screen of one cell, of 500 x 200, and back, many times, in a live run and in a replay", limit_s=150
)
def dashboard_sizes() -> None:
    run = stored()
    terminal = Terminal("replay", run)
    terminal.until(_KEYS)
    for columns, rows in ((1, 1), (500, 200), (2, 500), (500, 2), (20, 5), (120, 40)) * 3:
        terminal.resize(columns, rows)
        time.sleep(0.2)
    terminal.keys("q")
    assert terminal.end().code == 0
    with dashboard() as (terminal, run):
        for columns, rows in ((1, 1), (500, 200), (2, 500), (120, 40)) * 3:
            terminal.resize(columns, rows)
            time.sleep(0.2)
        left(terminal, run)


@attempt("warnings as errors, and no docstrings: the dashboard runs")
def dashboard_python() -> None:
    with dashboard(env={"PYTHONWARNINGS": "error", "PYTHONOPTIMIZE": "2"}) as (
        terminal,
        run,
    ):
        left(terminal, run)
