"""What serving takes, each second of a load whose energy is known."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rvtop.contract.snapshot import Gpu, Snapshot, Target
from rvtop.contract.spending import Spending
from rvtop.results.spent import gpus_held
from rvtop.session.energy_watch import WINDOW_S, EnergyWatch
from rvtop.session.load_parts import Second
from rvtop.session.still import Stillness
from rvtop.session.watches import Watches
from rvtop.stats.prices import Prices
from rvtop.telemetry.sample import GpuSample, PackageSample, Sample, without_meters
from tests.unit.run_folder import second


def row(t_s: int, watts: float | None = 400.0, **more: Any) -> dict[str, Any]:
    """A second in which 100 tokens and 2 requests came, from 5 s on; 300 prompt tokens went in."""
    busy = max(0, t_s - 5)
    joules = None if watts is None else watts * t_s
    gpu = {"node": "n1", "index": 0, "memory_used": 60e9, "memory_total": 80e9, "util": 0.9}
    totals = {
        "generation_tokens": 100.0 * busy,
        "prompt_tokens": 300.0 * busy,
        "requests_ok": 2.0 * busy,
        "prefill_time.sum": 1.0 * busy,
        "decode_time.sum": 3.0 * busy,
    }
    told = {"watts": watts, "joules": joules, "joules_by": "counter"}
    base = {"ok": 2 * busy, "in_flight": 4 if busy else 0, "gpus": [gpu | told], "totals": totals}
    return second(float(t_s), **(base | more))


def watched(rows: list[dict[str, Any]], prices: Prices, gpus: int | None = None) -> Spending | None:
    watch = EnergyWatch(prices)
    for each in rows:
        watch.look(each, 100 * max(0, int(each["t_s"]) - 5), gpus)
    return watch.spending


def test_power_energy_and_money_of_the_last_half_minute() -> None:
    found = watched([row(t_s) for t_s in range(1, 101)], Prices(3.6, 1.0))
    assert found is not None
    assert (found.watts, found.joules) == (400, 40_000)
    assert found.joules_per_token == pytest.approx(4.0)
    assert found.joules_per_request == pytest.approx(200.0)
    assert (found.watts_idle, found.measured, found.on_cpu) == (400, True, False)
    hour = 3.6 + 0.4
    assert found.money_per_hour == pytest.approx(hour)
    second_costs = hour / 3600
    assert found.money_per_mtok == pytest.approx(1e6 * second_costs / 400)
    assert found.money_per_mtok_in == pytest.approx(1e6 * second_costs / 4 / 300)
    assert found.money_per_mtok_out == pytest.approx(1e6 * second_costs * 3 / 4 / 100)


def test_gpus_cost_while_they_are_there() -> None:
    """Of the last 31 seconds 16 with one GPU and 15 with three."""
    rows = [row(t_s, engine_gpus=1 if t_s <= 85 else 3) for t_s in range(1, 101)]
    found = watched(rows, Prices(3.6), 3)
    assert found is not None
    assert found.money_per_hour == pytest.approx(3.6 * (16 + 3 * 15) / 31)


def test_seconds_in_which_no_engine_tells_of_gpus_are_not_free() -> None:
    rows = [row(t_s, engine_gpus=None if t_s <= 85 else 3) for t_s in range(1, 101)]
    found = watched(rows, Prices(3.6), 3)
    assert found is not None
    assert found.money_per_hour == pytest.approx(3.6 * 3)


def test_the_energy_of_a_gpu_that_was_given_back_is_counted_as_long_as_it_was_used() -> None:
    """Two GPUs of 400 W until 89 s, then one: the window's is of both, and what was used stays."""

    def two(t_s: int) -> dict[str, Any]:
        made = row(t_s, engine_gpus=2 if t_s < 90 else 1)
        other = {**made["gpus"][0], "index": 1, "memory_used": 30e9 if t_s < 90 else 0.0}
        return made | {"gpus": [made["gpus"][0], other]}

    watch = EnergyWatch(Prices())
    watch.begin_at("http://a")
    so_far = []
    for t_s in range(1, 131):
        watch.look(two(t_s), 100 * max(0, t_s - 5), 2 if t_s < 90 else 1)
        assert watch.spending is not None
        so_far.append(watch.spending.joules or 0.0)
        if t_s == 95:
            assert watch.spending.joules_per_token == pytest.approx(8.0)
    assert so_far == [800 * t_s for t_s in range(1, 131)]
    assert watch.spending is not None
    assert watch.spending.joules_per_token == pytest.approx(4.0)  # half a minute later
    watch.begin_at("http://b")
    watch.look(two(131), 12_600, 1)
    assert watch.spending.joules == 400 * 131


@pytest.mark.parametrize("paired", [False, True])
def test_the_gpus_of_a_second_are_of_one_server(paired: bool) -> None:
    """Of a pair both tell of replicas, of models of one name, and one tells of its engines."""
    told = {"model": "a", "starting": 0, "healthy": 1, "draining": 0, "pending": 0}
    target = SimpleNamespace(gpus_held=partial(gpus_held, [{"model": "a", "devices": 1}]))
    idle = SimpleNamespace(look=lambda *_: None, comb=None)
    watches = cast("Any", Watches.__new__(Watches))
    watches._target, watches._paired, watches._live = target, paired, None
    watches._player, watches.comb = SimpleNamespace(start_ns=0), idle
    watches.placement = watches.verdict = idle
    made = row(1, replicas=[told, told] if paired else [told])
    watches.judge(Second(1, made, last=False))
    assert made["engine_gpus"] == (None if paired else 1)


def test_a_server_without_counters_has_the_clients_tokens() -> None:
    found = watched([row(t_s, totals={}) for t_s in range(1, 101)], Prices(3.6))
    assert found is not None
    assert found.joules_per_token == pytest.approx(4.0)
    assert (found.money_per_mtok_in, found.money_per_mtok) == (None, None)
    assert found.money_per_hour == pytest.approx(3.6)


def test_nothing_told_and_no_price_is_nothing_to_show() -> None:
    rows = [row(t_s, None) for t_s in range(1, 20)]
    assert watched(rows, Prices()) is None
    priced = watched(rows, Prices(2.0), 2)
    assert priced is not None
    assert (priced.watts, priced.joules_per_token) == (None, None)
    assert priced.money_per_hour == pytest.approx(4.0)


def test_processors_stand_for_a_machine_without_gpus() -> None:
    rows = [row(t_s, gpus=[], cpu_watts=50.0, cpu_joules=50.0 * t_s) for t_s in range(1, WINDOW_S + 20)]
    found = watched(rows, Prices())
    assert found is not None
    assert (found.watts, found.on_cpu) == (50, True)
    assert found.joules_per_token == pytest.approx(0.5)


def test_power_that_is_never_quite_the_same_is_no_news() -> None:
    """An idle server is drawn as seldom as before it told its power."""
    gpu = GpuSample("n1", 0, "H200", util=0.0, watts=71.2, joules=100.0)
    one = Sample(1, "nvml", gpus=(gpu,), packages=(PackageSample("n1", 0, 9.0, 9.0),))
    later = Sample(2, "nvml", gpus=(replace(gpu, watts=71.3, joules=171.0),))
    assert without_meters(one) == without_meters(later)
    assert without_meters(one) != without_meters(replace(later, gpus=(replace(gpu, util=0.5),)))
    shown = Gpu("n1", 0, "H200", watts=71.2, joules=100.0, joules_integrated=99.0)
    target = Target("http://x", None, ())
    s = Snapshot(1, 1.0, 1.0, "watching", "", target, gpus=(shown,), spending=Spending(71.2))
    still = Stillness()
    assert still.is_news(s)
    more = replace(shown, watts=71.3, joules=171.0, joules_integrated=170.0)
    assert not still.is_news(replace(s, t_s=2.0, gpus=(more,), spending=Spending(71.3)))
