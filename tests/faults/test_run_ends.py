"""A run tells the truth at its end: what failed, in whose words, what it cost, with which exit code."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rvtop.session.load_run
import rvtop.session.session
from rvtop.contract.command import Stop
from rvtop.load.worker.messages import Delta
from rvtop.results import runlog
from rvtop.session.request import Outcome
from rvtop.session.search import SearchOptions, parse_slo
from rvtop.session.session import Session
from tests.faults.sessions import Watched, content, request
from tests.faults.test_load_faults import attach_to
from tests.mock.fast import any_mock
from tests.mock.faulty import FaultyServer
from tests.mock.process import MockProcess

STEADY = {"name": "p", "rate": 40, "duration": "20m"}


@pytest.fixture(scope="module")
def mock() -> Iterator[MockProcess]:
    with any_mock(ttft_ms=20, step_ms=5, tokens=8) as running:
        yield running


@pytest.fixture(scope="module")
def faulty() -> Iterator[FaultyServer]:
    with FaultyServer() as running:
        yield running


def summary_of(watched: Watched) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((watched.out / "summary.json").read_bytes())
    return found


def told(outcome: Outcome) -> tuple[int, str, str]:
    """(exit code, kind, the one line) of an outcome with a summary."""
    assert outcome.summary is not None
    return outcome.exit_code, outcome.summary["end"]["kind"], outcome.message


async def test_a_run_of_which_every_request_failed_says_why_and_is_exit_code_1(
    faulty: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = faulty.url("good").partition("/good")[0]
    attach_to(monkeypatch, url, "fault:error_event")
    watched = Watched(request(url, tmp_path / "run", {"name": "p", "rate": 20, "duration": "500ms"}))
    code, kind, line = told(await watched.end())
    assert (code, kind) == (1, "all_failed")
    assert line == "every request failed (10 of 10: stream_error: CUDA error)"
    assert summary_of(watched)["end"] == {"kind": "all_failed", "in_flight": 0, "text": line}


async def test_find_max_on_a_server_that_refuses_all_ends_at_once_with_its_words(
    faulty: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step alone would be 20 minutes, and another one at half the rate would follow."""
    url = faulty.url("good").partition("/good")[0]
    attach_to(monkeypatch, url, "fault:http_500")
    options = SearchOptions(parse_slo("ttft_p99=200"), start_rps=20, step_s=1200.0)
    watched = Watched(request(url, tmp_path / "run", STEADY, search=options))
    outcome = await watched.end()
    code, kind, line = told(outcome)
    assert (code, kind) == (1, "all_failed")
    assert line.startswith("every request failed (")
    assert "http_500: " in line
    assert "--find-max: no rate holds the SLO" in line
    found = summary_of(watched)["find_max"]
    assert (found["ended"], found["rps"]) == (True, None)


async def test_a_fault_of_ours_is_one_line_its_traceback_is_in_the_log_and_the_results_are_written(
    mock: MockProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold, folded = rvtop.session.load_run.fold, []

    def broken(state: Any, delta: Delta) -> Any:
        folded.append(delta)
        if len(folded) == 20:
            raise ZeroDivisionError("no such figure")
        return fold(state, delta)

    monkeypatch.setattr(rvtop.session.load_run, "fold", broken)
    watched = Watched(request(mock.url, tmp_path / "run", STEADY))
    code, kind, line = told(await watched.end())
    log = tmp_path / "run" / "session.log"
    assert (code, kind) == (5, "client_failed")
    assert line == f"the session crashed: see {log}: ZeroDivisionError: no such figure"
    assert "Traceback" in log.read_text()
    assert summary_of(watched)["requests"]["ok"] > 0
    assert watched.now.state == "crashed"


async def test_a_fault_of_ours_before_the_load_leaves_the_log(
    mock: MockProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rvtop.session.session, "worker_spec", None)
    out = tmp_path / "run"
    outcome = await Session(request(mock.url, out, STEADY)).run()
    assert outcome.exit_code == 5
    assert outcome.message.startswith(f"the session crashed: see {out / 'session.log'}: TypeError: ")
    assert [path.name for path in out.iterdir()] == ["session.log"]


def disk_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on nothing can be appended in a run folder, nor a file be made."""

    def write(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write_json(path: Path, data: Any) -> None:
        raise runlog.RunFolderError(f"{path}: can't be written: {os.strerror(errno.ENOSPC)}")

    monkeypatch.setattr(runlog.os, "write", write)
    monkeypatch.setattr(runlog, "write_json", write_json)


async def test_a_full_disk_ends_the_run_with_its_figures(
    mock: MockProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(request(mock.url, tmp_path / "run", STEADY))
    await watched.until(lambda s: s.load.ok > 20, "requests")
    with monkeypatch.context() as full:
        disk_full(full)
        outcome = await watched.end()
    code, kind, line = told(outcome)
    assert (code, kind) == (5, "client_failed")
    assert line.endswith(".jsonl: can't be written: No space left on device")
    assert "\n" not in line
    assert outcome.summary is not None
    assert outcome.summary["requests"]["ok"] > 10
    assert outcome.summary["kpm"]["ttft_ms"] > 0
    assert not (tmp_path / "run" / "summary.json").exists()


async def test_a_disk_that_is_full_at_the_end_alone_is_told_of(
    mock: MockProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, data: Any) -> None:
        raise runlog.RunFolderError(f"{path}: can't be written: No space left on device")

    watched = Watched(request(mock.url, tmp_path / "run", STEADY))
    await watched.until(lambda s: s.load.ok > 20, "requests")
    monkeypatch.setattr(runlog, "write_json", refuse)
    watched.send(Stop("quit"))
    code, kind, line = told(await watched.end())
    assert (code, kind) == (5, "client_failed")
    assert line == f"{tmp_path / 'run' / 'summary.json'}: can't be written: No space left on device"


async def test_a_run_folder_that_is_deleted_ends_the_run_at_once(mock: MockProcess, tmp_path: Path) -> None:
    """The run would go on for 20 minutes; the session is waited for for two."""
    watched = Watched(request(mock.url, tmp_path / "run", STEADY))
    await watched.until(lambda s: s.load.ok > 5, "requests")
    shutil.rmtree(tmp_path / "run")
    outcome = await watched.end()
    assert outcome.exit_code == 5
    assert outcome.message == f"{tmp_path / 'run'}: was deleted or moved while the run went on"
    assert not (tmp_path / "run").exists()


async def test_an_interrupt_counts_what_was_in_flight(
    faulty: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = faulty.url("good").partition("/good")[0]
    attach_to(monkeypatch, url, "fault:never_answers")
    watched = Watched(request(url, tmp_path / "run", {"name": "p", "concurrency": 7, "duration": "20m"}))
    await watched.until(lambda s: s.load.in_flight == 7, "requests hang")
    watched.send(Stop("interrupted"))
    code, kind, line = told(await watched.end())
    assert (code, kind) == (130, "interrupted")
    assert line == f"interrupted; what was measured is in {tmp_path / 'run'}"
    assert summary_of(watched)["end"] == {"kind": "interrupted", "in_flight": 7, "text": "interrupted"}
    assert not (tmp_path / "run" / "heartbeat.json").exists()


async def test_workers_that_hang_can_be_left_in_a_hurry_and_what_they_held_is_counted(
    faulty: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = faulty.url("good").partition("/good")[0]
    attach_to(monkeypatch, url, "fault:never_answers")
    monkeypatch.setattr("rvtop.load.fleet.local._STOP_LIMIT_S", 600.0)  # it must not be time that ends them
    watched = Watched(request(url, tmp_path / "run", {"name": "p", "concurrency": 7, "duration": "20m"}))
    await watched.until(lambda s: s.load.in_flight == 7, "requests hang")
    fleet = watched.session._load.fleet
    assert fleet is not None
    for process in fleet._pool._processes:  # type: ignore[union-attr]
        process.send_signal(signal.SIGSTOP)
    watched.send(Stop("interrupted"))
    await watched.until(lambda s: s.state == "draining", "it waits for them")
    watched.session.kill()
    code, kind, _ = told(await watched.end())
    assert (code, kind) == (130, "interrupted")
    found = summary_of(watched)
    assert found["end"]["in_flight"] == 7
    assert found["requests"]["errors"] == {"unfinished": 7}
    assert found["requests"]["planned"] == 7


async def test_a_user_s_secret_is_not_in_the_log_of_a_crash(
    mock: MockProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RVTOP_API_KEY", "sk-very-secret")

    def broken(state: Any, delta: Delta) -> Any:
        raise ZeroDivisionError("no such figure")

    monkeypatch.setattr(rvtop.session.load_run, "fold", broken)
    watched = Watched(request(mock.url, tmp_path / "run", STEADY))
    assert (await watched.end()).exit_code == 5
    for path in (tmp_path / "run").iterdir():
        assert b"sk-very-secret" not in content(path), path
