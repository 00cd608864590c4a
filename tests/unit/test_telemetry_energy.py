"""Energy from samples: counters, power integrated over time, gaps; and a machine's processors by RAPL."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvtop.telemetry import discover, rapl
from rvtop.telemetry.energy import BOTH, BRIDGED_S, COUNTER, POWER, Energy, Meter
from rvtop.telemetry.poller import PERIOD_S
from rvtop.telemetry.sample import GpuSample, Sample
from rvtop.telemetry.state import STALE_S, ServerState

S = 1_000_000_000


def metered(*samples: tuple[float, float | None, float | None]) -> Meter:
    meter = Meter()
    for t_s, watts, joules in samples:
        meter.add(round(t_s * S), watts, joules)
    return meter


def test_nothing_told_is_nothing_and_not_zero() -> None:
    assert metered().at(S) == Energy()
    assert metered((1, None, None), (2, None, None)).at(3 * S).joules is None


def test_power_is_integrated_by_trapezoids() -> None:
    found = metered((1, 100, None), (2, 300, None), (4, 200, None)).at(4 * S)
    assert found == Energy(200 + 500, 700, POWER)


def test_since_the_last_sample_its_power_is_taken_to_have_stayed() -> None:
    meter = metered((1, 100, None), (2, 100, None))
    assert meter.at(round(2.5 * S)).joules == pytest.approx(150)
    assert meter.at(round((2 + BRIDGED_S + 1) * S)).joules == pytest.approx(100)


def test_a_counter_counts_what_no_sample_saw() -> None:
    found = metered((1, 100, 5000), (2, 100, 5100), (102, 100, 35_100)).at(102 * S)
    assert (found.joules, found.integrated, found.by, found.gap_s) == (30_100, 100, COUNTER, 0)


def test_a_gap_in_the_power_is_left_out_and_told() -> None:
    found = metered((0, 100, None), (1, 100, None), (31, 100, None), (32, 100, None)).at(32 * S)
    assert (found.joules, found.gap_s) == (200, 30)
    bridged = metered((0, 100, None), (BRIDGED_S, 100, None)).at(round(BRIDGED_S * S))
    assert (bridged.joules, bridged.gap_s) == (100 * BRIDGED_S, 0)


def test_a_counter_that_begins_anew_counts_from_there_on() -> None:
    found = metered((0, None, 900), (1, None, 1000), (2, None, 10), (3, None, 60)).at(3 * S)
    assert (found.joules, found.integrated, found.gap_s) == (150, None, 1)


def test_a_counter_that_goes_away_leaves_the_power() -> None:
    found = metered((0, 100, 1000), (1, 100, 1100), (2, 100, None), (3, 100, None)).at(3 * S)
    assert (found.joules, found.by) == (300, BOTH)


@given(
    mean=st.floats(150, 500),
    swing=st.floats(0, 0.9),
    turn_s=st.floats(4, 60),
    phase=st.floats(0, 6),
)
def test_integrated_power_is_near_the_counter_over_a_minute(
    mean: float, swing: float, turn_s: float, phase: float
) -> None:
    """At the poller's own period, for power that rises and falls in seconds; NVML's is itself the mean of one
    second (docs.nvidia.com/deploy/nvml-api: nvmlDeviceGetPowerUsage), so nothing is faster."""
    turn = 2 * math.pi / turn_s
    meter, t_s = Meter(), 0.0
    while t_s < 60:
        watts = mean * (1 + swing * math.sin(turn * t_s + phase))
        joules = mean * (t_s - swing / turn * (math.cos(turn * t_s + phase) - math.cos(phase)))
        meter.add(round(t_s * S), watts, joules)
        t_s += PERIOD_S
    found = meter.at(round((t_s - PERIOD_S) * S))
    assert found.by == COUNTER
    assert found.integrated == pytest.approx(found.joules, rel=0.05)


# -- in the state ------------------------------------------------------------------------------


def gpu(index: int = 0, watts: float | None = None, joules: float | None = None) -> GpuSample:
    return GpuSample("n1", index, "H200", watts=watts, joules=joules)


def test_gpus_tell_their_power_and_energy_one_by_one() -> None:
    state = ServerState()
    for t_s in range(4):
        state.apply(Sample(t_s * S, "nvml", gpus=(gpu(0, 100, 7000 + 90 * t_s), gpu(1, 300), gpu(2))))
    view = state.view(3 * S)
    counted, powered, silent = view.gpus
    assert (counted.joules, counted.joules_integrated, counted.joules_by) == (270, 300, COUNTER)
    assert (powered.joules, powered.joules_by) == (900, POWER)
    assert (silent.watts, silent.joules, silent.joules_by) == (None, None, "")
    assert view.watts == 400
    late = state.view(round((3.1 + STALE_S) * S))
    assert late.watts is None


def test_a_gpu_that_two_sources_tell_of_counts_once() -> None:
    state = ServerState()
    for t_s in range(4):
        state.apply(Sample(t_s * S, "nvml", gpus=(gpu(0, 100, 7000 + 100 * t_s),)))
        state.apply(Sample(t_s * S + 1, "ray", gpus=(gpu(0, 500),)))
    assert state.view(3 * S).gpus[0].joules == 300


# -- RAPL --------------------------------------------------------------------------------------


@pytest.fixture
def powercap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two packages with a part each, and the whole board, as the kernel shows them."""
    for name, kind in (
        ("intel-rapl:0", "package-0"),
        ("intel-rapl:0:0", "core"),
        ("intel-rapl:1", "package-1"),
        ("intel-rapl:2", "psys"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "name").write_text(f"{kind}\n")
        (tmp_path / name / "max_energy_range_uj").write_text("262143328850\n")
        (tmp_path / name / "energy_uj").write_text("262143000000\n")
    monkeypatch.setattr(rapl, "POWERCAP", tmp_path)
    return tmp_path


async def test_packages_are_read_and_their_counters_begin_anew(powercap: Path) -> None:
    source = rapl.RaplSource(rapl.packages(), node="n1")
    (powercap / "intel-rapl:0/energy_uj").write_text("3671149\n")  # 4 J later, beyond its range
    (powercap / "intel-rapl:1/energy_uj").write_text("262143100000\n")
    first, second = (await source.poll()).packages
    assert (first.node, first.index, first.joules) == ("n1", 0, pytest.approx(4.0))
    assert (second.index, second.joules) == (1, pytest.approx(0.1))
    assert first.watts is not None
    assert first.watts > 0
    (powercap / "intel-rapl:1/energy_uj").unlink()
    sample = await source.poll()
    assert sample.packages == ()
    assert sample.error is not None
    assert "No such file" in sample.error
    state = ServerState()
    state.apply(Sample(S, "rapl", packages=(first, second)))
    view = state.view(S)
    assert view.cpu_joules == pytest.approx(4.1)
    assert view.watts == view.cpu_watts == pytest.approx((first.watts or 0) + (second.watts or 0))


def test_counters_that_may_not_be_read_are_not_there(powercap: Path) -> None:
    for file in powercap.glob("*/energy_uj"):
        file.write_text("")  # root reads whatever the mode is
    assert rapl.packages() == []
    names = [source.name for source in discover.sources_for("http://127.0.0.1:1")]
    assert names == ["metrics", "nvml"]


def test_they_are_a_source_of_a_server_here_only(powercap: Path) -> None:
    assert "rapl" in [source.name for source in discover.sources_for("http://127.0.0.1:1")]
    assert "rapl" not in [source.name for source in discover.sources_for("http://gpu7:1")]
