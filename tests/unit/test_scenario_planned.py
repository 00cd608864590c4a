"""The planned rate over time: what each column shows, and the chart of ``explain``."""

from __future__ import annotations

from rvtop.load.plan.phase_plan import PhasePlan, RateChange
from rvtop.scenario.explain import explain
from rvtop.scenario.load import find_scenario, load_scenario
from rvtop.scenario.planned import chart, highest, spans


def test_a_spike_shorter_than_a_column_is_seen() -> None:
    peak = PhasePlan("p", 8, 80, 60.0, shape="spike", peak_at_s=22.0, peak_for_s=1.5)
    assert highest(spans([peak]), 6) == [8, 8, 80, 8, 8, 8]


def test_phases_stand_where_they_begin_and_a_pause_is_no_rate() -> None:
    phases = [
        PhasePlan("a", 10, 10, 10.0, changes=(RateChange(5.0, 0.0),)),
        PhasePlan("b", 30, 30, 20.0, offset_s=10.0, begins_s=20.0),
        PhasePlan("c", concurrency=4, duration_s=10.0),
    ]
    assert [(span.begins_s, span.lasts_s) for span in spans(phases)] == [(0, 10), (20, 10), (30, 10)]
    assert highest(spans(phases), 8) == [10, 0, None, None, 30, 30, None, None]


def test_the_chart_has_the_rate_and_the_names() -> None:
    ramp = [PhasePlan("warm", 1, 1, 10.0), PhasePlan("climb", 8, 24, 30.0, shape="step", steps=3)]
    assert chart(ramp, 8) == ["      ██  24 rps", "    ████", "▁▁██████", "│w│climb"]


def test_rounds_have_no_chart() -> None:
    assert chart([PhasePlan("r", burst=5)], 8) == []


def test_explain_draws_the_shipped_spike() -> None:
    said = explain(load_scenario(find_scenario("spike")))
    assert "rps" in said
    assert "█" in said
