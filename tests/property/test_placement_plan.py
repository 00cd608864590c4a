"""The planner of replicas: no more than there is, each model at least one, and monotone in its load."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.cluster.placement_plan import (
    Capacity,
    ModelLoad,
    Plan,
    PlanError,
    Profile,
    Slo,
    fixed,
    headroom,
    plan,
    slots_of,
    sustained,
)

SLO = Slo(ttft_ms=500.0)

profiles = st.builds(
    Profile,
    places=st.integers(1, 16),
    base_ms=st.floats(1.0, 80.0),
    seq_ms=st.floats(0.0, 2.0),
    prefill_ms=st.floats(0.0, 400.0),
)


def loads_of(count: int, size: st.SearchStrategy[int | None]) -> st.SearchStrategy[list[ModelLoad]]:
    rows = st.tuples(st.floats(0.0, 60.0), st.floats(1.0, 300.0), profiles, size)
    return st.lists(rows, min_size=count, max_size=4).map(
        lambda rows: [ModelLoad(f"m{i}", *row) for i, row in enumerate(rows)]
    )


alike = loads_of(1, st.none())
of_sizes = loads_of(1, st.integers(10**8, 10**11))
bins = st.lists(st.integers(0, 8), min_size=1, max_size=5).map(tuple)


def planned(loads: list[ModelLoad], capacity: Capacity) -> Plan | None:
    """None where the models' first replicas, put where they fit best, have no room."""
    with contextlib.suppress(PlanError):
        return plan(loads, capacity, SLO)
    return None


@settings(max_examples=60, deadline=None)
@given(of_sizes, bins)
def test_capacity_is_never_exceeded_and_each_model_has_a_replica(
    loads: list[ModelLoad], free: tuple[int, ...]
) -> None:
    capacity = Capacity(free, "GPU", slot_bytes=80e9)
    made = planned(loads, capacity)
    if made is None:
        return
    taken = sum(one.replicas * one.slots for one in made.models)
    assert taken + made.free == capacity.total
    assert made.free >= 0
    for one, load in zip(made.models, loads, strict=True):
        assert one.replicas >= 1
        assert one.slots <= max(free)
        assert load.size is not None
        assert 0.7 * one.slots * 80e9 >= load.size
        assert one.reason


@settings(max_examples=60, deadline=None)
@given(alike, st.integers(0, 3), st.floats(1.0, 4.0), st.integers(4, 12))
def test_more_load_or_slower_tokens_never_get_fewer(
    loads: list[ModelLoad], which: int, more: float, slots: int
) -> None:
    which %= len(loads)
    before = plan(loads, Capacity((slots,)), SLO).replicas
    load = loads[which]
    busier = replace(load, rate=load.rate * more)
    slower = replace(load, tokens=load.tokens * more)
    for changed in (busier, slower):
        after = plan([*loads[:which], changed, *loads[which + 1 :]], Capacity((slots,)), SLO).replicas
        assert after[load.name] >= before[load.name]


@settings(max_examples=60, deadline=None)
@given(alike, st.integers(4, 12), st.integers(1, 4))
def test_more_capacity_takes_no_replica_away(loads: list[ModelLoad], slots: int, more: int) -> None:
    small, large = plan(loads, Capacity((slots,)), SLO), plan(loads, Capacity((slots + more,)), SLO)
    assert all(large.replicas[name] >= count for name, count in small.replicas.items())
    assert large.headroom >= small.headroom


@settings(max_examples=25, deadline=None)
@given(loads_of(2, st.none()), st.integers(4, 7))
def test_no_other_split_leaves_the_poorest_more(loads: list[ModelLoad], slots: int) -> None:
    capacity = Capacity((slots,))
    best = plan(loads, capacity, SLO).headroom

    def splits(models: int, left: int) -> list[tuple[int, ...]]:
        if models == 1:
            return [(n,) for n in range(1, left + 1)]
        return [(n, *rest) for n in range(1, left) for rest in splits(models - 1, left - n)]

    for split in splits(len(loads), slots):
        counts = {load.name: n for load, n in zip(loads, split, strict=True)}
        assert fixed(loads, counts, capacity, SLO).headroom <= best * (1 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(profiles, st.floats(1.0, 300.0), st.integers(1, 8), st.floats(100.0, 2000.0))
def test_more_replicas_and_looser_limits_sustain_more(
    profile: Profile, tokens: float, replicas: int, ttft_ms: float
) -> None:
    within = sustained(profile, tokens, replicas, Slo(ttft_ms))
    assert sustained(profile, tokens, replicas + 1, Slo(ttft_ms)) >= within
    hold_s = (profile.prefill_ms + tokens * profile.token_ms(profile.places)) / 1e3
    assert within <= replicas * profile.places / hold_s * (1 + 1e-9)


def test_one_server_sustains_what_erlangs_formula_says() -> None:
    # M/M/1: P(wait > t) = ρ·exp(−(μ − λ)t). Here μ = 10/s, t = 0.4 s.
    rate = sustained(Profile(1, 100.0), 1.0, 1, Slo(ttft_ms=500.0, met=0.9))
    assert rate / 10 * math.exp(-(10 - rate) * 0.4) == pytest.approx(0.1, rel=1e-6)


def test_a_large_model_takes_several_slots_and_says_why() -> None:
    capacity = Capacity((4, 4), "GPU", slot_bytes=80e9)
    loads = [
        ModelLoad("large", 1.0, 100.0, Profile(8, 40.0), size=140 * 10**9),
        ModelLoad("small", 9.0, 100.0, Profile(32, 10.0), size=3 * 10**9),
    ]
    assert [slots_of(load, capacity) for load in loads] == [3, 1]
    made = plan(loads, capacity, SLO)
    large, small = made.models
    assert large.memory == 240e9
    assert made.replicas == {"large": 2, "small": 2}
    assert large.reason.startswith("6 of 8 GPUs (2 × 3: 140.0 GB of weights): measured 1 rps × 100 tokens, ")
    assert small.reason.startswith("2 of 8 GPUs: measured 9 rps × 100 tokens, 10 ms a token; sustains ")


def test_too_little_for_the_load_is_said() -> None:
    load = ModelLoad("m", 4.0, 100.0, Profile(1, 10.0))
    (only,) = plan([load], Capacity((2,), "core"), SLO).models
    assert only.headroom == headroom(load, 2, SLO) < 1
    assert only.reason.startswith("2 of 2 cores: measured 4 rps × 100 tokens, 10 ms a token; sustains ")
    needed = next(n for n in range(3, 20) if headroom(load, n, SLO) >= 1)
    assert only.reason.endswith(f"; {needed - 2} more would hold it")
    (crowded,) = plan([replace(load, rate=1e4)], Capacity((2,), "core"), SLO).models
    assert crowded.reason.endswith("; too little")


def test_models_that_find_no_room_are_refused() -> None:
    loads = [ModelLoad(name, 1.0, 10.0, Profile(1, 10.0)) for name in "abc"]
    with pytest.raises(PlanError, match="free are 2 slots"):
        plan(loads, Capacity((1, 1)), SLO)


def test_what_nobody_asks_for_gets_one_replica() -> None:
    busy, idle = ModelLoad("a", 5.0, 10.0, Profile(1, 10.0)), ModelLoad("b", 0.0, 10.0, Profile(1, 10.0))
    made = plan([busy, idle], Capacity((8,)), SLO)
    assert made.replicas == {"a": 7, "b": 1}
    assert made.models[1].reason == "1 of 8 slots: nothing arrives"


@settings(max_examples=60, deadline=None)
@given(of_sizes, st.integers(1, 4))
def test_models_that_share_gpus_get_parts_of_one_each(loads: list[ModelLoad], gpus: int) -> None:
    capacity = Capacity((8,) * gpus, "GPU-eighth", slot_bytes=10e9, grows=True)
    made = planned(loads, capacity)
    if made is None:
        return
    assert set(made.replicas.values()) == {1}
    assert sum(one.slots for one in made.models) + made.free == capacity.total
    for one, load in zip(made.models, loads, strict=True):
        assert 1 <= one.slots <= 8
        assert load.size is not None
        assert 0.7 * one.slots * 10e9 >= load.size
        assert one.memory == one.slots * 10e9


def test_of_one_gpu_the_busier_model_gets_more() -> None:
    capacity = Capacity((8,), "GPU-eighth", slot_bytes=10e9, grows=True)
    loads = [ModelLoad(n, rate, 100.0, Profile(64, 80.0), 3 * 10**9) for n, rate in (("a", 9.0), ("b", 3.0))]
    made = plan(loads, capacity, SLO)
    assert [one.slots for one in made.models] == [6, 2]
    assert made.models[0].reason.startswith("6 of 8 GPU-eighths (1 × 6: 3.0 GB of weights): measured 9 rps")
