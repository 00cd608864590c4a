"""``rvtop …`` as a process, what it must leave however it ends, and servers for it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.mock.fast import any_mock
from tests.mock.process import MockProcess
from tests.unit.processes import children

_STARTED: list[subprocess.Popen[Any]] = []
_FOLDERS: list[Path] = []
#: Most lines that rvtop may say on stderr in a run of a few seconds.
_LINES = 4


def rvtop(
    *words: object, env: Mapping[str, str] | None = None, before: Sequence[str] = (), **more: Any
) -> Any:
    """Starts ``rvtop WORDS`` (behind the words of ``before``) in a session of its own."""
    command = [*before, sys.executable, "-P", "-m", "rvtop.cli", *map(str, words)]
    given: dict[str, Any] = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
    }
    process = subprocess.Popen(
        command, env={**os.environ, **(env or {})}, start_new_session=True, **{**given, **more}
    )
    _STARTED.append(process)
    return process


def started(process: subprocess.Popen[Any]) -> subprocess.Popen[Any]:
    """Has the runner end it."""
    _STARTED.append(process)
    return process


def end_all() -> None:
    """Ends what was started, and removes folders."""
    for process in _STARTED:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        with contextlib.suppress(ValueError, OSError):
            process.communicate(timeout=10)
    _STARTED.clear()
    for folder in _FOLDERS:
        shutil.rmtree(folder, ignore_errors=True)
    _FOLDERS.clear()


def folder() -> Path:
    """A new folder, gone when the attempt has ended."""
    made = Path(tempfile.mkdtemp(prefix="rvtop-attempt-"))
    _FOLDERS.append(made)
    return made


@dataclass
class Done:
    """How an ``rvtop`` ended."""

    code: int
    out: str
    err: str
    run: Path

    @property
    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.run / "summary.json").read_bytes())
        return found

    @property
    def errors(self) -> dict[str, int]:
        found: dict[str, int] = self.summary["requests"]["errors"]
        return found

    @property
    def ok(self) -> int:
        return int(self.summary["requests"]["ok"])

    def rows(self, name: str = "requests.jsonl") -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.run / name).read_text().splitlines()]


def ended(process: subprocess.Popen[Any], run: Path, limit_s: float = 60) -> Done:
    """Waits for the end; no traceback, no flood on stderr."""
    out, err = process.communicate(timeout=limit_s)
    done = Done(process.returncode, _text(out), _text(err), run)
    for said in (done.out, done.err):
        assert "Traceback" not in said, said
    assert len(done.err.splitlines()) <= _LINES, done.err
    return done


def _text(data: bytes | str | None) -> str:
    return data.decode("utf-8", "replace") if isinstance(data, bytes) else data or ""


def ran(target: str, *words: object, code: int = 0, says: str = "", limit_s: float = 60, **more: Any) -> Done:
    """``rvtop run`` of a short load on ``target``; its end: it must be ``code`` and say ``says`` on stderr.
    What was sent is accounted for. Without words of its own the load is 20 requests a second for a second."""
    run = folder() / "run"
    load = (
        ()
        if {"--rate", "--find-max"} & set(words) or _scenario(words)
        else ("--rate", 20, "--duration", "1s")
    )
    size = () if _scenario(words) else ("--output-tokens", 8)
    done = ended(
        rvtop("run", *words, *load, *size, "--target", target, "--out", run, "--ui", "none", **more),
        run,
        limit_s,
    )
    check(done, code, says)
    return done


def _scenario(words: Sequence[object]) -> bool:
    return bool(words) and str(words[0]).endswith(".yaml")


def check(done: Done, code: int, says: str = "") -> None:
    """The exit code, the words, and that every request is accounted for."""
    assert done.code == code, f"exit {done.code}: {done.err}"
    assert says in done.err, done.err
    if code and code != 130:
        assert done.err.startswith("rvtop: "), done.err
    if code == 2 or not (done.run / "summary.json").exists():
        assert code in (2, 3, 4, 5), "no summary.json"
        return
    accounted(done)


def accounted(done: Done) -> None:
    """planned = ok + errors, in the summary as in the log."""
    requests, rows = done.summary["requests"], done.rows()
    failed = sum(requests["errors"].values())
    assert requests["planned"] == requests["ok"] + failed, requests
    assert len({row["id"] for row in rows}) == len(rows), "a request twice"
    kinds: dict[str, int] = {}
    for row in rows:
        if row["error"]:
            kinds[row["error"]] = kinds.get(row["error"], 0) + 1
    if not any(phase.get("warmup") for phase in done.summary["phases"]):
        # Requests of a worker that was lost have no line, nor have those whose worker was killed at the end.
        counted = {k: n for k, n in requests["errors"].items() if k not in ("worker_lost", "unfinished")}
        assert {k: n for k, n in kinds.items() if k != "unfinished"} == counted, (kinds, requests)
        assert kinds.get("unfinished", 0) <= requests["errors"].get("unfinished", 0), (kinds, requests)


def scenario(text: str) -> Path:
    """A scenario file."""
    path = folder() / "s.yaml"
    path.write_text(text)
    return path


@contextlib.contextmanager
def mock(ttft_ms: float = 5, step_ms: float = 1, tokens: int = 8, **more: Any) -> Iterator[MockProcess]:
    """A good server."""
    with any_mock(ttft_ms=ttft_ms, step_ms=step_ms, tokens=tokens, **more) as running:
        yield running


def lines(run: Path, name: str = "requests.jsonl") -> int:
    """How many whole lines a file of a run has; 0 when it is not there."""
    try:
        return (run / name).read_bytes().count(b"\n")
    except OSError:
        return 0


def until(what: Any, why: str, limit_s: float = 40) -> Any:
    """Waits until ``what()`` is true, and returns it."""
    end = time.monotonic() + limit_s
    while not (found := what()):
        assert time.monotonic() < end, f"waited {limit_s:g} s for {why}"
        time.sleep(0.02)
    return found


def workers(pid: int) -> list[int]:
    """The load workers below a process."""
    return sorted(p for p, what in children(pid).items() if "rvtop.load.worker" in what)


def long_run(target: str, *words: object, **more: Any) -> tuple[Any, Path]:
    """A run that ends only when it is told to; some requests have ended."""
    run = folder() / "run"
    load = () if _scenario(words) else ("--rate", 40, "--duration", "20m", "--output-tokens", 8)
    process = rvtop("run", *words, *load, "--target", target, "--out", run, "--ui", "none", **more)
    until(lambda: lines(run) >= 10 or process.poll() is not None, "ten requests")
    assert process.poll() is None, process.communicate()
    return process, run


def stopped(process: Any, run: Path, code: int = 130, says: str = "") -> Done:
    """Ends a long run by Ctrl-C."""
    process.send_signal(signal.SIGINT)
    done = ended(process, run)
    check(done, code, says)
    return done
