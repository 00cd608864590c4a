"""Every request of the plan is in requests.jsonl exactly once, whatever hands and limits did to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import rvtop.session.load_target
from rvtop.contract.command import NextPhase, Pause, Resume, SetRate, Stop
from rvtop.load.fleet.workers import Workers
from rvtop.load.plan.arrivals import Ramp
from rvtop.load.plan.schedule import PhasePlan, PlanEvent, Schedule
from rvtop.session import load_commands, load_run, player, rate_control
from rvtop.session.request import Outcome
from tests.faults.sessions import Watched, errors_of, request
from tests.mock.fast import any_mock
from tests.mock.process import MockProcess
from tests.unit.processes import wait_for


@pytest.fixture(scope="module")
def mock() -> Iterator[MockProcess]:
    with any_mock(ttft_ms=30, step_ms=10, tokens=8, models=("a", "b")) as running:
        yield running


@pytest.fixture
def slow_mock() -> Iterator[MockProcess]:
    """Its answers outlast a client that gets no CPU for a while."""
    with any_mock(ttft_ms=30, step_ms=40, tokens=8, models=("a", "b")) as running:
        yield running


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands are given to the workers a second ahead, not 50 ms: what a worker sent before it knew of one
    follows no log, and on a busy machine it may get no CPU for that long."""
    for module in (player, load_commands, load_run, rate_control):
        monkeypatch.setattr(module, "LEAD_NS", 1_000_000_000)


def plan_of(watched: Watched, workers: int) -> dict[int, tuple[str, int]]:
    """id -> (phase, intended_ns) of every request that the command log asks for, by the log alone."""
    commands = [entry for entry in watched.rows("commands.jsonl") if entry["cmd"] != "ended"]
    begun = [entry for entry in commands if entry["cmd"] == "phase"]
    fields = list(PhasePlan.__dataclass_fields__)
    phases = {entry["index"]: PhasePlan(**{name: entry[name] for name in fields}) for entry in begun}
    table = tuple(phases[index] for index in range(len(phases)))
    planned = {}
    for index in range(workers):
        schedule = Schedule(table, 7, index, workers)
        for entry in commands:
            for due in schedule.due(entry["at_ns"] - 1):
                planned[due.seq] = (table[due.phase].name, due.intended_ns)
            if entry["cmd"] not in ("cut", "stop"):
                value = entry["index"] if entry["cmd"] == "phase" else entry.get("value", 0.0)
                ramp = None
                if "over_s" in entry:
                    ramp = Ramp(entry["from"], entry["over_s"], entry["shape"] == "exponential")
                schedule.apply(PlanEvent(entry["at_ns"], entry["cmd"], value, ramp=ramp))
    return planned


def check(watched: Watched, outcome: Outcome, workers: int) -> list[dict[str, Any]]:
    """Plan, file, summary and screen agree, request for request."""
    rows = watched.rows()
    planned = plan_of(watched, workers)
    assert sorted(row["id"] for row in rows) == list(range(len(rows)))
    assert {row["id"]: (row["phase"], row["intended_ns"]) for row in rows} == planned
    assert {row["worker"] for row in rows} == set(range(workers))
    assert all(row["id"] % workers == row["worker"] for row in rows)
    assert outcome.summary is not None
    counted, errors = outcome.summary["requests"], Counter(row["error"] for row in rows)
    ok = errors.pop(None, 0)
    measured = [phase for phase in outcome.summary["phases"] if not phase["warmup"]]
    assert sum(phase["requests"]["planned"] for phase in outcome.summary["phases"]) == len(rows)
    if len(measured) == len(outcome.summary["phases"]):
        assert counted["planned"] == len(rows)
        assert (counted["ok"], counted["errors"]) == (ok, dict(errors))
        assert counted["sent"] == sum(row["sent_ns"] is not None for row in rows)
    last = watched.now
    assert (last.load.ok, errors_of(last)) == (ok, dict(errors))
    assert last.load.sent == sum(row["sent_ns"] is not None for row in rows)
    assert (last.load.in_flight, last.load.dropped) == (0, errors["dropped"])
    assert (
        sum(value or 0 for value in (row["output_tokens"] for row in rows if not row["error"]))
        == last.tokens.total
    )
    return rows


@pytest.fixture(autouse=True)
def two_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        rvtop.session.load_target, "choose_models", lambda info, wanted, unlisted: info.models
    )


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("workers", [1, 3])
async def test_hands_at_the_dial(slow_mock: MockProcess, tmp_path: Path, workers: int) -> None:
    """Rate changes, pauses, a phase ended by hand, drops, a cut drain, and a stop in the middle."""
    phases = (
        {"name": "warm", "rate": 50, "duration": "300ms", "warmup": True},
        {"name": "hands", "rate": 20, "duration": "10m", "arrivals": "poisson"},
        {"name": "full", "rate": 300, "duration": "400ms", "max_in_flight": 7},
        {"name": "cut", "rate": 100, "duration": "400ms", "drain": "0s"},
        {"name": "round", "rounds": {"sizes": [1, 9], "repeat": 2}},
        {"name": "last", "rate": 100, "duration": "10m", "arrivals": "gamma", "burstiness": 0.5},
        {"name": "never", "rate": 100, "duration": "1s"},
    )
    watched = Watched(request(slow_mock.url, tmp_path / "run", *phases, workers=Workers(workers), live=True))
    watched.send(SetRate(5.0))  # too early: nothing runs yet
    await watched.until(lambda s: s.phase and s.phase.name == "hands" and s.load.ok > 20, "phase hands")
    for rate in (200.0, 0.0, 400.0, 3.0, 150.0):
        sent = watched.now.load.sent
        watched.send(SetRate(rate))
        assert watched.now.load.target_rps == rate
        if rate > 100:
            await watched.until(lambda s, sent=sent: s.load.sent > sent + 10, f"{rate} rps")
    watched.send(SetRate(20.0, over_s=0.3, shape="exponential"))
    watched.send(SetRate(300.0, for_s=0.2))  # on the ramp, which goes on behind it
    await watched.until(lambda s: any("spike ends" in event.text for event in s.events), "the spike's end")
    watched.send(Pause())
    watched.send(Pause())
    watched.send(SetRate(250.0))
    assert (watched.now.state, watched.now.load.target_rps) == ("paused", 0.0)
    await watched.until(lambda s: s.load.in_flight == 0, "the pause")
    quiet = watched.now.load.sent
    watched.send(Resume())
    watched.send(Resume())
    await watched.until(lambda s: s.load.sent > quiet + 10, "the resume")
    watched.send(NextPhase())
    watched.send(NextPhase())  # the first is on its way
    await watched.until(lambda s: s.phase and s.phase.name == "last" and s.load.in_flight > 3, "phase last")
    watched.send(Stop())
    watched.send(SetRate(9.0))
    outcome = await watched.end()
    assert outcome.exit_code == 0
    rows = check(watched, outcome, workers)
    found = {
        name: Counter(r["error"] for r in rows if r["phase"] == name) for name in ("full", "cut", "last")
    }
    assert found["full"]["dropped"] > 0
    assert found["cut"]["unfinished"] > 0
    assert found["last"]["cancelled"] > 0
    bursts = Counter(row["phase"] for row in rows if row["phase"].startswith("round/"))
    assert bursts == {"round/n=1#1": 2, "round/n=1#2": 2, "round/n=9#1": 9, "round/n=9#2": 9}
    for name in ("round/n=1#1", "round/n=1#2"):
        assert {row["model"] for row in rows if row["phase"] == name} == {"a", "b"}
    assert not any(row["phase"] in ("never", "live") for row in rows)
    # The server saw what was sent, and nothing else: a request that was cut while it connected never came.
    sent = {f"rvtop-{row['id']}" for row in rows if row["sent_ns"] is not None}
    answered = {f"rvtop-{row['id']}" for row in rows if row["headers_ns"] is not None}
    wait_for(lambda: answered <= set(slow_mock.log().id), "the server to see the last ones go")
    assert set(slow_mock.log().id) <= sent


async def test_in_a_pause_nothing_is_sent_and_nothing_is_caught_up(mock: MockProcess, tmp_path: Path) -> None:
    watched = Watched(request(mock.url, tmp_path / "run", {"name": "p", "rate": 200, "duration": "10m"}))
    await watched.until(lambda s: s.load.ok > 50, "load")
    watched.send(Pause())
    await watched.until(lambda s: s.load.in_flight == 0, "the pause")
    watched.send(Resume())
    await watched.until(lambda s, n=watched.now.load.ok: s.load.ok > n + 50, "the resume")
    watched.send(Stop())
    outcome = await watched.end()
    rows = check(watched, outcome, 1)
    at = {entry["cmd"]: entry["at_ns"] for entry in watched.rows("commands.jsonl")}
    assert not [row for row in rows if at["pause"] < row["intended_ns"] < at["resume"]]
    after = sorted(row["intended_ns"] for row in rows if row["intended_ns"] >= at["resume"])
    assert {round((b - a) / 1e6) for a, b in pairwise(after)} == {5}


async def test_the_greatest_rate_is_never_exceeded(mock: MockProcess, tmp_path: Path) -> None:
    steady = {"name": "p", "rate": 10, "duration": "10m"}
    watched = Watched(request(mock.url, tmp_path / "run", steady, max_rate=40.0))
    await watched.until(lambda s: s.load.ok > 2, "load")
    for asked in (1e12, float("inf"), 1000.0, float("nan"), -5.0, 40.1):
        watched.send(SetRate(asked))
    assert watched.now.load.target_rps == 40.0
    watched.send(Stop())
    await watched.end()
    values = [entry["value"] for entry in watched.rows("commands.jsonl") if entry["cmd"] == "rate"]
    assert values == [40.0, 40.0, 40.0, 40.0]


async def test_a_limit_in_flight_that_cannot_be_shared_starts_nothing(
    mock: MockProcess, tmp_path: Path
) -> None:
    few = {"name": "hold", "rate": 10, "duration": "1s", "max_in_flight": 2}
    outcome = await Watched(request(mock.url, tmp_path / "run", few, workers=Workers(3))).end()
    assert outcome.exit_code == 2
    assert outcome.message.startswith("--workers 3: phase hold has max_in_flight 2, which is shared")
    assert not (tmp_path / "run").exists()


async def test_the_phases_run_out_and_the_summary_is_that_of_the_file(
    mock: MockProcess, tmp_path: Path
) -> None:
    phases = ({"name": "a", "rate": 50, "duration": "1s"}, {"name": "b", "rate": 0, "duration": "200ms"})
    watched = Watched(request(mock.url, tmp_path / "run", *phases, slo={"ttft_ms": 5000}))
    outcome = await watched.end()
    assert (outcome.exit_code, outcome.message) == (0, "")
    rows = check(watched, outcome, 1)
    assert len(rows) == 50
    assert outcome.summary is not None
    assert outcome.summary["kpm"]["completed_pct"] == 100.0
    assert outcome.summary["tokens"]["source"] == "usage"
    assert outcome.summary["tokens"]["output"] == 50 * 8
    # On a busy machine the last answers end after the phases do: their time counts.
    last_ns, first_ns = max(row["last_token_ns"] for row in rows), min(row["intended_ns"] for row in rows)
    elapsed_s = max(1.2, (last_ns - first_ns) / 1e9)
    assert outcome.summary["goodput_rps"] == pytest.approx(50 / elapsed_s, rel=0.01)
    assert watched.now.state == "done"
    states = [picture.state for picture in watched.seen]
    assert states[0] == "starting"
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {
        "scenario.yaml",
        "environment.json",
        "prompts.jsonl",
        "requests.jsonl",
        "commands.jsonl",
        "timeline.jsonl",
        "events.jsonl",
        "screen.jsonl.gz",
        "summary.json",
        "session.log",
    }


async def test_the_key_goes_to_the_server_and_nowhere_else(
    mock: MockProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RVTOP_API_KEY", "sk-very-secret")
    watched = Watched(request(mock.url, tmp_path / "run", {"name": "p", "rate": 20, "duration": "300ms"}))
    shown = repr(watched.now)
    outcome = await watched.end()
    assert outcome.exit_code == 0
    for path in (tmp_path / "run").iterdir():
        assert b"very-secret" not in path.read_bytes(), path.name
    assert "very-secret" not in shown + repr(watched.now) + repr(outcome)
