"""A load worker in this process: what it tells, when, and that waiting costs it nothing."""

from __future__ import annotations

import asyncio
import json
import os
import resource
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import pytest

from rvtop.load.plan.prompts import Prompts
from rvtop.load.plan.schedule import NEVER, PhasePlan, PlanEvent, Schedule
from rvtop.load.wire.endpoint import Address, Endpoint
from rvtop.load.wire.native_wire import NativeWire
from rvtop.load.wire.record import Record
from rvtop.load.worker.messages import Delta, WorkerSpec
from rvtop.load.worker.sender import POLL_NS
from rvtop.load.worker.worker import QUIET_TICKS, Worker
from rvtop.session.player import LEAD_NS
from tests.mock.faulty import FaultyServer

MS = 1_000_000


class Bench:
    """A worker, the deltas that it emitted and the arms of its timer."""

    def __init__(
        self, server: FaultyServer, fault: str, prompts: Path, *phases: PhasePlan, **more: Any
    ) -> None:
        base = server.url("good").partition("/good")[0]
        address = Address(base, f"/{fault}/v1/chat/completions")
        spec = WorkerSpec(0, 1, perf_counter_ns(), 3, address, str(prompts), ("m",), {}, phases, **more)
        self.spec = spec
        self.deltas: list[Delta] = []
        self.stopped = 0
        prepared = Prompts(prompts, spec.models, spec.body)
        self.pipe: list[PlanEvent] = []  # commands that have come while the loop was elsewhere
        self.worker = Worker(
            spec, prepared, Endpoint(address), self.deltas.append, self._stop, self._poll_commands
        )
        self._bell, self._ring = os.pipe()
        self.worker.watch(self._bell, self._hear)
        self.armed = 0
        self.scheduled: list[tuple[int, Record]] = []  # when a request was made ready, and which one
        wire = self.worker._wire
        due, schedule = wire.set_due, wire.schedule

        def counted(at_ns: int) -> None:
            self.armed += at_ns < NEVER
            due(at_ns)

        def noted(record: Record, request: bytes, intended_ns: int) -> None:
            self.scheduled.append((perf_counter_ns(), record))
            schedule(record, request, intended_ns)

        wire.set_due, wire.schedule = counted, noted  # type: ignore[method-assign]

    def _poll_commands(self) -> None:
        while self.pipe:
            self.worker.command(self.pipe.pop(0))

    def _hear(self) -> None:
        os.read(self._bell, 100)
        self._poll_commands()

    def pipe_in(self, entry: PlanEvent) -> None:
        """A command that the loop has not read yet."""
        self.pipe.append(entry)
        os.write(self._ring, b"x")

    def close(self) -> None:
        self.worker.close()
        os.close(self._bell)
        os.close(self._ring)

    def _stop(self) -> None:
        self.stopped += 1

    def enter(self, kind: Any, value: float = 0.0, in_ms: float = 0.0) -> int:
        """A line of the command log, to take effect in ``in_ms``; returns when."""
        at = perf_counter_ns() + round(in_ms * MS)
        self.worker.command(PlanEvent(at, kind, value))
        return at

    async def until(self, true: Callable[[], object]) -> None:
        async with asyncio.timeout(240):
            while not true():
                await asyncio.sleep(0.005)

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for delta in self.deltas for line in delta.lines.splitlines()]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"messages":[{"role":"user","content":"hi"}]}\n')
    return path


@pytest.fixture
async def benches() -> AsyncIterator[list[Bench]]:
    made: list[Bench] = []
    yield made
    for bench in made:
        bench.close()
    await asyncio.sleep(0.01)


@pytest.fixture
async def server() -> AsyncIterator[FaultyServer]:
    async with FaultyServer() as running:
        yield running


def check_sums(bench: Bench) -> None:
    """What the deltas count is what the lines say."""
    last = bench.deltas[-1]
    assert last.intended == last.done + last.in_flight
    assert last.done == len(bench.rows)
    failed = sum(sum(delta.errors.values()) for delta in bench.deltas)
    assert sum(delta.ok for delta in bench.deltas) + failed == last.done
    assert sum(delta.in_flight_by_model[0] for delta in bench.deltas[-1:]) == last.in_flight


async def test_a_drained_phase_is_told_at_once(
    server: FaultyServer, prompts: Path, benches: list[Bench]
) -> None:
    bench = Bench(server, "good", prompts, PhasePlan("p", burst=3, drain_s=None))
    benches.append(bench)
    at = bench.enter("phase")
    await bench.until(lambda: bench.deltas and bench.deltas[-1].done == 3)
    told = next(delta for delta in bench.deltas if delta.done == 3)
    assert (told.phase, told.in_flight, told.intended, told.sent) == (0, 0, 3, 3)
    assert told.t_ns > at
    check_sums(bench)
    assert [row["intended_ns"] for row in bench.rows] == [at - bench.spec.t0_ns] * 3
    assert {row["error"] for row in bench.rows} == {None}


async def test_waiting_for_the_drain_costs_nothing(
    server: FaultyServer, prompts: Path, benches: list[Bench]
) -> None:
    """The timer of sends is not set again and again while the last answers are awaited."""
    bench = Bench(server, "never_answers", prompts, PhasePlan("p", 50.0, 50.0, 0.1, drain_s=None))
    benches.append(bench)
    bench.enter("phase")
    await bench.until(lambda: bench.deltas and bench.deltas[-1].intended == 5)
    armed, ticks = bench.armed, bench.worker._ticks.count
    await bench.until(lambda: bench.worker._ticks.count >= ticks + 5)
    assert bench.armed - armed <= 2 * (bench.worker._ticks.count - ticks)
    assert bench.deltas[-1].in_flight == 5
    bench.enter("cut")
    await bench.until(lambda: bench.deltas[-1].done == 5)
    check_sums(bench)
    assert {row["error"] for row in bench.rows} == {"unfinished"}


async def test_after_a_stop_nothing_is_sent_any_more(
    server: FaultyServer, prompts: Path, benches: list[Bench]
) -> None:
    """Also not what came due while the loop was away: nobody would hear of it."""
    bench = Bench(server, "never_answers", prompts, PhasePlan("p", 200.0, 200.0))
    benches.append(bench)
    bench.enter("phase")
    await bench.until(lambda: bench.deltas and bench.deltas[-1].sent > 10)
    bench.enter("stop")
    until = perf_counter_ns() + 50 * MS
    while perf_counter_ns() < until:
        pass  # the stop and ten sends are due by now
    await bench.until(lambda: bench.stopped)
    check_sums(bench)
    planned = bench.worker._reporter.intended
    await asyncio.sleep(0.3)
    assert bench.worker._reporter.intended == planned == len(bench.rows)
    assert bench.stopped == 1
    assert {row["error"] for row in bench.rows} == {"cancelled"}
    stop = bench.deltas[-1].t_ns - bench.spec.t0_ns
    assert max(row["intended_ns"] for row in bench.rows) < stop


@pytest.mark.parametrize("can_schedule", [True, False])
async def test_a_command_is_heard_before_what_it_changes_is_sent(
    server: FaultyServer,
    prompts: Path,
    benches: list[Bench],
    can_schedule: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The loop was away: what is to be sent comes first, but the pause is in the pipe already."""
    if not can_schedule:  # as without C
        monkeypatch.setattr(NativeWire, "can_schedule", False)
    bench = Bench(server, "good", prompts, PhasePlan("p", 1000.0, 1000.0))
    benches.append(bench)
    bench.enter("phase")
    await bench.until(lambda: bench.deltas and bench.deltas[-1].sent > 10)
    at = perf_counter_ns() + 10 * MS
    bench.pipe_in(PlanEvent(at, "pause"))
    while perf_counter_ns() < at + 50 * MS:
        pass
    if not can_schedule:
        bench.worker._wire.turn.on_due()  # as a read by asyncio does, which nothing comes before
    await bench.until(lambda: bench.deltas[-1].t_ns > at + 100 * MS and not bench.deltas[-1].in_flight)
    check_sums(bench)
    last = max(row["intended_ns"] for row in bench.rows) + bench.spec.t0_ns
    assert at - 2 * MS < last <= at


async def test_no_more_are_made_ready_than_can_be_taken_back(
    server: FaultyServer, prompts: Path, benches: list[Bench]
) -> None:
    bench = Bench(server, "good", prompts, PhasePlan("p", 1e6, 1e6))
    benches.append(bench)
    if not bench.worker._wire.can_schedule:
        pytest.skip("without the read path in C nothing is scheduled")
    # In an hour: of what is due now, the worker's own loop would send more than it can while the test ends.
    begin = perf_counter_ns() + 3600 * 1000 * MS
    bench.worker._sender.schedule.apply(PlanEvent(begin, "phase", 0))
    bench.worker._sender._by_plan = True
    ready: list[int] = []
    for number in range(100):
        bench.worker._sender._schedule_due(begin + number * MS)
        ready.append(bench.worker._wire.scheduled)
    assert max(ready) == bench.worker._sender.schedule.most_ahead
    bench.worker._wire.unschedule(0)


def test_a_worker_looks_for_commands_more_often_than_they_can_be_late() -> None:
    assert POLL_NS <= LEAD_NS / 4


async def test_requests_are_made_ready_ahead_and_what_is_told_is_what_was_sent(
    server: FaultyServer, prompts: Path, benches: list[Bench]
) -> None:
    """However many of them the poller has sent by itself, and whatever waits at the stop."""
    bench = Bench(server, "good", prompts, PhasePlan("p", 200.0, 200.0))
    benches.append(bench)
    wire = bench.worker._wire
    at = bench.enter("phase")
    await bench.until(lambda: bench.deltas and bench.deltas[-1].sent > 80)
    bench.enter("stop", in_ms=LEAD_NS / MS)
    await bench.until(lambda: bench.stopped)
    check_sums(bench)
    early = [at < record.intended_ns for at, record in bench.scheduled]
    assert bool(early) == any(early) == (isinstance(wire, NativeWire))
    rows = sorted(bench.rows, key=lambda row: row["id"])
    start = at - bench.spec.t0_ns
    assert [row["intended_ns"] - start for row in rows] == [5 * MS * i for i in range(len(rows))]
    assert all(row["sent_ns"] >= row["intended_ns"] for row in rows)
    assert len([lag for delta in bench.deltas for lag in delta.lag_ns]) == len(rows)
    assert wire.scheduled == 0


async def test_a_command_that_comes_late_takes_back_what_was_made_ready(
    server: FaultyServer, prompts: Path, benches: list[Bench]
) -> None:
    """The plan is what the log says, to the request: also where one was at the poller already."""
    bench = Bench(server, "good", prompts, PhasePlan("p", 300.0, 300.0, arrivals="poisson"))
    benches.append(bench)
    log = [PlanEvent(bench.enter("phase"), "phase", 0)]
    wire = bench.worker._wire

    def made_ready() -> int:
        later = perf_counter_ns() + 2 * MS
        return sum(record.intended_ns > later for _, record in bench.scheduled)

    taken_back = 0
    for rate in (200.0, 300.0, 250.0, 300.0):
        await bench.until(lambda: made_ready() or not isinstance(wire, NativeWire))
        before = wire.scheduled
        log.append(PlanEvent(perf_counter_ns() + MS, "rate", rate))
        bench.worker.command(log[-1])
        taken_back += before - wire.scheduled
        bench.scheduled.clear()
        sent = bench.worker._reporter.sent
        await bench.until(lambda sent=sent: bench.worker._reporter.sent > sent + 20)
    log.append(PlanEvent(bench.enter("stop", in_ms=LEAD_NS / MS), "stop"))
    await bench.until(lambda: bench.stopped)
    check_sums(bench)
    assert (taken_back > 0) == (isinstance(wire, NativeWire))
    schedule = Schedule(bench.spec.phases, bench.spec.seed, 0, 1)
    planned = []
    for entry in log:
        planned += [due.intended_ns for due in schedule.due(entry.at_ns - 1)]
        if entry.kind != "stop":
            schedule.apply(entry)
    rows = sorted(bench.rows, key=lambda row: row["id"])
    assert [row["intended_ns"] + bench.spec.t0_ns for row in rows] == planned
    assert [row["id"] for row in rows] == list(range(len(planned)))


async def test_nothing_is_made_ready_where_it_depends_on_what_comes(
    server: FaultyServer, prompts: Path, benches: list[Bench]
) -> None:
    bench = Bench(server, "good", prompts, PhasePlan("p", 200.0, 200.0, 0.3, max_in_flight=50))
    benches.append(bench)
    bench.enter("phase")
    await bench.until(lambda: bench.deltas and bench.deltas[-1].done == 60)
    assert bench.scheduled == []


async def test_a_loop_that_was_away_catches_up_and_says_how_late_it_was(
    server: FaultyServer, prompts: Path, benches: list[Bench]
) -> None:
    bench = Bench(server, "good", prompts, PhasePlan("p", 100.0, 100.0, 0.5))
    benches.append(bench)
    bench.enter("phase")
    await bench.until(lambda: bench.deltas and bench.deltas[-1].sent > 3)
    until = perf_counter_ns() + 150 * MS
    while perf_counter_ns() < until:
        pass
    await bench.until(lambda: bench.deltas[-1].done == 50)
    check_sums(bench)
    lags = [lag for delta in bench.deltas for lag in delta.lag_ns.tolist()]
    assert len(lags) == 50
    assert max(lags) > 50 * MS
    assert max(delta.loop_lag_ns.max(initial=0) for delta in bench.deltas) > 20 * MS
    # The clock of a late request ran from its intended time.
    rows = sorted(bench.rows, key=lambda row: row["id"])
    start = rows[0]["intended_ns"]
    assert [round((row["intended_ns"] - start) / MS) for row in rows] == list(range(0, 500, 10))
    assert max(row["sent_ns"] - row["intended_ns"] for row in rows) == max(lags)


async def test_drops_are_told_and_never_end_a_phase_early(
    server: FaultyServer, prompts: Path, benches: list[Bench]
) -> None:
    bench = Bench(server, "never_answers", prompts, PhasePlan("p", 200.0, 200.0, 0.2, max_in_flight=3))
    benches.append(bench)
    bench.enter("phase")
    await bench.until(lambda: bench.deltas and bench.deltas[-1].intended == 40)
    assert bench.deltas[-1].in_flight == 3
    await bench.until(lambda: bench.deltas[-1].done == 37)
    check_sums(bench)
    end = bench.worker._sender.schedule.course.end_ns
    assert not any(d.phase == 0 and d.t_ns >= end and not d.in_flight for d in bench.deltas)
    assert {row["error"] for row in bench.rows} == {"dropped"}
    assert {row["sent_ns"] for row in bench.rows} == {None}


async def test_timeouts_are_kept_by_the_sweep(
    server: FaultyServer, prompts: Path, benches: list[Bench]
) -> None:
    from rvtop.load.wire.timeouts import Timeouts

    limits = Timeouts(connect_s=30.0, ttft_s=0.2, stall_s=30.0)
    bench = Bench(server, "head_only", prompts, PhasePlan("p", burst=4, drain_s=None), timeouts=limits)
    benches.append(bench)
    bench.enter("phase")
    await bench.until(lambda: len(bench.rows) == 4)
    assert {row["error"] for row in bench.rows} == {"timeout_ttft"}
    check_sums(bench)


@pytest.mark.parametrize("ticks", [1, 2, 5])
async def test_deltas_come_at_their_times_within_the_run_s_seconds(
    server: FaultyServer, prompts: Path, benches: list[Bench], ticks: int
) -> None:
    """As many in each second as in any other, for the ticks lie well away from its edges."""
    bench = Bench(server, "good", prompts, tell_ticks=ticks)
    benches.append(bench)
    await bench.until(lambda: len(bench.deltas) >= 3)
    assert (bench.worker._ticks.next_ns - bench.spec.t0_ns) % (100 * MS) == 50 * MS
    since_ms = (bench.deltas[-1].t_ns - bench.spec.t0_ns) // MS
    assert len(bench.deltas) <= since_ms // (100 * ticks) + 1


async def test_before_the_first_phase_it_stands_by(
    server: FaultyServer, prompts: Path, benches: list[Bench]
) -> None:
    bench = Bench(server, "good", prompts, PhasePlan("p", 10.0, 10.0, 1.0))
    benches.append(bench)
    await bench.until(lambda: len(bench.deltas) >= 2)
    assert {(delta.phase, delta.intended) for delta in bench.deltas} == {(-1, 0)}
    assert bench.armed == 0
    assert bench.worker._sender.schedule.next_ns == NEVER


async def test_no_more_connections_are_held_than_the_machine_can(
    server: FaultyServer, prompts: Path, benches: list[Bench]
) -> None:
    """Requests beyond them fail as ``client_limit``, whether they were to be sent at once or made ready."""
    phases = (PhasePlan("burst", burst=8, drain_s=None), PhasePlan("rate", 100.0, 100.0, 0.1, drain_s=None))
    bench = Bench(server, "never_answers", prompts, *phases, most_in_flight=5)
    benches.append(bench)
    bench.enter("phase", 0)
    await bench.until(lambda: len(bench.rows) == 3 and len(bench.worker._pool._open) == 5)
    bench.enter("end")
    bench.enter("phase", 1)
    await bench.until(lambda: len(bench.rows) == 13)
    assert {row["error"] for row in bench.rows} == {"client_limit"}
    assert {row["error_text"] for row in bench.rows} == {
        "5 connections are open, as many as this worker may hold: raise the open-file limit "
        "(ulimit -n) or add workers (--workers N)"
    }
    assert bench.deltas[-1].in_flight == 5
    check_sums(bench)
    bench.enter("cut")
    await bench.until(lambda: len(bench.rows) == 18)
    await bench.until(lambda: not bench.worker._pool._open)
    bench.enter("phase", 0)  # there is room again
    await bench.until(lambda: len(bench.worker._pool._open) == 5)


async def test_the_limit_of_connections_is_shared_by_the_workers(
    server: FaultyServer, prompts: Path, benches: list[Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(server, "good", prompts, PhasePlan("p", 1.0, 1.0, 9.0), most_in_flight=60)
    benches.append(bench)
    bench.enter("phase")
    await bench.until(lambda: bench.worker._sender.schedule.course.phase == 0)
    assert bench.worker._pool.most == 60
    bench.enter("workers", 3)
    await bench.until(lambda: bench.worker._sender.schedule.count == 3)
    assert bench.worker._pool.most == 20
    monkeypatch.setattr(resource, "getrlimit", lambda which: (74, 74))
    bench.enter("workers", 2)
    await bench.until(lambda: bench.worker._sender.schedule.count == 2)
    assert bench.worker._pool.most == 10  # what this process may open


async def test_while_nothing_happens_a_delta_comes_once_a_second(
    server: FaultyServer, prompts: Path, benches: list[Bench]
) -> None:
    bench = Bench(server, "good", prompts, PhasePlan("p", burst=3, drain_s=None))
    benches.append(bench)
    ticks = bench.worker._ticks
    assert bench.spec.tell_ticks == 1
    await bench.until(lambda: ticks.count >= 3 * QUIET_TICKS and len(bench.deltas) >= 2)
    told = len(bench.deltas)
    assert told <= 1 + ticks.count // QUIET_TICKS
    assert sum(len(delta.loop_lag_ns) for delta in bench.deltas) >= told  # of all ticks, not of the last
    assert not bench.deltas[-1].tells_more_than(bench.deltas[-2])
    await bench.until(lambda: len(bench.deltas) > told and bench.worker._rests)
    assert len(bench.deltas[-1].loop_lag_ns) == 1  # it did not wake in between …
    bench.enter("phase", in_ms=20)
    assert ticks.next_ns <= perf_counter_ns() + 100 * MS  # … and does again, in case something comes of it
    await bench.until(lambda: bench.deltas[-1].done == 3)
    assert bench.deltas[-1].tells_more_than(bench.deltas[told - 1])
    check_sums(bench)
