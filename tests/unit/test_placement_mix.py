"""Replicas that follow the mix of models, in virtual time: against an even split, and against the best plan
that stays."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from backends.cluster.placement_mix import Ended, Look, Mix, Replanner, ended_of
from backends.cluster.placement_plan import Capacity, ModelLoad, Profile, Slo
from tests.unit.placing_model import Done, Engine, World, moves

SLO = Slo(ttft_ms=500.0)
SLOTS = Capacity((8,))
ENGINE = Engine(places=4, token_ms=20.0, tokens=40)  # 5 requests a second each
MIX, FLIPPED = {"a": 21.6, "b": 7.2}, {"a": 7.2, "b": 21.6}
EVEN = {"a": 4, "b": 4}


def loads(**rates: float) -> list[ModelLoad]:
    profile = Profile(places=4, base_ms=50.0)  # not yet as it will be measured
    return [ModelLoad(name, rate, 100.0, profile, known="assumed") for name, rate in rates.items()]


def replanned(planner: Replanner) -> Callable[[Look, bool], Mapping[str, int] | None]:
    def decide(look: Look, at_rest: bool) -> Mapping[str, int] | None:
        made = planner.look(look, at_rest=at_rest)
        return None if made is None else made.replicas

    return decide


def goodput(done: list[Done], begin: float, end: float) -> float:
    """Requests a second that arrived in [begin, end) and kept the SLO."""
    good = [d for d in done if begin <= d.arrived < end and d.first - d.arrived <= SLO.ttft_ms / 1e3]
    return len(good) / (end - begin)


def followed(*phases: tuple[float, Mapping[str, float]], start: Mapping[str, float]) -> World:
    planner = Replanner(loads(**start), SLOTS, SLO)
    world = World(dict.fromkeys("ab", ENGINE), planner.plan.replicas, phases, replanned(planner))
    world.run()
    assert world.held == 0
    assert sum(world.arrived.values()) == len(world.done), "a request was lost"
    return world


def stays(replicas: Mapping[str, int], *phases: tuple[float, Mapping[str, float]]) -> list[Done]:
    return World(dict.fromkeys("ab", ENGINE), replicas, phases).run()


def test_the_plan_serves_more_within_the_slo_than_an_even_split() -> None:
    world = followed((120.0, MIX), start=MIX)
    even = goodput(stays(EVEN, (120.0, MIX)), 0.0, 120.0)
    planned = goodput(world.done, 0.0, 120.0)
    print(f"goodput: planned {planned:.1f} rps, even split {even:.1f} rps, × {planned / even:.2f}")
    assert planned >= 1.2 * even
    assert world.moved == []  # the mix was known, and is as it was


def test_after_a_flip_of_the_mix_goodput_is_back_within_a_minute() -> None:
    world = followed((90.0, MIX), (120.0, FLIPPED), start=MIX)
    best = max(goodput(stays({"a": n, "b": 8 - n}, (120.0, FLIPPED)), 60.0, 120.0) for n in range(1, 8))
    back = goodput(world.done, 150.0, 210.0)
    print(f"goodput a minute after the flip: {back:.1f} rps, best plan {best:.1f}; moved at {world.moved}")
    assert back >= 0.9 * best
    assert 90.0 < world.moved[0] <= 100.0


def test_a_mix_that_nobody_foretold_is_found() -> None:
    world = followed((120.0, MIX), start={"a": 1.0, "b": 1.0})
    best = goodput(stays({"a": 6, "b": 2}, (120.0, MIX)), 60.0, 120.0)
    assert goodput(world.done, 60.0, 120.0) >= 0.9 * best


@pytest.mark.parametrize("seed", range(2))
def test_a_mix_that_stays_hardly_moves_replicas(seed: int) -> None:
    planner = Replanner(loads(**MIX), SLOTS, SLO)
    world = World(
        *(dict.fromkeys("ab", ENGINE), planner.plan.replicas, [(240.0, MIX)]),
        replanned(planner),
        seed=seed,
    )
    world.run()
    assert len(world.moved) <= 1, "only from what was assumed of the engines to what they are"


def test_rates_and_times_are_measured() -> None:
    mix = Mix(loads(a=1.0, b=1.0))
    for second in range(30):
        mine = Ended(second * 3.0, second * 0.06, second * 2.34, second * 3.0, second * 0.06)
        mix.look(Look(float(second), {"a": 3 * second, "b": 0}, {"a-1": ("a", mine)}), {"a": 1, "b": 1})
    a, b = mix.loads()
    assert (a.rate, a.known, b.rate) == (pytest.approx(3.0), "measured", 0.0)
    assert a.tokens == pytest.approx(40.0)
    assert a.profile == Profile(4, pytest.approx(20.0), 0.0, pytest.approx(20.0))
    assert b.profile.base_ms == 50.0  # nothing of it ended


def test_steps_that_grow_with_the_batch_are_told_apart() -> None:
    mix = Mix([ModelLoad("a", 1.0, 10.0, Profile(64, 50.0))])
    total, t = Ended(), 0.0
    for batch, token_s in ((4, 0.012), (32, 0.026)):  # 10 ms and 0.5 ms a request
        for _ in range(12):
            t += 1.0
            requests = batch / (token_s * 100)
            total = total.plus(
                Ended(requests, requests * token_s, requests * 99 * token_s, requests, requests * token_s)
            )
            mix.look(Look(t, {"a": round(t)}, {"a-1": ("a", total)}), {"a": 1})
    (load,) = mix.loads()
    assert load.profile.base_ms == pytest.approx(10.0, rel=0.05)
    assert load.profile.seq_ms == pytest.approx(0.5, rel=0.05)


def test_counters_that_begin_anew_are_no_load() -> None:
    mix = Mix(loads(a=2.0))
    counts = [100, 102, 104, 0, 2, 4, 6, 8, 10]
    for second, count in enumerate(counts):
        mix.look(Look(float(second), {"a": count}), {"a": 1})
    assert mix.loads()[0].rate == pytest.approx(2.0)
    assert Ended(3.0, 1.0).since(Ended(5.0, 2.0)) == Ended(3.0, 1.0)


def test_sums_are_read_from_both_kinds_of_page() -> None:
    page = """# TYPE {0}:request_prefill_time_seconds histogram
{0}:request_prefill_time_seconds_bucket{{engine="0",le="0.3"}} 3.0
{0}:request_prefill_time_seconds_sum{{engine="0",model_name="a"}} 0.5
{0}:request_prefill_time_seconds_count{{engine="0",model_name="a"}} 3.0
{0}:request_decode_time_seconds_sum{{engine="0",model_name="a"}} 2.5
{0}:request_decode_time_seconds_count{{engine="0",model_name="a"}} 3.0
{0}:request_time_per_output_token_seconds_sum{{engine="0",model_name="a"}} 0.04
{0}:request_time_per_output_token_seconds_count{{engine="0",model_name="a"}} 2.0
"""
    for kind in ("vllm", "rvtop"):
        assert ended_of(page.format(kind)) == Ended(3.0, 0.5, 2.5, 2.0, 0.04)
    assert ended_of("") == Ended()


def test_moves_take_and_give_one_replica_each() -> None:
    assert moves({"a": 6, "b": 2}, {"a": 4, "b": 4}) == (["a", "a"], ["b", "b"])
    assert moves({"a": 1}, {"a": 1, "b": 1}) == ([], ["b"])
