"""Plain lines: what is missing is `--`, and every event is told once."""

from __future__ import annotations

import asyncio
import signal
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop

from rvtop.cli.options import SessionOptions, go
from rvtop.contract.command import Command, Stop
from rvtop.contract.snapshot import (
    Dist,
    Engine,
    Event,
    Latency,
    Load,
    Phase,
    ServerHist,
    Snapshot,
    StartStep,
    Target,
    Tokens,
)
from rvtop.plain import SIGNALS, Interrupts, Narrator, figures_line, kpm_table, result_lines, warnings_of
from rvtop.results import summary
from rvtop.session.request import Outcome, SessionRequest
from rvtop.session.session import Session
from rvtop.text import digits
from tests.unit.run_folder import make, phase, request

TARGET = Target("http://127.0.0.1:1", None, ("m",))
EMPTY = Snapshot(1, 0.0, 0.0, "running", "x", TARGET)


def test_missing_figures_are_dashes_and_never_zero() -> None:
    line = figures_line(EMPTY)
    assert "target -- rps  done --" in line
    assert "TTFT p50 -- p99 -- ms" in line
    assert "~-- tok/s" in line
    assert "running --  waiting --  KV -- %" in line
    assert "CLIENT-LIMITED" not in line


def test_a_line_of_a_busy_second() -> None:
    s = replace(
        EMPTY,
        t_s=75.4,
        phase=Phase("hold", 0, 1, 5.0, 60.0),
        load=Load(
            target_rps=48.0,
            completed_rps=47.55,
            in_flight=12,
            sent=900,
            ok=880,
            errors=(("reset", 3), ("dropped", 2)),
            client_limited="sends are late",
        ),
        latency=Latency(ttft=Dist(p50=51.04, p99=1234.5), server_ttft=ServerHist((1.0,), (1.0,), p50=3.0)),
        tokens=Tokens(per_s=15_360.0),
        engines=(
            Engine("0", running=3.0, waiting=0.0, kv_usage=0.25),
            Engine("1", running=1.0, kv_usage=0.5),
        ),
        figures={"running": 4.0, "waiting": 0.0, "kv_usage": 0.5, "preemptions": 2.0},
    )
    assert figures_line(s) == (
        "  01:15  hold      target 48 rps  done 47.5  in flight 12  ok 880  errors 5  "
        "TTFT p50 51 p99 1234 ms  ~15360 tok/s  running 4  waiting 0  KV 50 %  CLIENT-LIMITED"
    )


def test_figures_that_only_some_servers_have_stand_in_the_line_where_they_are_told() -> None:
    split = {"waiting_by_reason/capacity": 3.0, "waiting_by_reason/deferred": 0.0}
    split |= {"prompt_tokens_by_source/local_compute": 30.0, "prompt_tokens_by_source/local_cache_hit": 90.0}
    s = replace(EMPTY, figures={"fragmentation": 0.125, **split})
    assert figures_line(s).endswith(
        "running --  waiting --  KV -- %  frag 12.5 %  waiting for capacity 3  "
        "prompts from local_compute 25 % local_cache_hit 75 %"
    )
    assert figures_line(replace(s, target_down_s=4.0)).endswith("KV -- %  SERVER NOT ANSWERING 4 s")


def test_before_any_load_the_server_s_own_figures_are_shown_as_its_own() -> None:
    s = replace(EMPTY, latency=Latency(server_ttft=ServerHist((1.0,), (1.0,), p50=30.0, p99=99.0)))
    s = replace(s, tokens=Tokens(server_per_s=1500.0))
    assert "SERVER TTFT p50 30 p99 99 ms (estimates)  1500 tok/s" in figures_line(s)
    assert "SERVER" not in figures_line(replace(s, load=Load(sent=1)))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "--"),
        (0, "0"),
        (0.0, "0"),
        (0.1234, "0.123"),
        (12.34, "12.3"),
        (999.4, "999"),
        (123456, "123456"),
    ],
)
def test_three_digits_are_enough(value: float | None, text: str) -> None:
    assert digits(value) == text


def told(*snapshots: Snapshot) -> list[str]:
    lines: list[str] = []
    narrator = Narrator(lines.append)
    for snapshot in snapshots:
        narrator.look(snapshot)
    return lines


def test_steps_are_told_when_their_state_changes() -> None:
    def steps(*made: StartStep) -> Snapshot:
        return replace(EMPTY, steps=made)

    lines = told(
        steps(StartStep("weights", "run", 0.0, "tiny")),
        steps(StartStep("weights", "run", 1.0, "tiny")),
        steps(StartStep("weights", "done", 2.5), StartStep("warm-up", "wait")),
        steps(StartStep("weights", "done", 2.5), StartStep("warm-up", "fail", 1.0, "no memory")),
    )
    assert lines == [
        "  weights       0.0 s  …  tiny",
        "  weights       2.5 s  done",
        "  warm-up              waits",
        "  warm-up       1.0 s  FAILED  no memory",
    ]


def test_every_event_is_told_once_however_many_there_are() -> None:
    kept: deque[Event] = deque(maxlen=200)  # as a session keeps them
    pictures = []
    for number in range(950):
        kept.append(Event(float(number), f"event {number}"))
        if number % 7 == 0:
            pictures.append(replace(EMPTY, events=tuple(kept)))
    lines = told(*pictures, replace(EMPTY, events=tuple(kept)))
    assert [line.split("  ")[-1] for line in lines] == [f"event {number}" for number in range(950)]


def test_figures_come_every_five_seconds_of_a_phase() -> None:
    def at(t_s: float, name: str) -> Snapshot:
        return replace(EMPTY, t_s=t_s, phase=Phase(name, 0, 2, 0.0, None))

    lines = told(*(at(t / 10, "a") for t in range(120)), *(at(12 + t / 10, "b") for t in range(60)))
    assert [line.split()[:2] for line in lines] == [["00:05", "a"], ["00:10", "a"], ["00:17", "b"]]


@pytest.fixture
def measured(tmp_path: Any) -> dict[str, Any]:
    rows = [request(i, "p", 100 * i, lag=0, first=100, last=140, itl_hist=[[470, 4]]) for i in range(10)]
    return summary.summarise(make(tmp_path, rows, [phase("p", 0, 1)]))


def test_the_result_of_a_run(measured: dict[str, Any]) -> None:
    lines = result_lines(measured, "runs/x")
    text = "\n".join(lines)
    assert "TTFT ms  Latency_avg ms  Latency_total s  TPS tok/s  completed" in text
    assert "baseline      100             140             1.04       48.1    100.0 %" in text
    assert "requests 10 planned, 10 ok, errors: none" in text
    assert "ITL p50 10.9" in text
    assert "tokens: 100 in, 50 out" in text
    assert lines[-1] == "run folder: runs/x"


def test_gaps_between_merged_chunks_are_not_called_itl(measured: dict[str, Any]) -> None:
    measured["tokens"]["output"] = 100  # twice as many tokens as chunks
    assert "inter-chunk latency p50 10.9" in "\n".join(result_lines(measured, "x"))


def test_the_result_of_nothing_has_no_figures(tmp_path: Any) -> None:
    text = "\n".join(result_lines(summary.summarise(make(tmp_path, [], [], topology=None)), "x"))
    assert "target       --              --               --         --         --" in text
    assert "0 planned, 0 ok, errors: none" in text
    assert "tokens: -- in, -- out" in text


def test_counted_chunks_and_a_limited_client_are_said(tmp_path: Any) -> None:
    rows = [request(0, "p", 0, lag=90, first=100, last=140, token_source="chunks")]
    rows.append(request(1, "p", 0, lag=0, error="reset"))
    result = summary.summarise(make(tmp_path, rows, [phase("p", 0, 1)]))
    text = "\n".join(result_lines(result, "x"))
    assert "(counted chunks: the server gave no usage)" in text
    assert "errors: reset 1" in text
    (line,) = warnings_of(result)
    assert line.startswith("CLIENT-LIMITED: ")


@pytest.mark.parametrize("ui", ["plain", "none"])
def test_how_a_run_ended_and_a_limited_client_are_lines_on_stderr(
    measured: dict[str, Any],
    ui: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    measured |= {"client_limited": True, "client": {"limited_by": "sends are late"}}
    outcome = Outcome(5, "load worker 0 died (killed by SIGKILL); 2 requests in flight lost", measured)
    monkeypatch.setattr("rvtop.plain.run_plain", lambda request, quiet: outcome)
    assert go(SessionRequest(None, tmp_path, url="http://x"), ui, SessionOptions(), yes=True) == 5
    out, err = capsys.readouterr()
    assert err.splitlines() == ["rvtop: CLIENT-LIMITED: sends are late", f"rvtop: {outcome.message}"]
    assert bool(out) == (ui == "plain")


class FakeSession:
    """Notes what an interrupt does to it."""

    def __init__(self) -> None:
        self.did: list[str] = []

    def command(self, command: Command, by: str) -> None:
        assert (command, by) == (Stop("interrupted"), "signal")
        self.did.append("stop")

    def kill(self) -> None:
        self.did.append("kill")


@pytest.mark.parametrize(
    ("times", "did"),
    [
        ([0.0], ["stop"]),
        ([0.0, 0.001], ["stop"]),
        ([0.0, 0.05, 0.1, 0.15, 0.2], ["stop"]),
        ([0.0, 0.4, 0.8, 1.2], ["stop", "kill"]),
        ([0.0, 2.0], ["stop", "kill"]),
        ([0.0, 2.0, 2.1, 4.0, 6.0], ["stop", "kill"]),
    ],
)
def test_interrupts_close_together_are_one_and_a_later_one_waits_no_more(
    times: list[float], did: list[str]
) -> None:
    session, lines = FakeSession(), list[str]()
    now = [0.0]
    interrupts = Interrupts(cast(Session, session), lines.append, lambda: now[0])
    for at in times:
        now[0] = at
        interrupts.take()
    assert session.did == did
    assert len(lines) == len(did)


def test_after_a_session_signals_are_heard_as_before() -> None:
    """uvloop's handlers outlive its loop: between the sessions of a showdown nobody would hear Ctrl-C."""
    before = [signal.getsignal(name) for name in SIGNALS]

    async def session() -> None:
        interrupts = Interrupts(cast(Session, FakeSession()), lambda line: None)
        interrupts.listen(asyncio.get_running_loop())
        assert [signal.getsignal(name) for name in SIGNALS] != before
        interrupts.hand_over(asyncio.get_running_loop())

    uvloop.run(session())
    assert [signal.getsignal(name) for name in SIGNALS] == before


def test_what_is_ignored_stays_ignored() -> None:
    """A run under nohup goes on when its terminal is closed."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)

    async def session() -> None:
        interrupts = Interrupts(cast(Session, FakeSession()), lambda line: None)
        interrupts.listen(asyncio.get_running_loop())
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        interrupts.hand_over(asyncio.get_running_loop())

    try:
        uvloop.run(session())
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_runs_stand_under_each_other(measured: dict[str, Any]) -> None:
    lines = kpm_table({"rac": measured, "rvc + prefix cache": measured}).split("\n")
    assert len({len(line) for line in lines}) == 1
    assert [line.split("  ")[0] for line in lines[1:]] == ["rac", "rvc + prefix cache"]
