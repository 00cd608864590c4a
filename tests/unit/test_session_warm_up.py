"""A long phase says while it goes on that it began with a warm-up, once, and only while its load is one."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from rvtop.load.plan.phase_plan import PhasePlan, RateChange
from rvtop.session.load_parts import Second
from rvtop.session.warm_up_watch import WarmUpWatch

HOLD = PhasePlan("hold", 10.0, 10.0, 300.0)


def slow_at_first(at_s: int) -> float:
    return (200.0 if at_s < 10 else 50.0) + at_s % 3


def said(
    phase: PhasePlan = HOLD,
    ttft_ms: Callable[[int], float] = slow_at_first,
    planned: Callable[[int], float | None] = lambda at_s: 10.0,
    seconds: int = 90,
) -> list[str]:
    """The events of a phase with such TTFTs and planned rates by its second."""
    events: list[str] = []
    parts: Any = SimpleNamespace(feed=SimpleNamespace(say=lambda text, kind="": events.append(text)))
    player: Any = SimpleNamespace(phase=phase, index=0)
    live: Any = SimpleNamespace()
    watch = WarmUpWatch(parts, live, player)
    for at_s in range(-1, seconds):
        ttft = SimpleNamespace(count=10, mean_ns=ttft_ms(at_s) * 1e6)
        live.last_full = lambda now_ns, ttft=ttft: SimpleNamespace(ttft=ttft)
        watch.look(Second(at_s, {"target_rps": planned(at_s)}, False))
    return events


def test_it_is_said_once_with_both_means() -> None:
    (text,) = said()
    assert text.startswith(
        "warm-up: TTFT of hold is steady since its second 10: mean 201 ms before, 51 ms since"
    )


def test_a_steady_phase_and_a_short_one_say_nothing() -> None:
    assert said(ttft_ms=lambda at_s: 50.0 + at_s % 3) == []
    assert said(seconds=45) == []


@pytest.mark.parametrize(
    "phase",
    [
        PhasePlan("warm", 10.0, 10.0, 300.0, warmup=True),
        PhasePlan("climb", 1.0, 20.0, 300.0),
        PhasePlan("changed", 10.0, 10.0, 300.0, changes=(RateChange(5.0, 20.0),)),
        PhasePlan("replay", 10.0, 10.0, trace=True),
    ],
    ids=lambda phase: phase.name,
)
def test_a_load_that_is_not_one_says_nothing(phase: PhasePlan) -> None:
    assert said(phase) == []


def test_a_rate_by_hand_ends_the_look() -> None:
    assert said(planned=lambda at_s: 10.0 if at_s < 30 else 20.0) == []


def test_a_closed_loop_has_no_rate_and_says_nothing() -> None:
    assert said(planned=lambda at_s: None) == []
