"""Sessions with closed loops, conversations, cancellations, traces, more workers and a search, end to end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from rvtop.contract.command import SetRate, Stop
from rvtop.load.fleet.autoscale import Autoscale
from rvtop.load.fleet.workers import Workers
from rvtop.plain import result_lines
from rvtop.scenario.load import scenario_from
from rvtop.session.request import SessionRequest
from rvtop.session.search import SearchOptions, parse_slo
from tests.faults.sessions import Watched, request
from tests.mock.fast import any_mock
from tests.mock.faulty import FaultyServer
from tests.mock.process import MockProcess
from tests.unit.processes import wait_for


@pytest.fixture(scope="module")
def mock() -> Iterator[MockProcess]:
    with any_mock(ttft_ms=30, step_ms=10, tokens=8) as running:
        yield running


@pytest.fixture
async def faulty() -> AsyncIterator[FaultyServer]:
    async with FaultyServer() as running:
        yield running


def most_at_once(rows: list[dict[str, Any]]) -> int:
    """Most requests in flight at one time."""
    edges = [(row["sent_ns"], 1) for row in rows] + [(row["last_token_ns"], -1) for row in rows]
    level = most = 0
    for _, change in sorted(edges):
        level += change
        most = max(most, level)
    return most


@pytest.mark.parametrize("workers", [1, 3])
async def test_a_closed_loop_holds_its_concurrency(mock: MockProcess, tmp_path: Path, workers: int) -> None:
    phases = (
        {"name": "first", "rate": 50, "duration": "200ms"},
        {"name": "some", "concurrency": 5, "requests": 43},
        {"name": "time", "concurrency": 4, "duration": "600ms"},
        {"name": "few", "concurrency": 1, "requests": 2},
        {"name": "last", "rounds": {"sizes": [6]}},
    )
    watched = Watched(request(mock.url, tmp_path / "run", *phases, workers=Workers(workers)))
    await watched.until(lambda s: s.phase and s.phase.name == "some", "a loop")
    watched.send(SetRate(100.0))  # it has no rate, nor a time in which it could have one
    outcome = await watched.end()
    assert outcome.exit_code == 0, outcome.message
    assert any("closed loop has no rate" in event.text for event in watched.now.events)
    rows = watched.rows()
    assert len({row["id"] for row in rows}) == len(rows)
    by_phase = {name: [r for r in rows if r["phase"] == name] for name in ("some", "time", "few")}
    assert len(by_phase["some"]) == 43
    assert most_at_once(by_phase["some"]) == 5
    assert most_at_once(by_phase["time"]) == 4
    assert len(by_phase["time"]) > 4  # as one ends, the next one begins
    assert len(by_phase["few"]) == 2
    assert [r["phase"] for r in rows].count("last/n=6#1") == 6
    assert {row["error"] for row in rows} == {None}
    assert outcome.summary is not None
    assert outcome.summary["requests"]["planned"] == len(rows)


async def test_failures_in_a_closed_loop_do_not_hammer(faulty: FaultyServer, tmp_path: Path) -> None:
    closed = {"name": "closed", "concurrency": 3, "duration": "1s"}
    watched = Watched(request(faulty.url("http_500"), tmp_path / "run", closed))
    outcome = await watched.end()
    assert outcome.summary is not None
    assert set(outcome.summary["requests"]["errors"]) == {"http_500"}
    assert 3 <= outcome.summary["requests"]["errors"]["http_500"] <= 3 * 11  # a slot rests 100 ms after each


async def test_a_conversation_carries_what_was_said(faulty: FaultyServer, tmp_path: Path) -> None:
    prompts = tmp_path / "talks.jsonl"
    recorded = {"role": "assistant", "content": "as recorded"}
    rows = [
        {
            "id": "own",
            "messages": [{"role": "user", "content": "one"}],
            "turns": [
                {"messages": [{"role": "user", "content": "two"}], "max_tokens": 3, "delay_s": 0.1},
                {"messages": [{"role": "user", "content": "three"}]},
            ],
        },
        {
            "id": "recorded",
            "messages": [{"role": "user", "content": "eins"}],
            "turns": [{"messages": [recorded, {"role": "user", "content": "zwei"}]}],
        },
    ]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {
        "name": "talks",
        "workload": {"kind": "prompts", "file": str(prompts), "max_tokens": 4},
        "phases": [{"name": "p", "concurrency": 1, "requests": 2}],
    }
    url = faulty.url("good").partition("/good")[0]
    watched = Watched(SessionRequest(scenario_from(data, "test"), tmp_path / "run", url=url))
    outcome = await watched.end()
    assert outcome.exit_code == 0, outcome.message
    bodies = [body for method, _, _, body in faulty.heard if method == "POST"]
    said = [[message["content"] for message in body["messages"]] for body in bodies]
    answers = {body["messages"][1]["content"] for body in bodies[1:3]}
    (answer,) = answers
    assert answer.strip()  # the model's own words
    assert said[:2] == [["one"], ["one", answer, "two"]]
    assert said[2][:3] == ["one", answer, "two"]
    assert said[2][4] == "three"
    assert said[3:] == [["eins"], ["eins", "as recorded", "zwei"]]
    assert [body["max_tokens"] for body in bodies] == [4, 3, 4, 4, 4]
    lines = watched.rows()
    assert [(row["prompt"], row["turn"]) for row in lines] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    assert len({row["id"] for row in lines}) == 5
    waited = lines[1]["intended_ns"] - lines[0]["last_token_ns"]
    assert waited >= 100_000_000


async def test_a_share_is_given_up_and_is_the_same_share_each_time(tmp_path: Path) -> None:
    with any_mock(ttft_ms=1000, step_ms=10, tokens=8) as mock:  # no answer ends before it can be given up
        await given_up_twice(mock, tmp_path)


async def given_up_twice(mock: MockProcess, tmp_path: Path) -> None:
    phase = {"name": "p", "rate": 100, "duration": "500ms", "cancel": {"share": 0.4, "after": "40ms"}}
    given_up = []
    for run in ("a", "b"):
        before = len(mock.log())
        watched = Watched(request(mock.url, tmp_path / run, phase, workers=Workers(2)))
        outcome = await watched.end()
        assert outcome.exit_code == 0
        rows = watched.rows()
        assert len(rows) == 50
        given_up.append({row["id"] for row in rows if row["error"] == "cancelled"})
        cut = len(given_up[-1])
        wait_for(lambda: Counter(mock.log().end[before:])["cut"] == cut, "the server to see them go")  # noqa: B023
    assert given_up[0] == given_up[1]
    assert 5 < len(given_up[0]) < 35


async def test_a_trace_is_sent_at_its_times_and_ends_with_its_last(mock: MockProcess, tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    times = [0, 100, 100, 250, 600]
    trace.write_text(
        "".join(
            json.dumps({"timestamp": t, "input_length": 20 + i, "output_length": 2 + i, "hash_ids": [i]})
            + "\n"
            for i, t in enumerate(times)
        )
    )
    data = {
        "name": "trace",
        "workload": {"kind": "trace", "file": str(trace), "format": "mooncake"},
        "phases": [{"name": "replay", "trace": {"speed": 2}}],
    }
    watched = Watched(
        SessionRequest(scenario_from(data, "test"), tmp_path / "run", url=mock.url, workers=Workers(2))
    )
    outcome = await watched.end()
    assert outcome.exit_code == 0, outcome.message
    rows = sorted(watched.rows(), key=lambda row: row["prompt"])
    first = rows[0]["intended_ns"]
    assert [round((row["intended_ns"] - first) / 1e6) for row in rows] == [t // 2 for t in times]
    assert [row["prompt"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row["output_tokens"] for row in rows] == [2, 3, 4, 5, 6]


async def test_a_worker_that_joins_takes_its_share_and_nothing_is_sent_twice(
    mock: MockProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Autoscale, "look", lambda self, workers, cpu, lag: "the test says so" if workers < 3 else None
    )
    phases = ({"name": "p", "rate": 200, "duration": "10m"},)
    watched = Watched(request(mock.url, tmp_path / "run", *phases, workers=Workers(1, auto=True), live=True))
    await watched.until(lambda s: sum("joins" in event.text for event in s.events) == 2, "two more")
    sent = watched.now.load.sent
    await watched.until(lambda s: s.load.sent > sent + 100, "the load goes on")
    watched.send(Stop())
    await watched.end()
    rows = watched.rows()
    ids = sorted(row["id"] for row in rows)
    assert ids == list(range(len(ids)))
    assert {row["worker"] for row in rows} == {0, 1, 2}


async def test_a_search_shows_its_curve_and_says_what_holds(mock: MockProcess, tmp_path: Path) -> None:
    options = SearchOptions(
        parse_slo("ttft_mean=5000,tpot_mean=5000"), start_rps=40, max_rps=80, step_s=0.3, hold_s=0.5
    )
    phases = ({"name": "ignored", "rate": 1, "duration": "1s"},)
    strict = {"ttft_p99_ms": 0.001}  # of the scenario: a search does not judge by it
    watched = Watched(request(mock.url, tmp_path / "run", *phases, search=options, thresholds=strict))
    outcome = await watched.end()
    assert outcome.exit_code == 0, outcome.message
    assert outcome.summary is not None
    found = outcome.summary["find_max"]
    assert found["rps"] == 80
    assert [(step["rps"], step["held"], step["confirms"]) for step in found["curve"]] == [
        (40, True, False),
        (80, True, False),
        (80, True, True),
    ]
    assert [phase["name"].split()[0] for phase in outcome.summary["phases"]] == [
        "find-1",
        "find-2",
        "confirm-3",
    ]
    said = [event.text for event in watched.now.events]
    assert sum("rps holds" in text for text in said) == 3
    assert said[0] == "--find-max sends the workload of test and ignores the scenario's phases and thresholds"
    assert found["capped"]
    assert "find-max: 80 rps, the most that --max-rate allows, holds the SLO" in said
    assert [step["limited_by"] for step in found["curve"]] == [None] * 3


async def test_a_search_that_finds_nothing_is_exit_code_1(
    mock: MockProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rvtop.session.find_max.limited_since", lambda *_: "the test says so: add workers")
    options = SearchOptions(parse_slo("ttft_p50=0.001"), start_rps=0.1, step_s=0.05, hold_s=0.05)
    phases = ({"name": "ignored", "rate": 1, "duration": "1s"},)
    watched = Watched(request(mock.url, tmp_path / "run", *phases, search=options))
    outcome = await watched.end()
    assert outcome.exit_code == 1
    assert outcome.message == "--find-max: no rate holds the SLO (error_rate ≤ 0.01, ttft_p50 ≤ 0.001)"
    assert outcome.summary is not None
    curve = outcome.summary["find_max"]["curve"]
    assert curve
    assert all("add workers" in step["limited_by"] for step in curve)
    said = [event.text for event in watched.now.events if "misses" in event.text]
    assert [text.partition("; client-limited: ")[2] for text in said] == [s["limited_by"] for s in curve]
    shown = result_lines(outcome.summary, "x")
    assert sum("misses (client-limited)" in row for row in shown) == len(curve)
    assert any(row.startswith("the server may hold more: CLIENT-LIMITED at 0.05 rps: ") for row in shown)
