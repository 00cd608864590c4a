"""Keys of a phase that a recording needs: changes of the rate, offset, stream, over, begins, marks."""

from __future__ import annotations

from typing import Any

import pytest

from rvtop.load.plan.arrivals import Floats, UnitArrivals
from rvtop.load.plan.phase_plan import PhasePlan, RateChange
from rvtop.load.plan.schedule import PlanEvent, Schedule
from rvtop.scenario.load import ScenarioError, scenario_from
from rvtop.scenario.schema import Scenario
from rvtop.session.played import Played
from rvtop.session.player import LEAD_NS, Player, plan

S = 1_000_000_000


def scenario(*phases: dict[str, Any]) -> Scenario:
    workload = {"kind": "synthetic", "prompt_tokens": 5, "output_tokens": 5}
    return scenario_from({"name": "x", "workload": workload, "phases": list(phases)}, "test")


def times(phase: PhasePlan, *entries: PlanEvent, index: int = 0, until_ns: int = 1000 * S) -> list[int]:
    """Intended times of a phase that begins at 0, by entries of the log that come at their times."""
    schedule, out = Schedule((phase,) * (index + 1), 7, 0, 1), []
    schedule.apply(PlanEvent(0, "phase", index))
    for entry in entries:
        out += schedule.due(entry.at_ns - 1)
        schedule.apply(entry)
    return [due.intended_ns for due in [*out, *schedule.due(until_ns)]]


@pytest.mark.parametrize("arrivals", ["constant", "poisson"])
def test_changes_of_a_phase_are_commands_that_were_given_then(arrivals: Any) -> None:
    ramp = PhasePlan("a", 5.0, 50.0, 60.0, arrivals)
    entries = [
        PlanEvent(10 * S + 7, "rate", 80.0),
        PlanEvent(20 * S + 1, "pause"),
        PlanEvent(25 * S, "resume"),
        PlanEvent(40 * S, "end"),
    ]
    changes = (RateChange(10.000000007, 80.0), RateChange(20.000000001, 0.0), RateChange(25.0, 80.0))
    written = PhasePlan("a", 5.0, 50.0, 40.0, arrivals, shape_s=60.0, changes=changes)
    assert times(written) == times(ramp, *entries)
    assert len(times(written)) > 1000


def test_a_pause_ends_with_the_planned_rate() -> None:
    ramp = PhasePlan("a", 5.0, 50.0, 60.0, "poisson")
    written = PhasePlan(
        "a", 5.0, 50.0, 60.0, "poisson", changes=(RateChange(10.0, 0.0), RateChange(12.5, None))
    )
    assert times(written) == times(ramp, PlanEvent(10 * S, "pause"), PlanEvent(12 * S + S // 2, "resume"))


def test_an_offset_leaves_out_what_comes_before() -> None:
    whole = PhasePlan("a", 5.0, 50.0, 60.0, "poisson")
    rest = PhasePlan("a", 5.0, 50.0, 60.0, "poisson", offset_s=21.25)
    offset_ns = rest.offset_ns
    assert times(rest) == [at - offset_ns for at in times(whole) if at >= offset_ns]
    assert rest.lasts_s == 38.75


def test_a_stream_is_the_number_of_the_phase_it_was_drawn_for() -> None:
    third = times(PhasePlan("a", 20.0, 20.0, 30.0, "poisson"), index=2)
    assert times(PhasePlan("a", 20.0, 20.0, 30.0, "poisson", stream=2)) == third
    assert times(PhasePlan("a", 20.0, 20.0, 30.0, "poisson")) != third


def test_a_phase_begins_at_its_time_however_late_the_loop_looks() -> None:
    phases = plan(
        scenario(
            {"name": "a", "rate": 2, "duration": "2s"},
            {"name": "b", "rate": 2, "duration": "2s", "begins": "10.000000123s"},
        ),
        1,
    )
    player = Player(phases)
    first = player.step(5 * S, drained=True)
    assert first is not None
    begins_ns = first.at_ns + 10 * S + 123
    assert player.step(player.end_ns, drained=False) is None
    assert player.step(player.end_ns + S, drained=True) is None  # drained long before
    assert player.next_ns < begins_ns - LEAD_NS
    assert player.step(player.next_ns + 3_000_000, drained=True) == PlanEvent(begins_ns, "phase", 1)


def test_a_phase_that_drains_longer_begins_the_next_one_later() -> None:
    player = Player((PhasePlan("a", 2, 2, 2.0), PhasePlan("b", 2, 2, 2.0, begins_s=5.0)))
    player.step(0, drained=True)
    player.step(player.end_ns, drained=False)
    assert player.step(9 * S, drained=True) == PlanEvent(9 * S + LEAD_NS, "phase", 1)


def test_all_of_it_is_written_and_read_again() -> None:
    written = scenario(
        {
            "name": "a",
            "rate": {"from": 5, "to": 50, "over": "60s"},
            "duration": "40s",
            "arrivals": "poisson",
            "offset": "1.5s",
            "stream": 3,
            "begins": "2s",
            "changes": [{"at": "10.000000007s", "rate": 80}, {"at": "12s", "rate": "plan"}],
            "marks": [{"at": "11s", "note": "cache cleared"}],
        }
    )
    import yaml

    assert scenario_from(yaml.safe_load(written.to_yaml()), "again") == written
    assert written.duration_s == 38.5


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"offset": "40s"}, "phases[0].offset: must be less than the phase's duration"),
        ({"changes": [{"at": 2, "rate": 1}, {"at": 1, "rate": 1}]}, "changes: must be in the order of time"),
        ({"changes": [{"at": 2, "rate": "fast"}]}, "rate: must be a number of requests per second, or plan"),
        ({"changes": [{"at": 2, "rate": -1}]}, "must be ≥ 0"),
        ({"rate": {"from": 1, "to": 2, "over": 0}}, "over: must be longer than 0"),
        ({"stream": -1}, "stream: must be ≥ 0"),
        ({"marks": [{"at": 2}]}, "note: is missing"),
    ],
)
def test_what_makes_no_sense_is_one_line(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ScenarioError) as error:
        scenario({"name": "a", "rate": 5, "duration": "40s", **more})
    assert message in str(error.value)


def test_marks_of_a_closed_loop_count_from_where_its_recording_begins() -> None:
    phases = (PhasePlan("loop", concurrency=4, duration_s=60.0),)
    played = Played()
    played.note(PlanEvent(100 * S, "phase", 0), phases)
    for at in (105, 120, 130):
        played.mark(at * S, f"at {at}")
    (whole,) = played.phases(0, 150 * S)
    assert [(mark.at_s, mark.note) for mark in whole.marks] == [(5, "at 105"), (20, "at 120"), (30, "at 130")]
    (rest,) = played.phases(110 * S, 150 * S)
    assert (rest.concurrency, rest.duration_s) == (4, 40.0)
    assert [(mark.at_s, mark.note) for mark in rest.marks] == [(10, "at 120"), (20, "at 130")]


def test_skipping_deep_into_a_random_phase_keeps_few_arrivals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch of arrivals is copied once or twice, however many lie before the offset."""
    kept: list[int] = []
    span = UnitArrivals.span

    def counted(self: UnitArrivals, start: int, stop: int) -> Floats:
        found = span(self, start, stop)
        kept.append(self._known.size)
        return found

    monkeypatch.setattr(UnitArrivals, "span", counted)
    plan = PhasePlan("a", 1000.0, 1000.0, 500.0, "poisson", offset_s=300.0)
    schedule = Schedule((plan,), 7, 0, 1)
    schedule.apply(PlanEvent(0, "phase", 0))
    assert 299_000 < schedule.due(schedule.next_ns)[0].arrival < 301_000
    assert len(kept) > 500
    assert max(kept) <= 4 * 4096  # of the 300,000 that were passed
