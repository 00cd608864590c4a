"""However a run ends, its results are there and nothing it started is left."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rvtop.load.command import SetRate, Stop
from rvtop.load.workers import Workers
from rvtop.remote import RemoteSession
from tests.faults.sessions import request
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

    def __init__(self, out: Path, *words: str) -> None:
        self.out = out
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "rvtop.cli", *words, "--out", str(out)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
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
        """(exit code, stdout, stderr) once it has ended; nothing of it may be left."""
        out, err = self.process.communicate(timeout=90)
        self.nothing_left()
        return self.process.returncode, out, err

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
    run.process.send_signal(signal.SIGINT)
    code, _, err = run.end()
    assert code == 130
    assert "Traceback" not in err
    assert len(lines(tmp_path / "run")) >= 20


@pytest.mark.parametrize("option", ["--check", "--lease"])
def test_an_interrupt_before_the_load_leaves_no_folder(tmp_path: Path, runs: list[Run], option: str) -> None:
    """While its options are checked, or the topology starts: nothing was measured, so nothing is left."""
    runs.append(Run(tmp_path / "run", "run", "smoke", "--topology", "baseline"))
    run = runs[-1]
    wait_for(
        lambda: any(f"backends baseline {option}" in what for what in children(run.process.pid).values()),
        "the backend",
    )
    run.below = set(children(run.process.pid))
    run.process.send_signal(signal.SIGINT)
    code, _, err = run.end()
    assert (code, err) == (130, "rvtop: interrupted before the load began\n")
    assert list(tmp_path.iterdir()) == []


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
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "rvtop.cli", "report", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "Latency_total" in ended.stdout
    found = summary(tmp_path / "run")
    assert found["requests"] == {
        "planned": len(rows),
        "sent": len(rows),
        "ok": len(rows),
        "errors": {},
        "dropped": 0,
    }
    # Not the 20 minutes that were planned.
    assert found["duration_s"] < 120
    assert found["rate"]["requested_rps"] == pytest.approx(40, rel=0.5)


def test_a_lost_worker_is_an_event_and_the_run_goes_on(
    mock: MockProcess, tmp_path: Path, runs: list[Run]
) -> None:
    run = Run(
        *(tmp_path / "run", "run", "--rate", "100", "--duration", "4s", "--output-tokens", "60"),
        *("--target", mock.url, "--workers", "2"),
    )
    runs.append(run)
    run.until_requests(20)
    victim = run.workers()[0]
    os.kill(victim, signal.SIGKILL)
    code, out, err = run.end()
    assert (code, err) == (0, "")
    assert "is lost" in out
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
    # The other one went on to the end of the phase with its own share.
    survivor = {row["worker"] for row in rows if row["intended_ns"] > event["at_ns"]}
    assert len(survivor) == 1
    assert max(row["intended_ns"] for row in rows) > rows[0]["intended_ns"] + 3_500_000_000


def test_a_lost_worker_counts_against_the_threshold(
    mock: MockProcess, tmp_path: Path, runs: list[Run]
) -> None:
    scenario = tmp_path / "s.yaml"
    scenario.write_text(
        "name: s\nworkload: {kind: synthetic, prompt_tokens: 5, output_tokens: 200}\n"
        "phases: [{name: p, rate: 100, duration: 3s}]\nthresholds: {error_rate: 0.001}\n"
    )
    runs.append(Run(tmp_path / "run", "run", str(scenario), "--target", mock.url, "--workers", "2"))
    wait_for(lambda: len(runs[-1].workers()) == 2 and lines(tmp_path / "run"), "the load")
    runs[-1].below = set(children(runs[-1].process.pid))
    os.kill(runs[-1].workers()[0], signal.SIGKILL)
    code, _, err = runs[-1].end()
    assert code == 1
    assert err.startswith("rvtop: error_rate: ")


def test_without_any_worker_the_run_ends_with_its_results(
    mock: MockProcess, tmp_path: Path, runs: list[Run]
) -> None:
    run = steady(runs, mock, tmp_path / "run")
    run.until_requests(20)
    (only,) = run.workers()
    os.kill(only, signal.SIGKILL)
    code, _, err = run.end()
    assert (code, err) == (4, "rvtop: every load worker is gone; the run can't go on\n")
    assert summary(tmp_path / "run")["requests"]["ok"] >= 20


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
    async with asyncio.timeout(60):
        while len(lines(out)) < 20:
            await asyncio.sleep(0.02)
    return session, {p: c for p, c in children().items() if "rvtop.remote_main" in c or "rvtop.load" in c}


async def gone(pids: dict[int, str]) -> None:
    assert len(pids) == 3
    for pid in pids:
        await asyncio.to_thread(wait_for, lambda pid=pid: not alive(pid), f"process {pid} to end")


async def test_closing_the_dashboard_ends_all_with_the_results(mock: MockProcess, tmp_path: Path) -> None:
    session, pids = await held(mock, tmp_path / "run")
    session.send(SetRate(80.0))
    async with asyncio.timeout(60):
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
    (main,) = [pid for pid, what in pids.items() if "remote_main" in what]
    os.kill(main, signal.SIGKILL)
    await gone(pids)
    async with asyncio.timeout(60):
        while session.outcome is None:
            await asyncio.sleep(0.02)
    assert session.outcome.exit_code == 4
    last = session.snapshot()
    assert last is not None
    assert (last.state, last.message) == ("failed", session.outcome.message)
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


HOLDER = """
import asyncio, pickle, sys
from rvtop.remote import RemoteSession

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
        [sys.executable, "-P", "-m", "rvtop.remote_main"],
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
