"""The player: phases in turn, each drained or cut before the next begins; rounds by their proper names."""

from __future__ import annotations

from collections import Counter

import pytest

from rvtop.load.plan.schedule import NEVER, PhasePlan, PlanEvent, Schedule
from rvtop.scenario.load import scenario_from
from rvtop.scenario.schema import Scenario
from rvtop.session.player import LEAD_NS, Player, plan

S = 1_000_000_000


def scenario(*phases: dict[str, object]) -> Scenario:
    workload = {"kind": "synthetic", "prompt_tokens": 5, "output_tokens": 5}
    return scenario_from({"name": "x", "workload": workload, "phases": list(phases)}, "test")


def test_rate_phases_keep_all_that_the_file_says() -> None:
    phases = plan(
        scenario(
            {"name": "warm", "rate": 2, "duration": "10s", "warmup": True},
            {
                "name": "climb",
                "rate": {"from": 1, "to": 48},
                "duration": "60s",
                "arrivals": "gamma",
                "burstiness": 0.5,
                "max_in_flight": 9,
                "drain": "5s",
            },
        ),
        1,
    )
    assert phases == (
        PhasePlan("warm", 2, 2, 10.0, "constant", 1.0, 0, None, 30.0, True),
        PhasePlan("climb", 1, 48, 60.0, "gamma", 0.5, 0, 9, 5.0, False),
    )


def test_every_round_is_a_phase_of_its_own() -> None:
    phases = plan(scenario({"name": "paper", "rounds": {"sizes": [1, 6, 24], "repeat": 3}}), 2)
    assert [p.name for p in phases] == [
        *(f"paper/n=1#{i}" for i in (1, 2, 3)),
        *(f"paper/n=6#{i}" for i in (1, 2, 3)),
        *(f"paper/n=24#{i}" for i in (1, 2, 3)),
    ]
    assert [p.burst for p in phases] == [2] * 3 + [6] * 3 + [24] * 3
    assert {p.drain_s for p in phases} == {None}


def test_a_size_that_is_named_twice_goes_on_counting() -> None:
    phases = plan(scenario({"name": "paper", "rounds": {"sizes": [6, 1, 6], "repeat": 2}}), 1)
    assert [p.name for p in phases] == [
        "paper/n=6#1",
        "paper/n=6#2",
        "paper/n=1#1",
        "paper/n=1#2",
        "paper/n=6#3",
        "paper/n=6#4",
    ]


@pytest.mark.parametrize("models", [1, 2, 3])
def test_a_round_of_one_sends_one_to_each_model_wherever_it_stands(models: int) -> None:
    """Requests alternate between models by number; after rounds of any size each model still gets one."""
    phases = plan(scenario({"name": "paper", "rounds": {"sizes": [5, 1], "repeat": 2}}), models)
    schedule, at = Schedule(phases, 1, 0, 1), 0
    for index, phase in enumerate(phases):
        at += S
        schedule.apply(PlanEvent(at, "phase", index))
        sent = schedule.due(at)
        assert len(sent) == phase.burst
        if phase.name.startswith("paper/n=1#"):
            assert Counter(due.seq % models for due in sent) == dict.fromkeys(range(models), 1)


def test_a_phase_is_sent_then_drained_then_the_next_begins() -> None:
    player = Player((PhasePlan("a", 5, 5, 2.0), PhasePlan("b", 5, 5, 3.0)))
    assert player.phase is None
    assert player.step(10 * S, drained=True) == PlanEvent(10 * S + LEAD_NS, "phase", 0)
    start = 10 * S + LEAD_NS
    assert (player.state, player.index, player.end_ns) == ("sending", 0, start + 2 * S)
    assert player.step(start + 2 * S - 1, drained=True) is None
    assert player.state == "sending"
    assert player.step(start + 2 * S, drained=False) is None
    assert player.state == "draining"
    assert player.step(start + 20 * S, drained=False) is None
    assert player.step(start + 21 * S, drained=True) == PlanEvent(start + 21 * S + LEAD_NS, "phase", 1)
    assert player.phase is not None
    assert player.phase.name == "b"
    assert player.step(start + 30 * S, drained=True) is None
    assert player.state == "over"
    assert player.phase is None
    assert player.step(start + 31 * S, drained=True) is None


def test_what_has_not_drained_in_time_is_cut_once() -> None:
    player = Player((PhasePlan("a", 5, 5, 2.0, drain_s=3.0), PhasePlan("b", 5, 5, 1.0)))
    assert player.next_ns == 0
    player.step(0, drained=False)
    end = player.end_ns
    assert player.next_ns == end
    player.step(end, drained=False)
    assert player.next_ns == end + 3 * S
    assert player.step(end + 3 * S - 1, drained=False) is None
    assert player.step(end + 3 * S, drained=False) == PlanEvent(end + 3 * S, "cut")
    assert player.state == "cutting"
    assert player.next_ns > end + 3 * S
    assert player.step(end + 4 * S, drained=False) is None
    assert player.step(end + 5 * S, drained=True) == PlanEvent(end + 5 * S + LEAD_NS, "phase", 1)


def test_a_cut_that_nobody_confirms_does_not_stop_the_run() -> None:
    player = Player((PhasePlan("a", 5, 5, 2.0, drain_s=0.0), PhasePlan("b", 5, 5, 1.0)))
    player.step(0, drained=False)
    end = player.end_ns
    assert player.step(end, drained=False) == PlanEvent(end, "cut")
    assert player.step(end + 4 * S, drained=False) is None
    entry = player.step(end + 6 * S, drained=False)
    assert entry is not None
    assert (entry.kind, entry.value) == ("phase", 1)


def test_a_cut_that_nobody_confirms_waits_for_the_server_alone() -> None:
    ready: list[bool] = [False]
    phases = (PhasePlan("a", 5, 5, 2.0, drain_s=0.0), PhasePlan("b", 5, 5, 1.0))
    player = Player(phases, None, lambda phase: ready[0])
    player.step(0, drained=False)
    end = player.end_ns
    assert player.step(end, drained=False) == PlanEvent(end, "cut")
    assert player.step(end + 6 * S, drained=False) is None
    assert player.next_ns < end + 7 * S
    ready[0] = True
    entry = player.step(end + 7 * S, drained=False)
    assert entry is not None
    assert (entry.kind, entry.value) == ("phase", 1)


def test_a_round_waits_for_every_request() -> None:
    player = Player(
        (PhasePlan("r/n=6#1", burst=6, drain_s=None), PhasePlan("r/n=6#2", burst=6, drain_s=None))
    )
    player.step(0, drained=False)
    assert player.end_ns == LEAD_NS + 1
    assert player.step(1_000_000 * S, drained=False) is None
    assert (player.state, player.next_ns) == ("draining", NEVER)
    entry = player.step(1_000_001 * S, drained=True)
    assert entry is not None
    assert (entry.kind, entry.value) == ("phase", 1)


def test_the_hand_ends_a_phase_soon_but_never_later_than_planned() -> None:
    player = Player((PhasePlan("a", 5, 5, None), PhasePlan("b", 5, 5, 1.0)))
    assert player.end_phase(0) is None  # nothing runs yet
    player.step(0, drained=False)
    assert player.end_ns == NEVER
    assert player.end_phase(5 * S) == PlanEvent(5 * S + LEAD_NS, "end")
    assert player.end_phase(6 * S) == PlanEvent(5 * S + LEAD_NS, "end")
    player.step(7 * S, drained=False)
    assert player.state == "draining"
    assert player.end_phase(7 * S) is None
    player.step(8 * S, drained=True)
    planned = player.end_ns
    assert player.end_phase(planned - 1) == PlanEvent(planned, "end")


def test_without_phases_it_is_over_at_once() -> None:
    player = Player(())
    assert player.step(0, drained=True) is None
    assert player.state == "over"


def test_what_waits_for_its_time_has_no_deadline_any_more() -> None:
    player = Player((PhasePlan("a", 5, 5, 2.0, drain_s=3.0), PhasePlan("b", 5, 5, 1.0, begins_s=20.0)))
    player.step(0, drained=False)
    start, end = player.start_ns, player.end_ns
    player.step(end, drained=False)
    assert player.step(end + S, drained=True) is None
    wake = player.next_ns
    assert end + 3 * S < wake < start + 20 * S
    assert player.step(end + 4 * S, drained=False) is None  # a late report: nothing is cut for it
    assert (player.state, player.next_ns) == ("draining", wake)
    assert player.step(wake, drained=True) == PlanEvent(start + 20 * S, "phase", 1)


def test_a_cut_that_nobody_confirms_does_not_begin_the_next_phase_early_or_never() -> None:
    player = Player((PhasePlan("a", 5, 5, 2.0, drain_s=0.0), PhasePlan("b", 5, 5, 1.0, begins_s=20.0)))
    player.step(0, drained=False)
    start, end = player.start_ns, player.end_ns
    assert player.step(end, drained=False) == PlanEvent(end, "cut")
    given_up = player.next_ns
    assert player.step(given_up, drained=False) is None
    wake = player.next_ns
    assert wake > given_up
    assert player.step(wake - 1, drained=False) is None
    assert player.step(wake, drained=False) == PlanEvent(start + 20 * S, "phase", 1)


def test_the_hand_ends_a_phase_with_an_offset_not_before_it_begins() -> None:
    player = Player((PhasePlan("a", 5, 5, 60.0, offset_s=30.0),))
    entry = player.step(0, drained=False)
    assert entry is not None
    assert player.start_ns == entry.at_ns - 30 * S
    # Asked before the phase has begun: it begins, and ends behind its beginning.
    assert player.end_phase(entry.at_ns - 10 * LEAD_NS) == PlanEvent(entry.at_ns + 1, "end")
