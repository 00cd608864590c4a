"""A closed loop by command: begun, made wider, left for a rate, taken back, recorded, refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rvtop.contract.command import CommandError, Pause, Record, Resume, SetConcurrency, SetRate, Stop, Undo
from rvtop.scenario.load import load_scenario
from tests.faults.sessions import Watched, request
from tests.mock.fast import any_mock
from tests.mock.process import MockProcess


@pytest.fixture(scope="module")
def mock() -> Iterator[MockProcess]:
    with any_mock(ttft_ms=10, step_ms=2) as running:
        yield running


def rows(watched: Watched, *names: str) -> list[dict[str, Any]]:
    return [row for row in watched.rows("commands.jsonl") if row["cmd"] in names]


def most_at_once(requests: list[dict[str, Any]]) -> int:
    """Of those that were sent and have ended: how many were under way at once."""
    steps = sorted(
        step
        for row in requests
        if row["error"] is None
        for step in ((row["sent_ns"], 1), (row["last_token_ns"], -1))
    )
    most = now = 0
    for _, by in steps:
        now += by
        most = max(most, now)
    return most


async def test_a_rate_becomes_a_closed_loop_and_a_rate_again(mock: MockProcess, tmp_path: Path) -> None:
    watched = Watched(request(mock.url, tmp_path / "run", {"name": "a", "rate": 20, "duration": "10m"}))
    follow = watched.session.commands.follow
    await watched.until(lambda s: s.load.ok, "the load")
    follow(Record(file=str(tmp_path / "again.yaml")), "control")
    with pytest.raises(CommandError, match="closed: must be from 1 to 100000 requests at once, got 0"):
        follow(SetConcurrency(0), "control")

    told = []
    for command, at_once in (
        (SetConcurrency(3), 3),
        (SetConcurrency(6), 6),
        (SetRate(25.0), 0),
        (Undo(), 6),
    ):
        ok = watched.now.load.ok
        told.append(follow(command, "control").text)
        seen = await watched.until(lambda s, ok=ok: s.load.ok >= ok + 20, told[-1])  # type: ignore[misc]
        assert seen.phase is not None
        assert seen.phase.concurrency == at_once
        assert seen.load.target_rps == (25.0 if at_once == 0 else None)
        if at_once:
            with pytest.raises(CommandError, match=f"{at_once} at once already"):
                follow(SetConcurrency(at_once), "control")
            with pytest.raises(CommandError, match="a closed loop has no rate to begin from"):
                follow(SetRate(30.0, over_s=2.0), "control")
    assert told == [
        "3 requests at once, a closed loop; the phase begins anew",
        "6 requests at once, a closed loop; the phase begins anew",
        "rate 25 rps; the phase begins anew",
        "undone: rate: 6 requests at once, a closed loop; the phase begins anew",
    ]

    follow(Pause(), "control")
    follow(SetConcurrency(2), "control")  # what is paused stays so
    await watched.until(lambda s: s.phase and s.phase.concurrency == 2, "the loop of 2")
    sent = (await watched.until(lambda s: not s.load.in_flight, "an empty server")).load.sent
    assert watched.now.state == "paused"
    follow(Resume(), "control")
    await watched.until(lambda s: s.load.sent >= sent + 10, "the load again")
    watched.send(Stop())
    outcome = await watched.end()
    assert outcome.exit_code == 0, outcome.message

    begun = rows(watched, "phase")
    assert [(row["name"], row["concurrency"], row["rate_to"], row["by"]) for row in begun] == [
        ("a", 0, 20.0, "scenario"),
        ("a#again-2", 3, 0.0, "control"),
        ("a#again-3", 6, 0.0, "control"),
        ("a#again-4", 0, 25.0, "control"),
        ("a#again-5", 6, 0.0, "control"),
        ("a#again-6", 2, 0.0, "control"),
    ]
    requests = watched.rows()
    assert len({row["id"] for row in requests}) == len(requests)
    for name, most in (("a#again-2", 3), ("a#again-3", 6), ("a#again-5", 6), ("a#again-6", 2)):
        assert most_at_once([row for row in requests if row["phase"] == name]) == most
    resumed_ns = rows(watched, "resume")[0]["at_ns"]
    assert all(row["intended_ns"] >= resumed_ns for row in requests if row["phase"] == "a#again-6")
    recorded = load_scenario(str(tmp_path / "again.yaml"))
    assert [phase.concurrency for phase in recorded.phases] == [None, 3, 6, None, 6, 2]


@pytest.mark.parametrize(
    ("phase", "why"),
    [
        ({"name": "r", "rounds": {"sizes": [2], "repeat": 500}}, "a round sends its requests at once"),
        ({"name": "m", "rate": 20, "duration": "10m", "max_in_flight": 4}, "the phase has max_in_flight 4"),
    ],
)
async def test_where_a_closed_loop_makes_no_sense(
    mock: MockProcess, tmp_path: Path, phase: dict[str, Any], why: str
) -> None:
    watched = Watched(request(mock.url, tmp_path / "run", phase))
    await watched.until(lambda s: s.load.ok, "the load")

    def refused() -> str:
        with pytest.raises(CommandError) as error:
            watched.session.commands.follow(SetConcurrency(5), "control")
        return str(error.value)

    while "drains" in (text := refused()):  # a round is over at once
        await watched.until(lambda s: s.state != "draining", "the next round")
    assert why in text
    watched.send(Stop())
    assert (await watched.end()).exit_code == 0
