"""What a run cost, worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rvtop.results import summary
from rvtop.results.cost import capacity, prices_of
from rvtop.results.spent import gpus_held
from rvtop.stats.prices import Cost, Prices, cost, per_million, prefill_share, split
from tests.unit.run_folder import command, make, phase, request, second


def test_gpus_and_energy_add_up() -> None:
    assert cost(Prices(4.0, 0.25), 2, 1800, 3.6e6) == Cost(4.25, 4.0, 0.25)
    assert cost(Prices(4.0), 2, 1800, None) == Cost(4.0, 4.0, None)
    assert cost(Prices(None, 0.25), None, 1800, 7.2e6) == Cost(0.5, None, 0.5)


def test_what_has_no_price_or_is_not_known_costs_nothing_that_could_be_said() -> None:
    assert cost(Prices(), 2, 1800, 3.6e6) == Cost()
    assert cost(Prices(4.0, 0.25), 2, 1800, None) == Cost(None, 4.0, None)
    assert cost(Prices(4.0), None, 1800, None) == Cost()
    assert cost(Prices(4.0), 0, 1800, None) == Cost()
    assert per_million(None, 5) is per_million(1.0, 0) is per_million(1.0, None) is None


def test_a_cost_is_split_by_the_time_in_prefill_and_in_decode() -> None:
    share = prefill_share(250.0, 750.0)
    assert share == 0.25
    assert split(8.0, share) == (2.0, 6.0)
    assert split(8.0, None) == split(None, 0.5) == (None, None)
    assert prefill_share(None, 1.0) is prefill_share(0.0, 0.0) is None


def test_capacity_at_the_slo_by_gpu() -> None:
    goodput = {"low": 3.0, "high": 8.0, "over": 5.0}
    assert capacity(2, goodput, None) == {"rps_per_gpu": 4.0, "gpus": 2, "by": "goodput", "phase": "high"}
    assert capacity(2, {"low": None}, None) is None
    assert capacity(None, goodput, None) is capacity(0, goodput, None) is None
    assert capacity(4, {"s": 1.0}, {"rps": 40.0}) == {"rps_per_gpu": 10.0, "gpus": 4, "by": "find_max"}
    assert capacity(4, {"s": 1.0}, {"rps": None}) is None


@pytest.mark.parametrize("told", [None, 3, {"gpu_hour": "2"}, {"gpu_hour": -1}, {"gpu_hour": True}])
def test_prices_that_are_not_of_a_session_are_none(told: Any) -> None:
    assert prices_of(told) == Prices()


def folder(path: Path, **more: Any) -> Path:
    """An hour's half at 4 requests: 40 000 tokens in, 10 000 out, on one GPU of two with 720 W."""
    rows = [
        request(n, "hold", 1000 + n, lag=0, first=100, last=200, tokens=2500, prompt_tokens=10_000)
        for n in range(4)
    ]
    commands = [phase("hold", 1.0, 1800.0), command(1801.5, "stop")]
    served = {"node": "n1", "index": 0, "memory_used": 60e9, "memory_total": 80e9, "util": 0.9}
    other = {"node": "n1", "index": 1, "memory_used": 0.5e9, "memory_total": 80e9, "util": 0.0}
    timeline = [
        second(
            t_s,
            in_flight=1,
            gpus=[served | {"watts": 720.0, "joules": 720.0 * t_s, "joules_by": "counter"}, other],
            totals={
                "prefill_time.sum": t_s,
                "prefill_time.count": t_s,
                "decode_time.sum": 3 * t_s,
                "decode_time.count": t_s,
            },
        )
        for t_s in (0.5, 900.0, 1801.0)
    ]
    return make(path, rows, commands, timeline, **more)


def test_a_run_has_its_cost_in_all_and_by_phase(tmp_path: Path) -> None:
    prices = {"gpu_hour": 2.0, "kwh": 0.5, "gpu_power_w": None, "gpu_idle_w": 100.0}
    found = summary.summarise(folder(tmp_path, prices=prices))
    assert found["energy"]["joules"] == pytest.approx(720 * 1800)
    assert found["energy"]["watts_idle_from"] == "setting"
    assert found["energy"]["joules_above_idle"] == pytest.approx(620 * 1800)
    whole = 1.0 + 0.36 * 0.5
    assert found["cost"] == {
        "usd": pytest.approx(whole),
        "usd_gpus": pytest.approx(1.0),
        "usd_energy": pytest.approx(0.18),
        "usd_per_hour": pytest.approx(2 * whole),
        "usd_per_mtok": pytest.approx(whole / 0.05),
        "usd_per_mtok_in": pytest.approx(whole / 4 / 0.04),
        "usd_per_mtok_out": pytest.approx(whole * 3 / 4 / 0.01),
        "usd_per_request": pytest.approx(whole / 4),
        "prefill_share": pytest.approx(0.25),
        "gpus": 1,
    }
    assert found["phases"][0]["cost"] == found["cost"]
    assert found["capacity"] == {
        "rps_per_gpu": pytest.approx(4 / 1800),
        "gpus": 1,
        "by": "goodput",
        "phase": "hold",
    }


def test_the_gpus_are_those_that_the_engines_tell(tmp_path: Path) -> None:
    engines = [{"devices": 2}, {"devices": 2}]
    found = summary.summarise(folder(tmp_path / "a", prices={"gpu_hour": 2.0}, target_engines=engines))
    assert (found["cost"]["gpus"], found["cost"]["usd"]) == (4, pytest.approx(4.0))
    assert found["energy"] is not None
    assert found["energy"]["joules"] is None  # two of the four are seen, and one of them tells
    moved = folder(
        tmp_path / "b", prices={"gpu_hour": 2.0}, target_engines=engines, targets=[{"url": "http://b"}]
    )
    assert summary.summarise(moved)["cost"]["gpus"] == 1  # as seen: the engines were another server's


def test_replicas_that_come_and_go_cost_as_long_as_they_are_there(tmp_path: Path) -> None:
    """One GPU at first, three from 900 s on, of 1 800 s: twice that of one."""
    made = folder(tmp_path, prices={"gpu_hour": 2.0}, target_engines=[{"devices": 1}])
    lines = [json.loads(line) for line in (made / "timeline.jsonl").read_text().splitlines()]
    for line, count in zip(lines, (1, 3, 3), strict=True):
        line["engine_gpus"] = count
    lines[1]["t_s"] = 901.0  # the phase has 1 to 1 801 s
    (made / "timeline.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = summary.summarise(made)
    assert found["cost"]["gpus"] == pytest.approx(2.0)
    assert found["cost"]["usd_gpus"] == pytest.approx(2.0 * 2 * 1800 / 3600)
    assert found["capacity"]["gpus"] == 3
    assert len(found["energy"]["gpus"]) == 2  # of which figures are told
    assert found["energy"]["joules"] is None  # of the third nothing is known


def test_a_run_that_began_with_no_replica_costs_from_the_first_one_on(tmp_path: Path) -> None:
    made = folder(tmp_path / "a", prices={"gpu_hour": 2.0}, target_engines=[])
    lines = [json.loads(line) for line in (made / "timeline.jsonl").read_text().splitlines()]
    lines[1]["t_s"] = 901.0
    for line, count in zip(lines, (0, 4, 4), strict=True):
        line["engine_gpus"] = count
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (made / "timeline.jsonl").write_text(text)
    assert summary.summarise(made)["cost"]["usd_gpus"] == pytest.approx(2.0 * 4 * 900 / 3600)
    moved = folder(tmp_path / "b", prices={"gpu_hour": 2.0}, target_engines=[], targets=[{"url": "http://b"}])
    (moved / "timeline.jsonl").write_text(text)
    assert summary.summarise(moved)["cost"]["gpus"] == 1  # as seen: of two servers


@pytest.mark.parametrize("odd", ["2", True, -1, 1.5, 1 << 40, None, [1]])
def test_an_odd_count_of_gpus_is_left_out(tmp_path: Path, odd: object) -> None:
    made = folder(tmp_path, prices={"gpu_hour": 2.0}, target_engines=[{"devices": 1}])
    lines = [json.loads(line) for line in (made / "timeline.jsonl").read_text().splitlines()]
    (made / "timeline.jsonl").write_text(
        "".join(json.dumps(line | {"engine_gpus": odd}) + "\n" for line in lines)
    )
    assert summary.summarise(made)["cost"]["gpus"] == 1


def test_replicas_that_start_or_end_hold_their_gpus() -> None:
    engines = [{"model": "a", "devices": 2}, {"model": "b", "devices": 1}]
    told = {"model": "a", "wanted": 3, "starting": 2, "healthy": 1, "draining": 1, "pending": 1}
    assert gpus_held(engines, []) == 3
    assert gpus_held(engines, [told]) == 2 * 3 + 1
    assert gpus_held(engines, [told | {"starting": None}]) == 3
    assert gpus_held(engines, [told | {"model": "of another"}]) == 3
    assert gpus_held([{"model": "a"}], [told]) is None
    none = {"model": "a", "wanted": 1, "starting": 1, "healthy": 0, "draining": 0, "pending": 1}
    assert gpus_held([], [none]) == 0  # its only one has no place yet
    assert gpus_held([], [none | {"pending": 0}]) is None
    assert gpus_held([], []) is None


def test_without_prices_there_is_no_cost(tmp_path: Path) -> None:
    found = summary.summarise(folder(tmp_path))
    assert found["cost"] is None
    assert found["phases"][0]["cost"] is None
    assert found["energy"]["joules"] == pytest.approx(720 * 1800)
