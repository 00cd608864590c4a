"""``rvtop choose --measure``: its four runs, what is read of a lost engine and of processes."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rvtop.errors import UserError
from rvtop.lifecycle import footprint
from rvtop.lifecycle.footprint import Part
from rvtop.session.request import Outcome, SessionRequest
from rvtop.study import measure, measure_watch
from rvtop.study.choice_table import read
from rvtop.study.measure_watch import Loss, loss
from tests.unit.processes import alive, wait_for
from tests.unit.run_folder import S, request

MIB = 2**20
PARTS = [Part(10, "python", 90 * MIB), Part(11, "haproxy", 6 * MIB), Part(12, "VLLM::EngineCor", 900 * MIB)]


def test_overhead_is_all_that_is_no_engine_once_there_is_one() -> None:
    assert footprint.overhead(PARTS) == (96 * MIB, 2)
    assert footprint.overhead(PARTS[:2]) is None


def test_an_engine_that_could_not_name_itself_is_one_that_was_spawned() -> None:
    code = "import sys, time; sys.stdin.read()  # from multiprocessing.spawn import spawn_main"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        wait_for(lambda: footprint.below(process.pid)[0].spawned, "its command line")
        assert footprint.below(process.pid)[0].is_engine
        assert process.stdin is not None
        process.stdin.close()


def row(
    number: int, model: str, at_ms: float, *, failed: bool = False, first: float = 20.0
) -> dict[str, Any]:
    if failed:
        return request(number, "loss", at_ms, model=model, lag=0.0, error="http_503")
    return request(number, "loss", at_ms, model=model, lag=0.0, first=first, last=first + 10)


def test_a_lost_engine_is_the_one_that_answers_again_last() -> None:
    rows = [
        row(0, "a", 500),
        row(1, "b", 900),
        row(2, "a", 1100, failed=True),
        row(3, "b", 1200),
        row(4, "b", 2200, failed=True),
        row(5, "a", 3000, failed=True),
        row(6, "a", 4000),
        row(7, "b", 4010),
        row(8, "b", 9000, failed=True),
    ]
    assert loss(rows, S) == Loss(3.02, 3, 1)  # 3, 4 and 7 went to the other; 8 came after
    assert loss(rows[:6], S) is None  # a has not answered since
    assert loss([one for one in rows if one["model"] == "a"], S) is None


def test_a_request_that_waited_for_the_new_replica_counts_from_its_answer() -> None:
    rows = [row(0, "a", 900), row(1, "b", 950), row(2, "a", 1100, first=8000), row(3, "b", 1200)]
    found = loss(rows, S)
    assert found is not None
    assert found.back_s == pytest.approx(8.1)
    assert (found.other_sent, found.other_failed) == (1, 0)


class Sessions:
    """Sessions that are none: each writes the run folder of one, with an engine killed half-way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[SessionRequest] = []
        self.killed = threading.Event()
        self.stopped = threading.Event()
        self.weighed = threading.Event()
        monkeypatch.setattr(measure_watch, "_LOOK_S", 0.01)
        monkeypatch.setattr(measure_watch, "ControlClient", self._client)
        monkeypatch.setattr(footprint, "child_with", lambda text: 10)
        monkeypatch.setattr(footprint, "below", self._below)
        monkeypatch.setattr(footprint, "kill_engine", self._kill)
        monkeypatch.setattr(measure, "check_backend", lambda options: ("a",))

    def run(self, asked: SessionRequest) -> Outcome:
        self.asked.append(asked)
        assert asked.scenario is not None
        for event in (self.killed, self.stopped, self.weighed):
            event.clear()
        asked.out.mkdir(parents=True)
        began_ns = time.time_ns()
        told = {"t0_unix_ns": began_ns, "start_s": 7.5, "target_engines": []}
        (asked.out / "environment.json").write_text(json.dumps(told))
        self._write(asked.out, row(0, "a", 0), row(1, "b", 1))
        if asked.control is None:
            assert self.weighed.wait(60)
        else:
            assert self.killed.wait(60)
            after_ms = (time.time_ns() - began_ns) / 1e6 + 60_000  # of the run's clock
            self._write(asked.out, row(2, "a", after_ms, first=5000), row(3, "b", after_ms))
            assert self.stopped.wait(60)
        return Outcome(
            0, summary={"kpm": {"latency_avg_ms": 300.0}, "ttft_ms": {"p50": 40.0}, "itl_ms": {"p50": 8.0}}
        )

    def _write(self, folder: Path, *rows: dict[str, Any]) -> None:
        with (folder / "requests.jsonl").open("a") as file:
            file.write("".join(json.dumps(one) + "\n" for one in rows) + '{"half of a li')
            file.truncate(file.tell() - len('{"half of a li'))

    def _below(self, pid: int) -> list[Part]:
        if self.weighed.is_set():
            return PARTS[:1]  # its end has begun
        self.weighed.set()
        return PARTS

    def _kill(self, parts: list[Part]) -> bool:
        self.killed.set()
        return True

    @contextlib.contextmanager
    def _client(self, path: Path) -> Iterator[Any]:
        sessions = self

        class Client:
            def send(self, command: str, fields: dict[str, Any]) -> None:
                assert (command, fields) == ("stop", {})
                sessions.stopped.set()

            def answer(self, command: str) -> None: ...

        yield Client()


def test_both_are_measured_alone_and_with_a_lost_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions, said = Sessions(monkeypatch), list[str]()
    found, folder, code = measure.measured(tmp_path / "out", sessions.run, said.append)
    assert (folder, code) == (tmp_path / "out", 0)
    names = ["vllm-latency", "rsv-latency", "vllm-isolation", "rsv-isolation"]
    assert [one.out.name for one in sessions.asked] == names
    backends = [one.backend for one in sessions.asked]
    assert [(one.topology, len(one.models)) for one in backends if one is not None] == [
        *(("vllm", 1), ("rsv", 1), ("vllm", 2), ("rsv", 2)),
    ]
    for topology in ("vllm", "rsv"):
        one = found.of(topology)
        assert (one.start_s, one.ttft_p50_ms, one.itl_p50_ms) == (7.5, 40.0, 8.0)
        assert (one.overhead_bytes, one.processes) == (96 * MIB, 2)
        assert (one.other_sent, one.other_failed) == (1, 0)
        assert one.back_s is not None
        assert one.back_s > 60
        assert one.folders == (f"{topology}-latency", f"{topology}-isolation")
    assert "CPUs" in found.hardware
    assert read(json.loads((folder / "choose.json").read_text())) == found
    with pytest.raises(UserError, match=r"holds choose\.json already"):
        measure.measured(folder, sessions.run, said.append)


def test_what_did_not_start_has_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Sessions(monkeypatch)

    def run(asked: SessionRequest) -> Outcome:
        raise UserError("it did not start", 4)

    said = list[str]()
    found, _, code = measure.measured(tmp_path / "out", run, said.append)
    assert code == 4
    assert found.of("vllm").start_s is None
    assert sum("does not count: it did not start" in line for line in said) == 4


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A shell with a child that has the name of an engine."""
    engine = tmp_path / "VLLM::EngineCore"
    engine.symlink_to("/bin/sleep")
    script = f"'{engine}' 600 & wait"
    with subprocess.Popen(["sh", "-c", script, "of-this-test"], start_new_session=True) as process:
        try:
            wait_for(lambda: any(one.is_engine for one in footprint.below(process.pid)), "the engine's name")
            yield process
        finally:
            footprint.kill_engine(footprint.below(process.pid))
            process.kill()


def test_processes_their_memory_and_which_is_the_engine(tree: subprocess.Popen[bytes]) -> None:
    assert footprint.child_with("of-this-test") == tree.pid
    assert footprint.child_with("of-another-test") is None
    shell, engine = footprint.below(tree.pid)
    assert (shell.pid, shell.is_engine, engine.is_engine) == (tree.pid, False, True)
    assert shell.memory_bytes > 0
    assert engine.memory_bytes > 0
    assert not footprint.kill_engine([shell])
    assert footprint.kill_engine([shell, engine])
    wait_for(lambda: not alive(engine.pid), "the engine's end")
    assert not footprint.kill_engine([engine])
