"""The plan over time, as a session tells it: phases where they began, those to come behind them."""

from __future__ import annotations

from rvtop.load.plan.schedule import PhasePlan, PlanEvent
from rvtop.session.played import Played
from rvtop.session.player import Player
from rvtop.session.timeline import Timeline

S = 1_000_000_000
PHASES = (
    PhasePlan("climb", 0.0, 40.0, 20.0),
    PhasePlan("closed", concurrency=4, duration_s=10.0),
    PhasePlan("live", 5.0, 5.0),
)


def begin(player: Player, played: Played, now_ns: int) -> PlanEvent:
    entry = player.step(now_ns, drained=True)
    assert entry is not None
    played.note(entry, player.phases)
    return entry


def test_phases_stand_where_they_began_and_those_to_come_behind_them() -> None:
    player, played = Player(PHASES), Played()
    timeline = Timeline(played)
    assert timeline.plan(player, 0) is None
    first = begin(player, played, 2 * S)
    plan = timeline.plan(player, S)
    assert plan is not None
    assert plan.t0_s == (first.at_ns - S) / 1e9
    assert plan.total_s == 30.0
    assert [(p.name, p.begins_s, p.lasts_s, p.from_rps) for p in plan.phases] == [
        ("climb", 0.0, 20.0, 0.0),
        ("closed", 20.0, 10.0, None),
        ("live", 30.0, 0.0, 5.0),
    ]
    assert timeline.plan(player, S) is plan  # made once

    player.step(player.end_ns, drained=False)
    second = begin(player, played, player.end_ns + 3 * S)  # after a drain
    plan = timeline.plan(player, S)
    assert plan is not None
    assert plan.phases[1].begins_s == (second.at_ns - first.at_ns) / 1e9
    assert plan.total_s == plan.phases[1].begins_s + 10.0
    most = [rate for rate in plan.rates if rate is not None]
    assert 38.0 < max(most) <= 40.0


def test_a_phase_that_ended_early_is_cut_where_the_next_one_began() -> None:
    player, played = Player(PHASES[:2]), Played()
    begin(player, played, 0)
    player.end_phase(5 * S)
    player.step(player.end_ns, drained=False)
    begin(player, played, player.end_ns)
    plan = Timeline(played).plan(player, 0)
    assert plan is not None
    climb = plan.phases[0]
    assert climb.lasts_s == plan.phases[1].begins_s < 6.0
    assert climb.most_rps is not None
    assert climb.most_rps < 11.0  # the ramp is not pressed into what was left of it


def test_an_endless_phase_alone_is_no_plan() -> None:
    player, played = Player(PHASES[2:]), Played()
    begin(player, played, 0)
    assert Timeline(played).plan(player, 0) is None
