"""A worker's sender and ticks in virtual time: hours of a plan take no time, and every date is exact."""

from __future__ import annotations

from pathlib import Path

import pytest

from rvtop.load.plan.schedule import NEVER, PhasePlan, PlanEvent
from rvtop.load.worker.reporter import Ticks
from tests.unit.sender_world import MS, S, World


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "hi", "max_tokens": 4}\n')
    return path


@pytest.mark.parametrize("can_schedule", [True, False])
def test_a_minute_is_sent_to_the_nanosecond_and_drains_with_its_last_answer(
    prompts: Path, can_schedule: bool
) -> None:
    world = World(prompts, PhasePlan("p", 10.0, 10.0, 60.0), can_schedule=can_schedule)
    world.sender.command(PlanEvent(S, "phase", 0))
    world.run(100 * S)
    times = [S + 100 * MS * number for number in range(600)]
    assert [record.intended_ns for record in world.sent] == times
    assert [record.sent_ns for record in world.sent] == times
    assert world.drained == [times[-1] + world.answer_ns]
    assert world.wire.due_ns == NEVER
    assert world.wire.delivers_now == [False]


def test_a_rate_that_comes_late_takes_back_what_was_scheduled(prompts: Path) -> None:
    world = World(prompts, PhasePlan("p", 1000.0, 1000.0))
    world.sender.command(PlanEvent(S, "phase", 0))
    # In the pipe 1 ms before its time, when the requests behind it were scheduled long since.
    change = PlanEvent(2 * S, "rate", 10.0)
    world.pending.append((change.at_ns - MS, change))
    world.run(3 * S)
    after = [record.intended_ns for record in world.sent if record.intended_ns >= change.at_ns]
    assert 9 <= len(after) <= 11
    assert [record.seq for record in world.sent] == list(range(len(world.sent)))
    assert all(record.sent_ns == record.intended_ns for record in world.sent)


def test_commands_are_applied_before_what_they_change_is_sent(prompts: Path) -> None:
    world = World(prompts, PhasePlan("p", 100.0, 100.0), can_schedule=False)
    world.sender.command(PlanEvent(S, "phase", 0))
    world.run(2 * S)
    world.pending.append((2 * S, PlanEvent(2 * S, "pause")))
    world.now_ns = 5 * S  # the loop was away
    world.sender.send()
    assert max(record.intended_ns for record in world.sent) < 2 * S


def test_a_closed_loop_sends_as_answers_come_and_stops_at_its_limit(prompts: Path) -> None:
    world = World(prompts, PhasePlan("p", concurrency=2, limit=7), answer_ns=500 * MS)
    world.sender.command(PlanEvent(S, "phase", 0))
    world.run(60 * S)
    assert [record.sent_ns - S for record in world.sent] == [500 * MS * (number // 2) for number in range(7)]
    assert world.drained == [S + 4 * 500 * MS]
    assert world.wire.delivers_now == [True]


def test_requests_beyond_max_in_flight_are_dropped(prompts: Path) -> None:
    world = World(prompts, PhasePlan("p", 10.0, 10.0, 1.0, max_in_flight=2), answer_ns=250 * MS)
    world.sender.command(PlanEvent(0, "phase", 0))
    world.run(10 * S)
    assert [record.intended_ns // MS for record in world.sent] == [0, 100, 300, 400, 600, 700, 900]
    assert [record.intended_ns // MS for record in world.dropped] == [200, 500, 800]
    assert {record.error for record in world.dropped} == {"dropped"}


def test_a_stop_ends_what_is_in_flight_and_what_was_scheduled(prompts: Path) -> None:
    world = World(prompts, PhasePlan("p", 100.0, 100.0))
    world.sender.command(PlanEvent(S, "phase", 0))
    world.run(2 * S)
    world.sender.command(PlanEvent(2 * S + 50 * MS, "stop"))
    world.run(60 * S)
    assert world.stops == [2 * S + 50 * MS]
    assert max(record.intended_ns for record in world.sent) < world.stops[0]
    assert (world.busy, world.wire.scheduled) == ({}, 0)


def test_a_sweep_comes_however_the_ticks_fall() -> None:
    """Turns of about 200 ms would else see odd ones alone, or even ones alone."""
    ticks, swept = Ticks(0, 1, 0), list[int]()
    for number in range(1, 9):
        ticks.advance(number * 200 * MS + 60 * MS)
        if ticks.sweep_due():
            swept.append(ticks.count)
    assert swept == [3, 5, 7, 9, 11, 13, 15, 17]


def test_ticks_lie_before_tenths_of_seconds_and_deltas_at_their_own(prompts: Path) -> None:
    ticks, told = Ticks(7 * S, 5, 7 * S), list[int]()
    for _ in range(40):
        ticks.advance(ticks.next_ns + 3 * MS)
        assert (ticks.next_ns - 7 * S) % (100 * MS) == 50 * MS
        if ticks.delta_due():
            told.append(ticks.next_ns - 7 * S - 50 * MS)
    assert told == [500 * MS * number for number in range(1, 9)]
