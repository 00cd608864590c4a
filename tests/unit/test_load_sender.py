"""A worker's sender and ticks in virtual time: hours of a plan take no time, and every date is exact."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rvtop.load.plan.prompts import Prompts
from rvtop.load.plan.schedule import NEVER, PhasePlan, PlanEvent
from rvtop.load.wire.endpoint import Address, Endpoint
from rvtop.load.wire.record import Record
from rvtop.load.worker.messages import WorkerSpec
from rvtop.load.worker.reporter import Ticks
from rvtop.load.worker.sender import Sender

MS = 1_000_000
S = 1_000_000_000


class FakeWire:
    """Sends what was scheduled at its time, and wakes the sender at the time that it set."""

    def __init__(self, *, can_schedule: bool) -> None:
        self.can_schedule = can_schedule
        self.due_ns = NEVER
        self.waiting: list[Record] = []
        self.delivers_now: list[bool] = []
        self.deliver_now = self.delivers_now.append

    @property
    def scheduled(self) -> int:
        return len(self.waiting)

    def set_due(self, at_ns: int) -> None:
        self.due_ns = at_ns

    def schedule(self, record: Record, request: bytes, intended_ns: int) -> None:
        assert record.intended_ns == intended_ns
        self.waiting.append(record)

    def unschedule(self, from_ns: int) -> int | None:
        gone = [record.intended_ns for record in self.waiting if record.intended_ns >= from_ns]
        self.waiting = [record for record in self.waiting if record.intended_ns < from_ns]
        return min(gone, default=None)


class World:
    """A sender, its pool, a server that answers each request after ``answer_ns``, and the time."""

    def __init__(
        self, prompts: Path, *phases: PhasePlan, can_schedule: bool = True, answer_ns: int = 300 * MS
    ) -> None:
        address = Address("http://127.0.0.1:9")
        spec = WorkerSpec(0, 1, 0, 3, address, str(prompts), ("m",), {}, phases)
        self.now_ns = 0
        self.answer_ns = answer_ns
        self.wire = FakeWire(can_schedule=can_schedule)
        self.busy: dict[Record, None] = {}
        self.most = 0
        self.ends: list[tuple[int, int, Record]] = []
        self.sent: list[Record] = []
        self.dropped: list[Record] = []
        self.drained: list[int] = []
        self.stops: list[int] = []
        self.pending: list[tuple[int, PlanEvent]] = []  # commands, by when they are in the pipe
        self.sender = Sender(
            spec,
            Prompts(prompts, spec.models, spec.body),
            Endpoint(address),
            self,  # type: ignore[arg-type]
            on_dropped=self.dropped.append,
            on_drained=self.drained.append,
            on_stop=lambda: self.stops.append(self.now_ns),
            poll_commands=self._poll_commands,
            clock=lambda: self.now_ns,
        )

    def _poll_commands(self) -> None:
        while self.pending and self.pending[0][0] <= self.now_ns:
            self.sender.command(self.pending.pop(0)[1])

    # -- as a ConnectionPool ------------------------------------------------------------------

    def submit(self, record: Record, request: bytes) -> None:
        record.sent_ns = self.now_ns
        self.busy[record] = None
        self.sent.append(record)
        heapq.heappush(self.ends, (self.now_ns + self.answer_ns, record.seq, record))

    def cancel(self, record: Record, kind: str, text: str) -> None:
        if record in self.busy:
            record.fail(kind, text)
            self._end(record)

    def cancel_all(self, kind: str, text: str) -> None:
        self.wire.unschedule(0)
        for record in list(self.busy):
            self.cancel(record, kind, text)

    def register_sent(self) -> None:
        pass

    reap = register_sent

    def _end(self, record: Record) -> None:
        del self.busy[record]
        if self.sender.slots.size or self.sender.talks:
            self.sender.follow_up(record)
        if not (self.busy or self.sender.sending):
            self.sender.check_drained(self.now_ns)

    # -- time ---------------------------------------------------------------------------------

    def run(self, until_ns: int) -> None:
        """Lets everything happen that comes before ``until_ns``."""
        while True:
            self.ends = [end for end in self.ends if end[2] in self.busy]
            heapq.heapify(self.ends)
            steps: list[tuple[int, Callable[[], Any]]] = [(self.wire.due_ns, self.sender.send)]
            if self.wire.waiting:
                first = min(self.wire.waiting, key=lambda record: record.intended_ns)
                steps.append((first.intended_ns, lambda first=first: self._send_scheduled(first)))
            if self.ends:
                steps.append((self.ends[0][0], lambda: self._end(self.ends[0][2])))
            if self.pending:
                steps.append((self.pending[0][0], self._poll_commands))
            at_ns, step = min(steps, key=lambda one: one[0])
            if at_ns >= until_ns:
                self.now_ns = until_ns
                return
            self.now_ns = max(self.now_ns, at_ns)
            if step == self.sender.send:
                self.wire.due_ns = NEVER  # it is called once
            step()

    def _send_scheduled(self, record: Record) -> None:
        self.wire.waiting.remove(record)
        self.submit(record, b"")


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
