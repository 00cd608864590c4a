"""Clock offsets from exchanges: the truth is always within the bounds, and times go there and back."""

from __future__ import annotations

import json
import random
from pathlib import Path
from time import perf_counter_ns

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvtop.contract import run_files
from rvtop.load.fleet.ray.clock import Exchange, NodeClock, Offset, from_node, offset_of, to_node
from rvtop.load.plan.schedule import PhasePlan, PlanEvent
from rvtop.load.wire.endpoint import Address
from rvtop.load.worker.messages import AddPhase, Delta, WorkerSpec
from rvtop.results import runlog
from rvtop.results.environment import environment, write_clocks
from rvtop.stats.histogram import Histogram

DAY = 86_400 * 10**9
offsets = st.integers(-365 * DAY, 365 * DAY)
delays = st.integers(0, 50_000_000)


def exchange(sent: int, there: int, back: int, offset: int) -> Exchange:
    """Our message took ``there`` ns, the answer ``back`` ns."""
    return Exchange(sent, sent + there + offset, sent + there + back)


@given(offsets, st.lists(st.tuples(st.integers(0, 10**9), delays, delays), min_size=1, max_size=60))
def test_the_truth_is_within_the_bounds(truth: int, trips: list[tuple[int, int, int]]) -> None:
    """However unequal the two ways of every exchange are."""
    exchanges = [exchange(sent, there, back, truth) for sent, there, back in trips]
    found = offset_of(exchanges)
    assert abs(found.offset_ns - truth) <= found.error_ns
    quickest = min(there + back for _, there, back in trips)
    assert found.error_ns <= (quickest + 1) // 2  # never worse than the quickest exchange alone


def test_many_exchanges_bound_closer_than_the_quickest_one() -> None:
    """One that was held up on its way there, one on its way back: together they leave no doubt."""
    found = offset_of([exchange(0, 1_000, 900_000, 77), exchange(10**7, 900_000, 1_000, 77)])
    assert abs(found.offset_ns - 77) <= found.error_ns <= 1_001


def test_with_the_jitter_of_a_network_the_error_is_a_part_of_the_round_trip() -> None:
    rng = random.Random(4)
    trips = [(rng.randrange(10**9), *(200_000 + int(rng.expovariate(1e-5)) for _ in "ab")) for _ in range(50)]
    found = offset_of([exchange(*trip, 123_456_789) for trip in trips])
    assert abs(found.offset_ns - 123_456_789) <= found.error_ns < 230_000


def test_after_a_jump_of_a_clock_the_quickest_exchange_is_believed() -> None:
    quick = exchange(2 * 10**9, 10, 10, 5_000_000)
    found = offset_of([exchange(0, 1_000, 1_000, 0), quick, exchange(10**9, 1_000, 1_000, 0)])
    assert found == Offset(5_000_000, 10)


def test_no_exchange_and_an_answer_before_its_question_are_refused() -> None:
    with pytest.raises(ValueError, match="no exchange"):
        offset_of([])
    with pytest.raises(ValueError, match="before its question"):
        offset_of([Exchange(10, 10, 9)])


def test_a_later_measurement_is_told_beside_the_first_and_changes_no_time() -> None:
    clock = NodeClock("n1", "10.0.0.2", 1_000, 20)
    later = clock.measured_again(Offset(1_300, 30)).measured_again(Offset(1_700, 40))
    assert later == NodeClock("n1", "10.0.0.2", 1_000, 20, drift_ns=700, drift_error_ns=60)


@given(offsets)
def test_messages_go_to_the_node_s_clock_and_deltas_come_back(offset: int) -> None:
    now = perf_counter_ns()
    spec = WorkerSpec(0, 1, now, 3, Address("http://h"), "p", ("m",), {}, (PhasePlan("p"),))
    entry = PlanEvent(now + 5, "rate", 3.0)
    assert to_node(spec, offset).t0_ns - to_node(entry, offset).at_ns == -5
    assert to_node(entry, offset) == PlanEvent(now + 5 + offset, "rate", 3.0)
    phase = AddPhase(PhasePlan("live"))
    assert to_node(phase, offset) is phase
    none = np.empty(0, dtype=np.int64)
    delta = Delta(
        *(0, now + offset, 0, 1, 1, 1, 0, (0,)),
        *(none, none, none),
        *(Histogram(), 1, 1, 1, 1, 1, {}, b"", 0, 0.0),
    )
    back = from_node(delta, offset)
    assert back.t_ns == now
    assert (back.worker, back.sent, back.lag_ns is delta.lag_ns) == (0, 1, True)


def test_the_environment_names_each_node_s_offset_and_its_error(tmp_path: Path) -> None:
    alone = environment(perf_counter_ns())["nodes"]
    assert [(row["clock_offset_ns"], row["clock_error_ns"]) for row in alone] == [(0, 0)]
    clock = NodeClock("n1", "10.0.0.2", -7_000, 300, drift_ns=12, drift_error_ns=600)
    runlog.write_json(tmp_path / run_files.ENVIRONMENT, environment(perf_counter_ns()))
    write_clocks(tmp_path, [clock])
    own, other = json.loads((tmp_path / run_files.ENVIRONMENT).read_text())["nodes"]
    assert own == alone[0]
    assert other == {
        "node": "10.0.0.2",
        "node_id": "n1",
        "clock_offset_ns": -7_000,
        "clock_error_ns": 300,
        "clock_drift_ns": 12,
        "clock_drift_error_ns": 600,
    }
    path = tmp_path / run_files.ENVIRONMENT
    runlog.write_json(path, environment(0, name="test"))
    before = json.loads(path.read_text())
    write_clocks(tmp_path, [clock])
    assert json.loads(path.read_text()) == {**before, "nodes": [own, other]}
    path.write_text("{")
    with pytest.raises(runlog.RunFolderError, match="can't be read"):
        write_clocks(tmp_path, [clock])
