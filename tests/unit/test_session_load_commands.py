"""Lengths, SLO and cancels by command, while a session's load runs on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rvtop.contract.command import Cancel, CommandError, SetSlo, SetWorkload, Stop, Undo
from rvtop.load.fleet.workers import Workers
from rvtop.session.rate_control import Done
from tests.faults.sessions import Watched, request
from tests.mock.fast import any_mock
from tests.mock.process import MockProcess

PHASE = {"name": "a", "rate": 50, "duration": "10m", "drain": "5s"}


@pytest.fixture(scope="module")
def mock() -> Iterator[MockProcess]:
    with any_mock(ttft_ms=10, step_ms=2) as running:
        yield running


def rows(watched: Watched, name: str) -> list[dict[str, Any]]:
    return [row for row in watched.rows("commands.jsonl") if row["cmd"] == name]


async def done(answer: Done) -> Done:
    while answer.later is not None:
        answer = await answer.later
    return answer


async def follow(watched: Watched, command: Any) -> str:
    """Follows a command to its end, and lets the load answer some requests by it."""
    text = (await done(watched.session.commands.follow(command, "control"))).text
    ok = watched.now.load.ok
    await watched.until(lambda s: s.load.ok >= ok + 30, text)
    return text


async def test_lengths_change_at_their_time_and_back(mock: MockProcess, tmp_path: Path) -> None:
    watched = Watched(request(mock.url, tmp_path / "run", PHASE))
    await watched.until(lambda s: s.load.ok, "the load")
    assert await follow(watched, SetWorkload(max_tokens=3)) == (
        "prompts as the workload has them, answers of at most 3 tokens"
    )
    assert await follow(watched, SetWorkload(prompt_tokens=300)) == (
        "prompts of 300 tokens, answers of at most 3 tokens"
    )
    assert (await follow(watched, Undo())).startswith("undone: workload: prompts as the workload has them")
    assert await follow(watched, SetWorkload(0, 300)) == (
        "prompts of 300 tokens, answers as the workload has them"
    )
    assert len(list((tmp_path / "run").glob("prompts*.jsonl"))) == 2  # made once
    watched.send(Stop())
    outcome = await watched.end()
    assert outcome.exit_code == 0, outcome.message

    commands = rows(watched, "workload")
    assert [(row["prompt_tokens"], row["max_tokens"], row["prompts"]) for row in commands] == [
        (None, 3, 0),
        (300, 3, 1),
        (None, 3, 0),
        (300, None, 1),
    ]
    times = [row["at_ns"] for row in commands]
    wanted = [(False, 8), (False, 3), (True, 3), (False, 3), (True, 8)]
    requests = watched.rows()
    assert {row["error"] for row in requests} <= {None, "cancelled"}
    seen = set()
    for row in requests:
        if row["error"] is None:
            part = sum(row["intended_ns"] >= at for at in times)
            assert (row["prompt_tokens"] > 100, row["output_tokens"]) == wanted[part]
            seen.add(part)
    assert seen == {0, 1, 2, 3, 4}


async def test_a_shared_prefix_comes_and_goes(mock: MockProcess, tmp_path: Path) -> None:
    """Each request is of the prompts that its command asked for: with the prefix its prompt is longer."""
    watched = Watched(request(mock.url, tmp_path / "run", PHASE))
    await watched.until(lambda s: s.load.ok, "the load")
    with pytest.raises(
        CommandError, match="prefix_share: needs prefix_tokens, the length of a shared prefix"
    ):
        watched.session.commands.follow(SetWorkload(prefix_share=0.5), "control")
    assert await follow(watched, SetWorkload(prefix_tokens=400)) == (
        "prompts as the workload has them, shared prefix of 400 tokens, answers as the workload has them"
    )
    assert await follow(watched, SetWorkload(prefix_share=0.5)) == (
        "prompts as the workload has them, 50 % of them with a shared prefix of 400 tokens, "
        "answers as the workload has them"
    )
    assert (await follow(watched, Undo())).startswith("undone: workload: ")
    assert (await follow(watched, Undo())).startswith("undone: workload: ")
    assert await follow(watched, SetWorkload(prefix_share=0.0)) == (
        "prompts as the workload has them, no shared prefix, answers as the workload has them"
    )
    watched.send(Stop())
    outcome = await watched.end()
    assert outcome.exit_code == 0, outcome.message

    commands = rows(watched, "workload")
    assert [(row["prefix_tokens"], row["prefix_share"], row["prompts"]) for row in commands] == [
        (400, None, 1),
        (400, 0.5, 2),
        (400, None, 1),
        (None, None, 0),
        (None, 0.0, 3),
    ]
    times = [row["at_ns"] for row in commands]
    seen: dict[int, set[bool]] = {}
    for row in watched.rows():
        if row["error"] is None:
            part = sum(row["intended_ns"] >= at for at in times)
            seen.setdefault(part, set()).add(row["prompt_tokens"] > 200)
    assert seen == {0: {False}, 1: {True}, 2: {True, False}, 3: {True}, 4: {False}, 5: {False}}


async def test_what_lengths_cannot_be_is_one_line(mock: MockProcess, tmp_path: Path) -> None:
    workload = {"kind": "prompts", "file": str(tmp_path / "own.jsonl")}
    (tmp_path / "own.jsonl").write_text(
        '{"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}\n'
    )
    asked = request(mock.url, tmp_path / "run", PHASE, workload=workload, body={"max_completion_tokens": 9})
    watched = Watched(asked)
    with pytest.raises(CommandError, match="the load has not begun"):
        watched.session.commands.follow(SetWorkload(4), "control")
    await watched.until(lambda s: s.load.ok, "the load")
    for command, says in (
        (SetWorkload(), "needs one of max_tokens, prompt_tokens, prefix_tokens, prefix_share"),
        (SetWorkload(-1), "max_tokens must be from 1 to 10000000, or 0 for what the workload has"),
        (
            SetWorkload(None, 5),
            "prompt_tokens can be changed for a synthetic workload only, this one's kind is",
        ),
        (SetWorkload(prefix_share=0.0), "prefix_share can be changed for a synthetic workload only"),
        (SetWorkload(prefix_share=1.1), "prefix_share must be from 0 to 1"),
        (SetWorkload(5), "max_completion_tokens is a field that was given for every request"),
    ):
        with pytest.raises(CommandError, match=says):
            watched.session.commands.follow(command, "control")
    watched.send(Stop())
    assert (await watched.end()).exit_code == 0
    assert rows(watched, "workload") == []


async def test_goodput_counts_by_the_slo_in_force(mock: MockProcess, tmp_path: Path) -> None:
    watched = Watched(request(mock.url, tmp_path / "run", PHASE))
    await watched.until(lambda s: s.load.ok, "the load")
    assert watched.now.load.goodput_rps is None
    assert await follow(watched, SetSlo(60_000.0)) == "SLO: ttft ≤ 60000 ms"
    await watched.until(lambda s: (s.load.goodput_rps or 0) > 5, "goodput")
    assert watched.now.slo_ttft_ms == 60_000.0
    assert await follow(watched, SetSlo(e2e_ms=0.001)) == "SLO: e2e ≤ 0.001 ms"
    await watched.until(lambda s: s.load.goodput_rps == 0, "no goodput")
    assert await follow(watched, Undo()) == "undone: slo: SLO: ttft ≤ 60000 ms"
    with pytest.raises(CommandError, match="slo: tpot_ms must be more than 0 ms, got 0"):
        watched.session.commands.follow(SetSlo(tpot_ms=0.0), "control")
    watched.send(Stop())
    outcome = await watched.end()
    assert outcome.summary is not None

    limits = [(row["ttft_ms"], row["tpot_ms"], row["e2e_ms"]) for row in rows(watched, "slo")]
    assert limits == [(60_000.0, None, None), (None, None, 0.001), (60_000.0, None, None)]
    times = [row["at_ns"] for row in rows(watched, "slo")]
    ok = [row["intended_ns"] for row in watched.rows() if row["error"] is None]
    good = sum(times[0] <= at < times[1] or at >= times[2] for at in ok)
    assert 0 < good < len(ok)
    summary = outcome.summary
    assert summary["goodput_rps"] / summary["rate"]["completed_rps"] == pytest.approx(good / len(ok))


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_cancel_ends_what_is_in_flight_and_the_load_goes_on(tmp_path: Path, workers: int) -> None:
    with any_mock(ttft_ms=60_000) as slow:
        watched = Watched(request(slow.url, tmp_path / "run", PHASE, workers=Workers(workers)))
        await watched.until(lambda s: s.load.in_flight >= 20, "requests in flight")
        text = watched.session.commands.follow(Cancel(), "keyboard").text
        assert text.endswith("requests in flight are cancelled")
        await watched.until(lambda s: dict(s.load.errors).get("cancelled", 0) >= 20, "their end")
        sent = watched.now.load.sent
        await watched.until(lambda s: s.load.sent >= sent + 20, "the load goes on")
        watched.send(Stop())
        await watched.end()
    (cancel,) = rows(watched, "cancel")
    assert cancel["by"] == "keyboard"
    requests = watched.rows()
    by_command = "all in flight were cancelled by a command"
    early = [row["error_text"] for row in requests if row["intended_ns"] < cancel["at_ns"]]
    late = [row["error_text"] for row in requests if row["intended_ns"] >= cancel["at_ns"]]
    assert (len(early) >= 20, set(early)) == (True, {by_command})
    assert (len(late) >= 20, by_command in late) == (True, False)
