"""The energy of a run, from timelines whose energy is known."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rvtop.results import summary
from rvtop.results.energy import NO_POWERS, MeteredEnergy, Meters, Powers, RunEnergy, gpus_of
from tests.bench.gpu_energy import verdict
from tests.unit.run_folder import command, make, phase, request, second

GIB = 2**30


def gpu(t_s: float, at: Callable[[float], float], index: int = 0, **more: Any) -> dict[str, Any]:
    """A GPU whose counter has its energy since t = 0, by an integral of a hundred steps a second."""
    steps = range(round(t_s * 100))
    joules = sum(at((step + 0.5) / 100) / 100 for step in steps)
    told = {"watts": at(t_s), "joules": joules, "joules_integrated": 1.02 * joules}
    told |= {"joules_by": "counter", "power_gap_s": 0.0}
    memory = {"memory_used": 100.0 * GIB, "memory_total": 140.0 * GIB, "util": 0.9}
    return {"node": "n1", "index": index, "name": "H200", **memory, **told, **more}


def power(t_s: float) -> float:
    """70 W, and 300 more from 10 to 70 s."""
    return 370.0 if 10 <= t_s < 70 else 70.0


def timeline(*more: dict[str, Any], **every: Any) -> list[dict[str, Any]]:
    return [
        second(t_s, in_flight=int(10 <= t_s < 70), gpus=[gpu(t_s, power, **every), *more])
        for t_s in range(1, 81)
    ]


def over(
    rows: list[dict[str, Any]],
    spans: list[tuple[float, float]],
    tokens: int = 1,
    requests: int = 1,
    powers: Powers = NO_POWERS,
) -> dict[str, Any] | None:
    return RunEnergy(rows, None, powers).over(spans, tokens=tokens, requests=requests)


def test_what_a_span_took_and_what_idles() -> None:
    found = over(timeline(), [(10.0, 70.0)], 11_100, 100)
    assert found is not None
    assert found["joules"] == pytest.approx(60 * 370)
    assert found["joules_integrated"] == pytest.approx(1.02 * 60 * 370)
    assert found["joules_per_token"] == pytest.approx(2.0)
    assert found["joules_per_request"] == pytest.approx(222.0)
    assert found["tokens_per_joule"] == pytest.approx(0.5)
    assert found["watts_mean"] == pytest.approx(370)
    assert (found["watts_idle"], found["watts_idle_from"]) == (pytest.approx(70), "measured")
    assert found["joules_above_idle"] == pytest.approx(60 * 300)
    assert (found["source"], found["gap_s"], found["cpu"]) == ("counter", 0, None)
    assert verdict(found) == {"ratio": pytest.approx(1.02), "within": True}


def test_spans_that_end_between_seconds_are_read_off_the_line() -> None:
    found = over(timeline(), [(20.25, 30.5), (40.0, 41.0)])
    assert found is not None
    assert found["joules"] == pytest.approx(11.25 * 370)


def test_a_gpu_that_does_not_tell_is_nothing_and_not_less() -> None:
    silent = {"joules": None, "joules_integrated": None, "watts": None, "joules_by": ""}
    rows = timeline(gpu(1, power, 1, **silent))
    found = over(rows, [(10.0, 70.0)])
    assert found is not None
    assert [each["joules"] for each in found["gpus"]] == [pytest.approx(60 * 370), None]
    assert (found["joules"], found["joules_per_token"], found["watts_idle"], found["source"]) == (None,) * 4
    assert verdict(found) == {"ratio": None, "within": False}
    assert over(timeline(**silent), [(10.0, 70.0)]) is None
    assert verdict(None) == {"ratio": None, "within": False}


def test_what_the_settings_say_of_one_that_does_not_tell() -> None:
    rows = timeline(joules=None, joules_integrated=None, watts=None, joules_by="")
    powers = Powers(400.0, 60.0)
    found = over(rows, [(10.0, 70.0)], 240, 1, powers=powers)
    assert found is not None
    assert (found["joules"], found["source"]) == (24_000, "setting")
    assert (found["watts_idle"], found["watts_idle_from"]) == (60, "setting")


def test_a_total_that_begins_anew_counts_on() -> None:
    rows = timeline()
    half = next(row["gpus"][0]["joules"] for row in rows if row["t_s"] == 40)
    for row in rows[40:]:
        row["gpus"][0]["joules"] -= half  # another server from there on
    found = over(rows, [(10.0, 70.0)])
    assert found is not None
    assert found["joules"] == pytest.approx(60 * 370)


def test_without_figures_near_its_ends_a_span_has_none() -> None:
    rows = [row for row in timeline() if row["t_s"] <= 60]
    assert over(rows, [(10.0, 70.0)]) is None


def test_the_gpus_that_serve() -> None:
    bare = {"memory_used": 0.5 * GIB, "util": 0.0}
    rows = timeline(gpu(5, power, 1, **bare), gpu(5, power, 2, memory_used=120.0 * GIB))
    assert gpus_of(rows) == [("n1", 0), ("n1", 2)]
    assert gpus_of(rows, 1) == [("n1", 2)]
    assert gpus_of(rows, 3) == [("n1", 0), ("n1", 1), ("n1", 2)]
    assert gpus_of(rows, 0) == []


def test_a_gpu_of_the_engines_that_nothing_tells_of_is_missed() -> None:
    span = [(10.0, 70.0)]
    found = RunEnergy(timeline(), 2).over(span, tokens=1, requests=1)
    assert found is None or found["joules"] is None
    told = RunEnergy(timeline(), 2, Powers(100.0)).over(span, tokens=1, requests=1)
    assert told is not None
    assert told["joules"] == pytest.approx(60 * 370 + 60 * 100)
    assert told["source"] == "counter and setting"


def changing(draw: random.Random) -> list[dict[str, Any]]:
    """GPUs that come and go, fill and empty, begin to count anew, and tell by another way or not at all."""
    rows, joules = [], {0: 0.0, 1: 0.0, 2: 0.0}
    for t_s in range(1, 121):
        told = []
        for index in (one for one in joules if (t_s // 20) % 3 != one):
            joules[index] = 0.0 if draw.random() < 0.03 else joules[index] + draw.uniform(50, 400)
            silent = {} if draw.random() < 0.9 else {"joules": None, "joules_by": ""}
            memory = {"memory_used": draw.choice((0.1, 90.0)) * GIB, "memory_total": 140.0 * GIB}
            by = "counter" if t_s < 70 else "integrated power"
            figures = {"util": 0.0, "joules": joules[index], "joules_by": by, "power_gap_s": t_s / 10}
            told.append({"node": "n", "index": index} | memory | figures | silent)
        rows.append(second(float(t_s), gpus=told, cpu_joules=30.0 * t_s))
    return rows


@pytest.mark.parametrize("engine_gpus", [None, 2])
def test_a_window_that_goes_on_has_what_is_in_it(engine_gpus: int | None) -> None:
    """Meters that add a second and forget one tell what those of the window alone tell."""
    window: deque[dict[str, Any]] = deque()
    meters, seen = Meters(), set()
    for row in changing(random.Random(3)):
        window.append(row)
        meters.add(row)
        if len(window) > 12:
            meters.forget(window.popleft())
        anew = RunEnergy(list(window), engine_gpus)
        on = MeteredEnergy(meters, engine_gpus)
        assert on.gpus == anew.gpus
        span = [(window[0]["t_s"], row["t_s"])]
        found, wanted = (one.over(span, tokens=100, requests=10) for one in (on, anew))
        assert (found is None) == (wanted is None)
        if found is None or wanted is None:
            continue
        seen.add(wanted["source"])
        for name in ("joules", "joules_per_token", "gap_s", "watts_mean"):
            assert found[name] == (None if wanted[name] is None else pytest.approx(wanted[name])), name
        assert [gpu["source"] for gpu in found["gpus"]] == [gpu["source"] for gpu in wanted["gpus"]]
    assert {None, "counter"} < seen
    assert len(meters.of) <= 3


def test_a_machine_without_gpus_has_its_processors() -> None:
    rows = [second(t_s, in_flight=0, cpu_joules=50.0 * t_s, cpu_watts=50.0) for t_s in range(1, 20)]
    found = over(rows, [(5.0, 15.0)], 100, 1)
    assert found is not None
    assert (found["joules"], found["joules_per_token"], found["source"]) == (500, 5, "rapl")
    assert found["cpu"] == {"joules": 500, "watts_mean": 50}
    assert found["watts_idle"] == 50


def test_a_run_has_it_in_all_and_by_phase(tmp_path: Path) -> None:
    rows = [
        request(0, "warm", 12_000, lag=0, first=100, last=200, tokens=10),
        request(1, "hold", 20_000, lag=0, first=100, last=200, tokens=40),
        request(2, "hold", 29_000, lag=0, first=100, last=11_000, tokens=35),  # its drain counts
    ]
    commands = [
        phase("warm", 10.0, 10.0, warmup=True),
        phase("hold", 20.0, 10.0),
        command(41.0, "stop"),
    ]
    folder = make(tmp_path, rows, commands, timeline(), target_engines=[{"devices": 1}])
    made = summary.summarise(folder)
    assert made["energy"]["seconds"] == pytest.approx(20)
    assert made["energy"]["joules"] == pytest.approx(20 * 370)
    assert made["energy"]["joules_per_token"] == pytest.approx(20 * 370 / 75)
    warm, hold = made["phases"]
    assert warm["energy"]["joules"] == pytest.approx(10 * 370)
    assert hold["energy"] == made["energy"]
    assert "energy" not in made["by_model"]["a"]
