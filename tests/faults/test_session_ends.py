"""However a run ends, its results are there and nothing it started is left."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from rvtop.contract.command import SetRate, Stop
from rvtop.load.fleet.workers import Workers
from rvtop.session.client import RemoteSession
from tests.faults.sessions import request, unlimited
from tests.mock.fast import any_mock
from tests.mock.process import MockError, MockProcess, PythonMock
from tests.unit.processes import alive, children, command, wait_for

HAMMER = {"name": "p", "rate": 40, "duration": "20m"}  # far longer than any test


@pytest.fixture(scope="module")
def mock() -> Iterator[MockProcess]:
    with any_mock(ttft_ms=20, step_ms=5, tokens=8) as running:
        yield running


class Run:
    """``rvtop …`` as a process of its own."""

    def __init__(self, out: Path, *words: str, env: Mapping[str, str] | None = None) -> None:
        self.out = out
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "rvtop.cli", *words, "--out", str(out)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=env,
        )
        self.below: set[int] = set()

    def until_requests(self, count: int) -> None:
        """Waits until ``count`` requests have ended; notes the processes that it has started."""

        def enough() -> bool:
            assert self.process.poll() is None, self.process.communicate()
            self.below |= set(children(self.process.pid))
            return len(lines(self.out)) >= count

        wait_for(enough, f"{count} requests")
        assert self.below

    def workers(self) -> list[int]:
        return [pid for pid, what in children(self.process.pid).items() if "rvtop.load.worker" in what]

    def end(self) -> tuple[int, str, str]:
        """(exit code, stdout, stderr) once it has ended; nothing of it may be left. Whether the client was
        limited is for this machine to say, and no matter here."""
        out, err = self.process.communicate(timeout=240)
        self.nothing_left()
        return self.process.returncode, out, unlimited(err)

    def nothing_left(self) -> None:
        for pid in self.below:
            wait_for(lambda pid=pid: not alive(pid), f"process {pid} to end")

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        for pid in self.below:
            if "rvtop" in command(pid) or "backends" in command(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def endless() -> Iterator[MockProcess]:
    """A server whose answers last for minutes."""
    with any_mock(ttft_ms=20, step_ms=1000, tokens=2000) as running:
        yield running


@pytest.fixture
def runs() -> Iterator[list[Run]]:
    started: list[Run] = []
    yield started
    for run in started:
        run.kill()


def steady(runs: list[Run], mock: MockProcess, out: Path, *words: str) -> Run:
    load = ("--rate", "40", "--duration", "20m", "--output-tokens", "8")
    runs.append(Run(out, "run", *load, "--target", mock.url, *words))
    return runs[-1]


def lines(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of a run's requests."""
    try:
        text = (folder / "requests.jsonl").read_bytes()
    except OSError:
        return []
    return [json.loads(line) for line in text[: text.rfind(b"\n") + 1].splitlines()]


def summary(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "summary.json").read_bytes())
    return found


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_interrupt_writes_the_results_and_leaves_nothing(
    name: str, mock: MockProcess, tmp_path: Path, runs: list[Run]
) -> None:
    run = steady(runs, mock, tmp_path / "run", "--workers", "2")
    run.until_requests(20)
    run.process.send_signal(getattr(signal, name))
    code, out, err = run.end()
    assert code == 130
    assert err == f"rvtop: interrupted; what was measured is in {tmp_path / 'run'}\n"
    assert "Latency_total" in out
    rows = lines(tmp_path / "run")
    found = summary(tmp_path / "run")
    assert found["requests"]["planned"] == len(rows) >= 20
    assert set(found["requests"]["errors"]) <= {"cancelled"}


def test_ctrl_c_in_a_terminal_reaches_all_and_ends_as_one(
    mock: MockProcess, tmp_path: Path, runs: list[Run]
) -> None:
    """The whole process group gets the signal, at once, as from a terminal."""
    run = steady(runs, mock, tmp_path / "run", "--workers", "2")
    run.until_requests(20)
    os.killpg(run.process.pid, signal.SIGINT)
    code, _, err = run.end()
    assert (code, err.count("\n")) == (130, 1)
    assert summary(tmp_path / "run")["requests"]["ok"] >= 20


def test_a_second_ctrl_c_does_not_wait_and_leaves_nothing(
    mock: MockProcess, tmp_path: Path, runs: list[Run]
) -> None:
    run = steady(runs, mock, tmp_path / "run")
    run.until_requests(20)
    for pid in run.workers():
        os.kill(pid, signal.SIGSTOP)  # so that the gentle end has something to wait for
    run.process.send_signal(signal.SIGINT)
    assert run.process.stdout is not None
    while "stopping" not in run.process.stdout.readline():
        pass
    time.sleep(1.1)  # sooner it would be the same one
    run.process.send_signal(signal.SIGINT)
    code, out, err = run.end()
    assert (code, err) == (130, f"rvtop: interrupted; what was measured is in {tmp_path / 'run'}\n")
    assert "stopping at once" in out
    assert summary(tmp_path / "run")["end"]["kind"] == "interrupted"
    assert len(lines(tmp_path / "run")) >= 20


@pytest.mark.parametrize("gaps_s", [[0.0], [0.05] * 4])
def test_ctrl_c_several_times_within_a_second_writes_the_results(
    mock: MockProcess, tmp_path: Path, runs: list[Run], gaps_s: list[float]
) -> None:
    run = steady(runs, mock, tmp_path / "run")
    run.until_requests(20)
    run.process.send_signal(signal.SIGINT)
    for gap_s in gaps_s:
        time.sleep(gap_s)
        run.process.send_signal(signal.SIGINT)
    code, out, err = run.end()
    assert (code, err) == (130, f"rvtop: interrupted; what was measured is in {tmp_path / 'run'}\n")
    assert f"run folder: {tmp_path / 'run'}" in out
    assert summary(tmp_path / "run")["requests"]["ok"] >= 20


@pytest.mark.parametrize("option", ["--check", "--lease"])
def test_an_interrupt_before_the_load_leaves_no_folder(tmp_path: Path, runs: list[Run], option: str) -> None:
    """While its options are checked, or the topology starts: nothing was measured, so nothing is left."""
    slow = tmp_path / "slow"  # the check takes a moment, which may be over before anybody looks
    slow.mkdir()
    slow.joinpath("sitecustomize.py").write_text(
        'import sys, time\nif "--check" in sys.orig_argv: time.sleep(20)\n'
    )
    env = {**os.environ, "PYTHONPATH": str(slow)} if option == "--check" else None
    runs.append(Run(tmp_path / "run", "run", "smoke", "--topology", "baseline", env=env))
    run = runs[-1]
    wait_for(
        lambda: any(f"backends baseline {option}" in what for what in children(run.process.pid).values()),
        "the backend",
    )
    run.below = set(children(run.process.pid))
    run.process.send_signal(signal.SIGINT)
    code, _, err = run.end()
    assert (code, err) == (130, "rvtop: interrupted before the load began\n")
    assert list(tmp_path.iterdir()) == [slow]


def test_kill_9_leaves_no_worker_and_a_folder_that_sums_up(
    mock: MockProcess, tmp_path: Path, runs: list[Run]
) -> None:
    run = steady(runs, mock, tmp_path / "run", "--workers", "2")
    run.until_requests(30)
    run.process.kill()
    run.process.communicate()
    run.nothing_left()
    assert not (tmp_path / "run" / "summary.json").exists()
    rows = lines(tmp_path / "run")
    out, err = report(tmp_path / "run")
    assert err.startswith("rvtop: cut off, ")
    assert "Latency_total" in out
    found = summary(tmp_path / "run")
    held = found["end"]["in_flight"]
    assert (found["end"]["kind"], found["requests"]["ok"]) == ("cut_off", len(rows))
    assert found["requests"]["planned"] == found["requests"]["sent"] == len(rows) + held
    assert found["requests"]["errors"] == ({"unfinished": held} if held else {})
    # Not the 20 minutes that were planned.
    assert found["duration_s"] < 120
    assert 10 < found["rate"]["requested_rps"] < 160


def report(folder: Path) -> tuple[str, str]:
    """(stdout, stderr) of ``rvtop report``."""
    command = [sys.executable, "-P", "-m", "rvtop.cli", "report", str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout, unlimited(ended.stderr)


def test_kill_9_with_44_answers_in_flight_is_told_of_by_report(
    endless: MockProcess, tmp_path: Path, runs: list[Run]
) -> None:
    """As soon as the run knows of all of them: in the first second of the load."""
    scenario = tmp_path / "s.yaml"
    scenario.write_text(
        "name: s\nworkload: {kind: synthetic, prompt_tokens: 5, output_tokens: 2000}\n"
        "phases: [{name: p, concurrency: 44, duration: 20m}]\n"
    )
    out = tmp_path / "run"
    run = Run(out, "run", str(scenario), "--target", endless.url, "--workers", "2", "--ui", "none")
    runs.append(run)

    def all_sent() -> bool:
        run.below |= set(children(run.process.pid))
        with contextlib.suppress(OSError):
            return b'"in_flight":44' in (out / "heartbeat.json").read_bytes()
        return False

    wait_for(all_sent, "44 requests in flight")
    run.process.kill()
    run.process.communicate()
    run.nothing_left()
    _, err = report(out)
    assert err.startswith("rvtop: cut off, 44 requests in flight: ")
    found = summary(out)
    assert (found["end"]["kind"], found["end"]["in_flight"]) == ("cut_off", 44)
    assert found["requests"]["planned"] == 44
    assert found["kpm"]["completed_pct"] == 0.0


def test_a_lost_worker_is_an_event_and_the_run_goes_on(
    mock: MockProcess, tmp_path: Path, runs: list[Run]
) -> None:
    run = Run(
        *(tmp_path / "run", "run", "--rate", "40", "--duration", "10s", "--output-tokens", "60"),
        *("--target", mock.url, "--workers", "2"),
    )
    runs.append(run)
    run.until_requests(20)
    victim = run.workers()[0]
    os.kill(victim, signal.SIGKILL)
    code, out, err = run.end()
    assert code == 5
    assert "died (killed by SIGKILL); " in out
    rows = lines(tmp_path / "run")
    found = summary(tmp_path / "run")
    lost = found["requests"]["errors"].pop("worker_lost", 0)
    assert lost > 0
    assert found["requests"]["errors"] == {}
    assert found["requests"]["planned"] == len(rows) + lost
    assert sum(part["requests"]["planned"] for part in found["by_model"].values()) == len(rows) + lost
    commands = [json.loads(line) for line in (tmp_path / "run" / "commands.jsonl").read_text().splitlines()]
    (event,) = [entry for entry in commands if entry["cmd"] == "worker_lost"]
    assert event["in_flight"] == sum(event["by_model"].values()) == lost
    number = event["worker"]
    assert err == f"rvtop: load worker {number} died (killed by SIGKILL); {lost} requests in flight lost\n"
    assert found["end"] == {"kind": "client_failed", "in_flight": lost, "text": err[7:-1]}
    # The other one went on to the end of the phase with its own share.
    survivor = {row["worker"] for row in rows if row["intended_ns"] > event["at_ns"]}
    assert len(survivor) == 1
    assert max(row["intended_ns"] for row in rows) > rows[0]["intended_ns"] + 9_500_000_000


def test_a_lost_worker_counts_against_the_threshold(
    mock: MockProcess, tmp_path: Path, runs: list[Run]
) -> None:
    scenario = tmp_path / "s.yaml"
    scenario.write_text(
        "name: s\nworkload: {kind: synthetic, prompt_tokens: 5, output_tokens: 200}\n"
        "phases: [{name: p, rate: 40, duration: 10s}]\nthresholds: {error_rate: 0.001}\n"
    )
    runs.append(Run(tmp_path / "run", "run", str(scenario), "--target", mock.url, "--workers", "2"))
    wait_for(lambda: len(runs[-1].workers()) == 2 and lines(tmp_path / "run"), "the load")
    runs[-1].below = set(children(runs[-1].process.pid))
    os.kill(runs[-1].workers()[0], signal.SIGKILL)
    code, _, err = runs[-1].end()
    assert code == 5
    assert "died (killed by SIGKILL); " in err
    assert "requests in flight lost; error_rate: " in err


def test_without_any_worker_the_run_ends_with_its_results(
    mock: MockProcess, tmp_path: Path, runs: list[Run]
) -> None:
    run = steady(runs, mock, tmp_path / "run")
    run.until_requests(20)
    (only,) = run.workers()
    os.kill(only, signal.SIGKILL)
    code, _, err = run.end()
    assert code == 5
    assert err.startswith("rvtop: load worker 0 died (killed by SIGKILL); ")
    assert err.endswith(" requests in flight lost; no load worker is left\n")
    assert summary(tmp_path / "run")["requests"]["ok"] >= 20
    assert summary(tmp_path / "run")["end"]["kind"] == "client_failed"


def test_a_target_that_dies_ends_the_run_with_its_results(tmp_path: Path, runs: list[Run]) -> None:
    doomed = PythonMock(ttft_ms=20, step_ms=5, tokens=8).start()
    url = doomed.url
    try:
        run = steady(runs, doomed, tmp_path / "run")
        run.until_requests(20)
    finally:
        os.kill(doomed.pid, signal.SIGKILL)
        with pytest.raises(MockError):
            doomed.stop()
    code, _, err = run.end()
    assert (code, err) == (3, f"rvtop: {url}: the target is lost (nothing answers there any more)\n")
    found = summary(tmp_path / "run")
    assert found["requests"]["ok"] >= 20
    assert found["requests"]["errors"]["refused"] >= 5
    assert found["requests"]["planned"] == len(lines(tmp_path / "run"))


# ---- the session's own process, as a dashboard holds it


async def held(mock: MockProcess, out: Path) -> tuple[RemoteSession, dict[int, str]]:
    """A session in its process, under load, and what runs for it."""
    session = await RemoteSession().start(request(mock.url, out, HAMMER, workers=Workers(2)))
    async with asyncio.timeout(120):
        while len(lines(out)) < 20:
            await asyncio.sleep(0.02)
    return session, {
        p: c for p, c in children().items() if c.endswith("-m rvtop.session") or "rvtop.load" in c
    }


async def gone(pids: dict[int, str]) -> None:
    assert len(pids) == 3
    for pid in pids:
        await asyncio.to_thread(wait_for, lambda pid=pid: not alive(pid), f"process {pid} to end")


async def test_closing_the_dashboard_ends_all_with_the_results(mock: MockProcess, tmp_path: Path) -> None:
    session, pids = await held(mock, tmp_path / "run")
    session.send(SetRate(80.0))
    async with asyncio.timeout(120):
        while (now := session.snapshot()) is None or now.load.target_rps != 80.0:
            await asyncio.sleep(0.02)
    await session.close()
    await session.close()
    await gone(pids)
    assert session.outcome is not None
    assert (session.outcome.exit_code, session.outcome.message) == (0, "")
    last = session.snapshot()
    assert last is not None
    assert last.state == "done"
    found = summary(tmp_path / "run")
    assert session.outcome.summary == found
    assert found["requests"]["planned"] == len(lines(tmp_path / "run"))
    assert (last.load.ok, dict(last.load.errors)) == (found["requests"]["ok"], found["requests"]["errors"])


async def test_a_session_whose_process_is_killed_says_so_and_leaves_nothing(
    mock: MockProcess, tmp_path: Path
) -> None:
    session, pids = await held(mock, tmp_path / "run")
    (main,) = [pid for pid, what in pids.items() if what.endswith("-m rvtop.session")]
    os.kill(main, signal.SIGKILL)
    await gone(pids)
    async with asyncio.timeout(120):
        while session.outcome is None:
            await asyncio.sleep(0.02)
    log = tmp_path / "run" / "session.log"
    assert session.outcome.exit_code == 5
    assert session.outcome.message == f"the session crashed (killed by SIGKILL): see {log}"
    last = session.snapshot()
    assert last is not None
    assert (last.state, last.message) == ("crashed", session.outcome.message)
    found = summary(tmp_path / "run")
    assert found == session.outcome.summary
    assert (found["end"]["kind"], found["end"]["text"]) == ("client_failed", session.outcome.message)
    assert found["requests"]["ok"] >= 20
    session.send(Stop())  # what comes too late harms nobody
    await session.close()


async def test_stdin_that_ends_ends_the_session_with_its_results(mock: MockProcess, tmp_path: Path) -> None:
    session, pids = await held(mock, tmp_path / "run")
    assert session._process is not None
    assert session._process.stdin is not None
    session._process.stdin.close()
    await gone(pids)
    found = summary(tmp_path / "run")
    assert found["requests"]["planned"] == len(lines(tmp_path / "run"))
    await session.close()
    assert session.outcome is not None
    assert session.outcome.exit_code == 130


async def test_what_the_session_s_process_said_is_kept_and_its_last_line_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before there is a run folder; what stands for the process ends as one that can't import does."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho Traceback >&2\necho 'ImportError: no numpy' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    session = await RemoteSession().start(request("http://127.0.0.1:1", tmp_path / "run", HAMMER))
    await session.close()
    assert session.outcome is not None
    assert session.outcome.exit_code == 5
    assert session.outcome.message == "the session crashed (exit code 1): ImportError: no numpy"


async def test_stderr_of_the_session_s_process_goes_to_the_session_log(
    mock: MockProcess, tmp_path: Path
) -> None:
    session, pids = await held(mock, tmp_path / "run")
    log = tmp_path / "run" / "session.log"
    for pid in pids:
        assert Path(f"/proc/{pid}/fd/2").samefile(log)
    (main,) = [pid for pid, what in pids.items() if what.endswith("-m rvtop.session")]
    os.kill(main, signal.SIGABRT)  # as a fault in C would: its traceback goes to the log
    await gone(pids)
    async with asyncio.timeout(120):
        while session.outcome is None:
            await asyncio.sleep(0.02)
    assert session.outcome.message.startswith(f"the session crashed (killed by SIGABRT): see {log}: ")
    assert "Fatal Python error: Aborted" in log.read_text()
    await session.close()


HOLDER = """
import asyncio, pickle, sys
from rvtop.session.client import RemoteSession

async def main():
    session = await RemoteSession().start(pickle.loads(bytes.fromhex(sys.stdin.readline())))
    await asyncio.sleep(3600)

asyncio.run(main())
"""


def test_kill_9_of_the_dashboard_writes_the_results_and_leaves_nothing(
    mock: MockProcess, tmp_path: Path
) -> None:
    import pickle

    asked = request(mock.url, tmp_path / "run", HAMMER, workers=Workers(2))
    with subprocess.Popen([sys.executable, "-P", "-c", HOLDER], stdin=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        holder.stdin.write(pickle.dumps(asked).hex().encode() + b"\n")
        holder.stdin.flush()
        wait_for(lambda: len(lines(tmp_path / "run")) >= 20, "the load")
        pids = children(holder.pid)
        holder.kill()
    assert len(pids) == 3
    for pid in pids:
        wait_for(lambda pid=pid: not alive(pid), f"process {pid} to end")
    found = summary(tmp_path / "run")
    assert found["requests"]["planned"] == len(lines(tmp_path / "run"))
    assert set(found["requests"]["errors"]) <= {"cancelled"}


def test_a_session_that_was_asked_nothing_ends_with_its_stdin() -> None:
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "rvtop.session"],
        input=b"",
        capture_output=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (2, b"")


def test_a_worker_that_was_asked_nothing_ends_with_its_stdin() -> None:
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "rvtop.load.worker"],
        input=b"",
        capture_output=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")
