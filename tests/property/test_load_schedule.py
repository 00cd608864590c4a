"""Any number of workers, fed the same log, sends exactly the plan of one: nothing twice, nothing left out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvtop.load.plan.arrivals import Ramp
from rvtop.load.plan.schedule import NEVER, Course, Due, PhasePlan, PlanEvent, Schedule

START = 5_000_000_000  # perf_counter_ns is never near 0
MS = 1_000_000


@dataclass
class Run:
    """A log as a session writes it: entries in the order of their times, and the moments workers wake at."""

    phases: tuple[PhasePlan, ...]
    seed: int
    log: list[PlanEvent]
    end_ns: int
    wakes: list[list[int]] = field(default_factory=list)


rates = st.one_of(st.just(0.0), st.floats(0.05, 1000.0), st.sampled_from([1.0, 10.0, 1e-9, 1e-3]))


ramps = st.none() | st.builds(Ramp, rates, st.floats(0.01, 2.0))


@st.composite
def plans(draw: st.DrawFn, name: str) -> PhasePlan:
    if draw(st.integers(0, 3)) == 0:
        return PhasePlan(name, burst=draw(st.integers(1, 1200)))
    start = draw(rates)
    duration = draw(st.one_of(st.none(), st.floats(0.01, 2.0)))
    end = draw(st.one_of(st.just(start), rates)) if duration is not None else start
    kind = draw(st.sampled_from(["constant", "poisson", "gamma"]))
    plan = PhasePlan(name, start, end, duration, kind, draw(st.floats(0.1, 5.0)))
    shape = draw(st.sampled_from(["linear", "linear", "exponential", "step", "spike"]))
    if duration is None or (shape == "exponential" and not (start > 1e-3 and end > 1e-3)):
        return plan
    peak = draw(st.floats(0.0, duration / 2))
    return replace(
        plan,
        shape=shape,
        steps=draw(st.integers(1, 6)),
        peak_at_s=peak,
        peak_for_s=draw(st.floats(0.0, peak)),
    )


@st.composite
def runs(draw: st.DrawFn) -> Run:
    phases = tuple(draw(plans(f"p{i}")) for i in range(draw(st.integers(1, 4))))
    now, log = START + draw(st.integers(0, 50)) * MS, []
    for index, phase in enumerate(phases):
        log.append(PlanEvent(now, "phase", index))
        length = 0.0 if phase.burst else phase.duration_s
        ends = now + 1 if length == 0.0 else NEVER if length is None else now + round(length * 1e9)
        for _ in range(draw(st.integers(0, 5))):
            now += draw(st.one_of(st.integers(0, 600 * MS), st.integers(0, 3)))
            kind = draw(st.sampled_from(["rate", "rate", "rate", "plan", "pause", "resume", "resume", "cut"]))
            entry = PlanEvent(now, kind, draw(rates) if kind == "rate" else 0.0)
            log.append(replace(entry, ramp=draw(ramps)) if kind == "rate" else entry)
        if ends == NEVER or draw(st.booleans()):
            now += draw(st.integers(0, 600 * MS))
            log.append(PlanEvent(now, "end"))
            ends = min(ends, now)
        now = max(now, ends) + draw(st.integers(0, 100 * MS))
    run = Run(phases, draw(st.integers(0, 2**63 - 1)), log, now)
    moments = st.integers(START, now)
    run.wakes = draw(st.lists(st.lists(moments, max_size=12), min_size=5, max_size=5))
    return run


def share(
    run: Run,
    index: int,
    count: int,
    wakes: list[int],
    *,
    trace: np.ndarray | None = None,
    joins: bool = False,
    ahead_ns: int = 0,
) -> list[Due]:
    """What worker ``index`` of ``count`` sends that wakes at ``wakes``, fed the log as worker.py feeds it.
    One that ``joins`` wakes for the first time in the middle. One that makes ready what is due within
    ``ahead_ns`` takes back what an entry, which it did not know of, may change."""
    schedule = Schedule(run.phases, run.seed, index, count, trace)
    if joins:
        wakes = [now for now in wakes if now > (run.log[0].at_ns + run.end_ns) // 2]
    sent: list[Due] = []
    log = list(run.log)
    for now in sorted([*wakes, run.end_ns]):
        while log and log[0].at_ns <= now:
            entry = log.pop(0)
            before = len(sent)
            while sent and sent[-1].intended_ns >= entry.at_ns:
                sent.pop()
            if len(sent) < before:
                schedule.rewind(entry.at_ns)
            sent += schedule.due(entry.at_ns - 1)
            if entry.kind != "cut":
                schedule.apply(entry)
        expected = schedule.next_ns
        due = schedule.due(now)
        assert (expected <= now) == bool(due)
        assert not due or due[0].intended_ns == expected
        sent += due
        if ahead_ns:
            sent += schedule.due(now + ahead_ns, 2000)
    assert schedule.next_ns > run.end_ns
    return sent


@settings(max_examples=80, deadline=None, derandomize=True)
@given(runs(), st.integers(1, 5))
def test_the_union_of_the_shares_is_the_plan_of_one(run: Run, count: int) -> None:
    whole = share(run, 0, 1, [])
    shares = [share(run, i, count, run.wakes[i]) for i in range(count)]
    union = sorted((due for one in shares for due in one), key=lambda due: due.seq)
    assert union == whole
    for index, one in enumerate(shares):
        assert all(due.seq % count == index for due in one)
        assert [due.seq for due in one] == sorted(due.seq for due in one)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(runs(), st.integers(1, 3), st.sampled_from([MS, 20 * MS, 500 * MS]))
def test_what_was_made_ready_too_early_is_taken_back(run: Run, count: int, ahead_ns: int) -> None:
    shares = [share(run, i, count, run.wakes[i], ahead_ns=ahead_ns) for i in range(count)]
    union = sorted((due for one in shares for due in one), key=lambda due: due.seq)
    assert [due for due in union if due.intended_ns <= run.end_ns] == share(run, 0, 1, [])


@settings(max_examples=80, deadline=None, derandomize=True)
@given(runs())
def test_numbers_are_contiguous_and_every_time_is_inside_its_phase(run: Run) -> None:
    whole = share(run, 0, 1, run.wakes[0])
    assert [due.seq for due in whole] == list(range(len(whole)))
    times = np.array([due.intended_ns for due in whole], dtype=np.int64)
    assert (np.diff(times) >= -1).all()
    begins = [entry.at_ns for entry in run.log if entry.kind == "phase"]
    for due in whole:
        assert due.intended_ns >= begins[due.phase]
        later = begins[due.phase + 1 :]
        assert not later or due.intended_ns <= later[0]


@settings(max_examples=80, deadline=None, derandomize=True)
@given(runs())
def test_the_course_knows_the_rate_of_the_schedule(run: Run) -> None:
    """No arrival comes while the rate in force is 0; the session's view and the workers' are one."""
    course, stops = Course(run.phases), []
    for entry in run.log:
        if entry.kind != "cut":
            course.apply(entry)
        stops.append((entry.at_ns, course.rate(entry.at_ns), course.phase))
    for (at, rate, phase), (until, _, _) in zip(stops, [*stops[1:], (run.end_ns, 0, 0)], strict=True):
        plan = run.phases[phase]
        steady = plan.rate_from == plan.rate_to or plan.duration_s is None
        steady = steady and not any(entry.ramp for entry in run.log)
        if rate == 0.0 and steady and not plan.burst:
            inside = [due for due in share(run, 0, 1, []) if at < due.intended_ns < until - 1]
            assert inside == []


def one_phase(
    log: list[PlanEvent], plan: PhasePlan, until_s: float, count: int = 1, index: int = 0
) -> list[float]:
    """Intended times, seconds from the phase's start, of a phase that begins at START."""
    run = Run((plan,), 1, [PlanEvent(START, "phase", 0), *log], START + round(until_s * 1e9))
    return [(due.intended_ns - START) / 1e9 for due in share(run, index, count, [])]


def at(seconds: float) -> int:
    return START + round(seconds * 1e9)


def test_a_steady_phase_holds_exactly_its_requests() -> None:
    plan = PhasePlan("p", 10.0, 10.0, 2.0)
    assert one_phase([], plan, 5.0) == pytest.approx([i / 10 for i in range(20)])
    assert one_phase([], plan, 5.0, count=4, index=3) == pytest.approx([0.3, 0.7, 1.1, 1.5, 1.9])


def test_a_ramp_holds_the_integral_of_its_rate() -> None:
    assert len(one_phase([], PhasePlan("p", 1.0, 48.0, 60.0), 60.0)) == 1470


def test_a_ramp_by_hand_goes_on_behind_a_pause_and_the_rate_stands_that_it_leads_to() -> None:
    log = [
        PlanEvent(at(1), "rate", 40.0, ramp=Ramp(10.0, 4.0)),  # 7.5 rps more each second
        PlanEvent(at(2), "pause"),
        PlanEvent(at(3), "resume"),
    ]
    sent = np.array(one_phase(log, PhasePlan("p", 10.0, 10.0, 8.0), 9.0))
    counts = [int(((sent >= second) & (sent < second + 1)).sum()) for second in range(8)]
    assert counts == pytest.approx([10, 13.75, 0, 28.75, 36.25, 40, 40, 40], abs=1)


def test_back_to_the_plan_is_the_rate_that_the_phase_has_by_itself() -> None:
    log = [PlanEvent(at(1), "rate", 0.0), PlanEvent(at(2), "plan")]
    plain = one_phase([], PhasePlan("p", 10.0, 50.0, 4.0), 4.0)
    sent = one_phase(log, PhasePlan("p", 10.0, 50.0, 4.0), 4.0)
    assert [t for t in sent if 1.0 < t < 2.0] == []
    assert len([t for t in sent if t > 2.0]) == pytest.approx(len([t for t in plain if t > 2.0]), abs=1)


def test_a_rate_by_hand_stands_over_a_pause_and_to_the_end_of_the_phase() -> None:
    log = [
        PlanEvent(at(1), "rate", 2.0),
        PlanEvent(at(2), "pause"),
        PlanEvent(at(3), "rate", 5.0),
        PlanEvent(at(4), "resume"),
    ]
    sent = one_phase(log, PhasePlan("p", 1.0, 9.0, 6.0), 9.0)
    assert [t for t in sent if 2.0 < t <= 4.0] == []
    np.testing.assert_allclose(np.diff([t for t in sent if t > 4.0]), 0.2)
    assert 5.8 < max(sent) < 6.0


def test_no_request_is_lost_or_doubled_at_the_very_nanosecond_of_a_change() -> None:
    """A change exactly at an intended time: the request goes out once, at that time."""
    log = [PlanEvent(at(0.5), "rate", 20.0), PlanEvent(at(1.0), "rate", 10.0)]
    sent = one_phase(log, PhasePlan("p", 10.0, 10.0, 2.0), 3.0)
    assert sent == pytest.approx(
        [0, 0.1, 0.2, 0.3, 0.4, *np.arange(0.5, 1.0, 0.05), *np.arange(1.0, 2.0, 0.1)]
    )


def test_a_phase_that_was_never_ended_ends_where_the_next_begins() -> None:
    phases = (PhasePlan("a", 10.0, 10.0), PhasePlan("b", burst=3))
    run = Run(phases, 1, [PlanEvent(START, "phase", 0), PlanEvent(at(1), "phase", 1)], at(2))
    sent = share(run, 0, 1, [])
    assert [due.phase for due in sent] == [0] * 10 + [1] * 3
    assert [due.seq for due in sent] == list(range(13))
    assert {due.intended_ns for due in sent[10:]} == {at(1)}


def test_the_seed_and_the_phase_choose_the_arrivals() -> None:
    plan = PhasePlan("p", 50.0, 50.0, 2.0, "poisson")

    def times(seed: int, index: int) -> list[int]:
        run = Run((plan, plan), seed, [PlanEvent(START, "phase", index)], at(2))
        return [due.intended_ns for due in share(run, 0, 1, [])]

    assert times(1, 0) == times(1, 0)
    assert times(1, 0) != times(2, 0)
    assert times(1, 0) != times(1, 1)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(runs(), st.integers(1, 3), st.data())
def test_workers_that_join_take_their_share_of_the_same_plan(
    run: Run, first: int, data: st.DataObject
) -> None:
    """The log says when the number changes; a worker that joins is fed the log from its start."""
    whole = share(run, 0, 1, [])
    begins, ends = run.log[0].at_ns, run.end_ns
    changes, count = [], first
    for at_ns in sorted(data.draw(st.lists(st.integers(begins, ends), max_size=3))):
        count += 1
        changes.append(PlanEvent(at_ns, "workers", count))
    log = sorted([*run.log, *changes], key=lambda entry: entry.at_ns)
    shares = []
    for index in range(count):
        mine = Run(run.phases, run.seed, log, run.end_ns)
        shares.append(share(mine, index, first, run.wakes[index % 5], joins=index >= first))
    union = sorted((due for one in shares for due in one), key=lambda due: due.seq)
    assert union == whole
    for change, index in zip(changes, range(first, count), strict=True):
        assert all(due.intended_ns >= change.at_ns for due in shares[index])


trace = np.array([0.0, 0.25, 0.25, 1.0, 3.0])


def test_a_trace_keeps_its_times_and_a_speed_divides_them() -> None:
    rate = 4 / 3.0  # its mean
    for speed in (1.0, 2.0):
        plan = PhasePlan("p", rate * speed, rate * speed, trace=True)
        run = Run((plan,), 1, [PlanEvent(START, "phase", 0)], at(9))
        sent = share(run, 0, 1, [], trace=trace)
        assert [(due.intended_ns - START) / 1e9 for due in sent] == pytest.approx(list(trace / speed))
        assert [due.arrival for due in sent] == [0, 1, 2, 3, 4]


def test_a_trace_is_exhausted_when_its_last_request_is_out_and_not_while_it_is_paused() -> None:
    plan = PhasePlan("p", 4 / 3.0, 4 / 3.0, trace=True)
    schedules = [Schedule((plan,), 1, index, 2, trace) for index in range(2)]
    for schedule in schedules:
        schedule.apply(PlanEvent(START, "phase", 0))
        schedule.due(at(0.5))
        schedule.apply(PlanEvent(at(0.6), "pause"))
        assert schedule.next_ns == NEVER
        assert not schedule.exhausted(at(5))
        schedule.apply(PlanEvent(at(5), "resume"))
    schedules[1].due(at(5.5))
    assert schedules[1].exhausted(at(5.5))  # it had the requests 1 and 3
    assert not schedules[0].exhausted(at(5.5))
    assert [due.arrival for due in schedules[0].due(at(8))] == [4]
    assert schedules[0].exhausted(at(8))


def test_the_requests_of_a_closed_loop_have_numbers_of_their_own() -> None:
    phases = (PhasePlan("c", concurrency=8, duration_s=1.0), PhasePlan("b", burst=4))
    seen: set[int] = set()
    for index in range(3):
        schedule = Schedule(phases, 1, index, 3)
        schedule.apply(PlanEvent(START, "phase", 0))
        assert schedule.next_ns == NEVER
        closed = [schedule.closed(number, START) for number in range(5)]
        schedule.apply(PlanEvent(at(1), "phase", 1))
        burst = schedule.due(at(2))
        for due in [*closed, *burst]:
            assert due.seq not in seen
            seen.add(due.seq)
    assert len(seen) == 3 * 5 + 4
    assert sum(Schedule(phases, 1, index, 3).share(8) for index in range(3)) == 8
