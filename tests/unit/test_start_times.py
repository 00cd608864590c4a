"""How long starts took, kept from one to the next; and what a session tells of the steps of a start."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from rvtop.contract.snapshot import StartStep
from rvtop.contract.steps import step_line
from rvtop.lifecycle.start_times import StartTimes
from rvtop.session import events, load_target, own_servers
from rvtop.session.events import EventFeed
from rvtop.session.load_target import LoadTarget
from rvtop.session.request import SessionRequest
from rvtop.target.backend import BackendOptions
from rvtop.target.probe import TargetError, TargetInfo

RAC = BackendOptions("rac", models=("tiny=tiny",), arguments=("--threads", "1"))


def times(folder: Path, options: BackendOptions = RAC, node: str = "n1") -> StartTimes:
    return StartTimes(options, {"XDG_STATE_HOME": str(folder)}, node)


def start(folder: Path, total_s: float, options: BackendOptions = RAC) -> list[StartStep]:
    """One start with two steps that succeeds; the steps as they were handed on."""
    handed: list[StartStep] = []
    starts = times(folder, options)
    on_step = starts.watch(handed.append)
    for name, share in (("weights", 0.75), ("warm-up", 0.25)):
        on_step(StartStep(name, "run", 0.0))
        on_step(StartStep(name, "done", share * total_s))
    starts.keep(total_s)
    return handed


def test_nothing_is_expected_of_the_first_start(tmp_path: Path) -> None:
    assert times(tmp_path).expected_s is None
    assert [step.expected_s for step in start(tmp_path, 20.0)] == [None] * 4


def test_what_is_expected_is_the_median_of_the_last_five(tmp_path: Path) -> None:
    for total in (1000.0, 20.0, 40.0, 60.0, 8.0, 24.0):  # the first one is forgotten
        start(tmp_path, total)
    assert times(tmp_path).expected_s == 24.0
    steps = start(tmp_path, 99.0)
    assert [(s.name, s.state, s.expected_s) for s in steps] == [
        ("weights", "run", 18.0),
        ("weights", "done", 18.0),
        ("warm-up", "run", 6.0),
        ("warm-up", "done", 6.0),
    ]


@pytest.mark.parametrize(
    "other",
    [
        BackendOptions("rsc", models=RAC.models, arguments=RAC.arguments),
        BackendOptions("rac", models=("q3b=/models/q3b",), arguments=RAC.arguments),
        BackendOptions("rac", models=RAC.models, arguments=("--threads", "2")),
    ],
    ids=["topology", "models", "arguments"],
)
def test_another_way_of_starting_has_its_own_times(tmp_path: Path, other: BackendOptions) -> None:
    start(tmp_path, 20.0)
    assert times(tmp_path, other).expected_s is None
    assert times(tmp_path, node="n2").expected_s is None
    assert times(
        tmp_path, BackendOptions("rac", port=9, models=RAC.models, arguments=RAC.arguments)
    ).expected_s


def test_a_start_that_failed_is_not_kept(tmp_path: Path) -> None:
    starts = times(tmp_path)
    starts.watch(lambda step: None)(StartStep("weights", "done", 3.0))
    assert times(tmp_path).expected_s is None
    start(tmp_path, 20.0)
    assert len(list((tmp_path / "rvtop" / "starts").iterdir())) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"schema": 2, "starts": []}',
        '{"schema": 1, "starts": [{"total_s": -1, "steps": {}}]}',
        '{"schema": 1, "starts": [{"total_s": NaN, "steps": {}}]}',
        '{"schema": 1, "starts": [{"total_s": 1, "steps": []}]}',
        '{"schema": 1, "starts": 7}',
        "\xff",
    ],
)
def test_a_damaged_file_expects_nothing_and_is_written_anew(tmp_path: Path, text: str) -> None:
    start(tmp_path, 20.0)
    (file,) = (tmp_path / "rvtop" / "starts").iterdir()
    file.write_bytes(text.encode("latin-1"))
    assert times(tmp_path).expected_s is None
    start(tmp_path, 30.0)
    assert times(tmp_path).expected_s == 30.0
    assert len(json.loads(file.read_text())["starts"]) == 1


def test_where_nothing_can_be_written_a_start_goes_on(tmp_path: Path) -> None:
    (tmp_path / "rvtop").write_text("a file where the folder would be")
    assert [step.name for step in start(tmp_path, 20.0)] == ["weights"] * 2 + ["warm-up"] * 2
    assert times(tmp_path).expected_s is None


# -- what is told of them --------------------------------------------------------------------------


def test_the_seconds_of_a_running_step_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_000_000_000]
    monkeypatch.setattr(events, "perf_counter_ns", lambda: now[0])
    feed = EventFeed()
    feed.step(StartStep("ray", "done", 3.0))
    feed.step(StartStep("weights", "run", 1.5, expected_s=11.0))
    now[0] += 20_000_000_000
    assert [step.elapsed_s for step in feed.steps] == [3.0, 21.5]
    assert [step.is_late for step in feed.steps] == [False, False]
    now[0] += 1_000_000_000
    assert [step.is_late for step in feed.steps] == [False, True]


@pytest.mark.parametrize(
    ("steps", "failed"),
    [
        ([StartStep("ray", "done", 3.0), StartStep("weights", "run", 1.0)], "weights"),
        ([StartStep("ray", "fail", 3.0), StartStep("weights", "wait")], "ray"),
        ([StartStep("ray", "done", 3.0)], "start"),
        ([], "start"),
    ],
)
def test_the_log_of_a_failed_start_stands_at_the_step_that_failed(
    steps: list[StartStep], failed: str
) -> None:
    feed = EventFeed()
    for step in steps:
        feed.step(step)
    feed.start_failed(["one", "two"])
    assert [(step.name, step.log) for step in feed.steps if step.state == "fail"] == [
        (failed, ("one", "two"))
    ]
    assert not [step for step in feed.steps if step.state == "run"]


def test_a_plain_line_says_what_is_expected() -> None:
    assert step_line(StartStep("weights", "run", 0.0, "tiny", 11.25)).endswith("…  tiny  of ~11.2 s")
    assert step_line(StartStep("weights", "done", 9.0, "tiny", 11.25)).endswith("done  tiny")


# -- who keeps them --------------------------------------------------------------------------------


class FakeBackend:
    """Tells two steps; starts, or fails where ``error`` is set."""

    error: TargetError | None = None

    def __init__(self, options: BackendOptions, log: Path, on_step: Callable[[StartStep], None]) -> None:
        self.on_step = on_step
        self.url, self.models = "http://127.0.0.1:4242", ("tiny",)

    async def start(self) -> str:
        self.on_step(StartStep("weights", "run", 0.0))
        if self.error is not None:
            raise self.error
        self.on_step(StartStep("weights", "done", 2.0))
        return self.url

    async def wait(self) -> int:
        return await asyncio.get_running_loop().create_future()

    async def stop(self) -> None:
        pass

    def log_tail(self, lines: int = 5) -> str:
        return "\n".join(f"line {i}" for i in range(9 - lines, 9))


class FakeEnding:
    """Nothing stops the start."""

    stop = None

    async def unless_stopped(self, work: Awaitable[Any]) -> Any:
        return await work


async def session_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> EventFeed:
    """A session's start of a backend; what it told. Raises TargetError."""

    async def probed(url: str, transport: object) -> TargetInfo:
        return TargetInfo(url, ("tiny",), "rac", "hf")

    monkeypatch.setattr(own_servers, "Backend", FakeBackend)
    monkeypatch.setattr(load_target, "probe", probed)
    feed = EventFeed()
    request = SessionRequest(scenario=None, out=tmp_path / "run", backend=RAC)
    target = LoadTarget(request, feed, FakeEnding(), lambda: True)  # type: ignore[arg-type]
    try:
        await target.start_backend(())
        assert target.start_s is not None, "for environment.json"
    except TargetError:
        assert feed.steps[-1].log == tuple(f"line {i}" for i in range(4, 9))
        raise
    finally:
        await target.stop_watching()
        await target.servers.stop()
    return feed


async def test_a_session_keeps_how_long_its_backend_took_to_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for expected in (None, 2.0):
        feed = await session_starts(monkeypatch, tmp_path)
        assert [step.expected_s for step in feed.steps] == [expected]
    kept = StartTimes(RAC, {"XDG_STATE_HOME": str(tmp_path / "state")})
    assert kept.expected_s is not None
    monkeypatch.setattr(FakeBackend, "error", TargetError("rac did not start: no memory", 4))
    with pytest.raises(TargetError, match="no memory"):
        await session_starts(monkeypatch, tmp_path)
    (file,) = (tmp_path / "state" / "rvtop" / "starts").iterdir()
    assert len(json.loads(file.read_text())["starts"]) == 2


def test_a_server_that_was_ended_on_purpose_is_not_said_to_have_stopped_answering(tmp_path: Path) -> None:
    feed = EventFeed()
    request = SessionRequest(scenario=None, out=tmp_path / "run", backend=RAC)
    target = LoadTarget(request, feed, FakeEnding(), lambda: True)  # type: ignore[arg-type]
    target._say_silence("server stopped answering", "error")
    target.away = True
    target._say_silence("server stopped answering", "error")
    assert [(event.text, event.kind) for event in feed._events] == [("server stopped answering", "target")]
