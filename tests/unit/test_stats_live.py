"""The fold of worker deltas: windows, phases, rates, lost workers; and when the client is to blame."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rvtop.contract.snapshot import Gpu, Node
from rvtop.load.worker.messages import Delta
from rvtop.session.live import SECOND_NS, WINDOW_S, LiveState, dist, fold, merged
from rvtop.session.view import SeriesLog, limited_since, timeline_row
from rvtop.stats.histogram import Histogram
from rvtop.stats.limits import client_limited
from rvtop.telemetry.state import ServerState, ServerView

T0 = 7_000_000_000_000
MS = 1_000_000


def delta(worker: int, t_s: float, **more: Any) -> Delta:
    """A delta of ``worker`` at ``t_s`` seconds of the run; lists are milliseconds."""
    arrays = {
        name: np.array([round(ms * MS) for ms in more.pop(name.removesuffix("_ns"), [])], dtype=np.int64)
        for name in ("lag_ns", "ttft_ns", "e2e_ns")
    }
    gaps = [round(ms * MS) for ms in more.pop("gaps", [])]
    plain: dict[str, Any] = {
        "phase": 0,
        "intended": 0,
        "sent": 0,
        "done": 0,
        "in_flight": 0,
        "in_flight_by_model": (0,),
        "chunks": 0,
        "ok": 0,
        "counted_tokens": 0,
        "counted_chunks": 0,
        "tokens": 0,
        "errors": {},
        "lines": b"",
        "loop_lag_ns": np.empty(0, dtype=np.int64),
        "cpu_s": 0.0,
    }
    return Delta(worker=worker, t_ns=at(t_s), gaps=Histogram.of(gaps), **{**plain, **arrays, **more})


def at(t_s: float) -> int:
    return T0 + round(t_s * 1e9)


def test_deltas_of_two_workers_add_up() -> None:
    state = LiveState(T0)
    fold(state, delta(0, 0.5, intended=5, sent=5, in_flight=2, ok=3, ttft=[10, 20], gaps=[5, 5], tokens=9))
    fold(state, delta(1, 0.5, intended=4, sent=3, in_flight=1, ok=2, ttft=[30], errors={"dropped": 1}))
    fold(state, delta(0, 0.6, intended=6, sent=6, in_flight=0, ok=3, errors={"reset": 2}, tokens=4))
    assert (state.in_flight, state.sent, state.ok, state.tokens) == (1, 9, 8, 13)
    assert dict(state.errors) == {"dropped": 1, "reset": 2}
    (second,) = state.seconds
    assert (second.ok, second.errors, second.ttft.count, second.gaps.count) == (8, 3, 3, 2)
    assert state.phase_ttft == Histogram.of([10 * MS, 20 * MS, 30 * MS])


def test_the_window_holds_ten_seconds_and_the_phase_all_of_it() -> None:
    state = LiveState(T0)
    for second in range(30):
        fold(state, delta(0, second + 0.5, ttft=[second + 1.0], ok=1))
    now = at(29.9)
    recent = state.recent(now)
    assert [s.index for s in recent] == list(range(20, 30))
    assert len(recent) == WINDOW_S
    assert len(state.seconds) <= WINDOW_S + 2
    last = state.last_full(now)
    assert last is not None
    assert last.index == 28
    shown = dist(last.ttft, merged([s.ttft for s in recent]), state.phase_ttft)
    assert shown.now == pytest.approx(29.0, rel=0.01)
    assert shown.count == 10
    assert shown.p50 == pytest.approx(25.0, rel=0.01)
    assert shown.phase_p99 == pytest.approx(30.0, rel=0.01)
    state.begin_phase()
    assert state.phase_ttft.count == 0


def test_what_has_no_events_has_no_figures() -> None:
    shown = dist(None, Histogram(), Histogram())
    assert (shown.now, shown.mean, shown.p50, shown.p99, shown.phase_p99, shown.count) == (*[None] * 5, 0)
    state = LiveState(T0)
    assert state.rates(at(1)) == (None, None, None)
    assert state.tokens_per_s(at(5)) is None
    assert state.chunk_ratio is None
    row = timeline_row(1.0, at(1), state, ServerState(()).view(at(1)), 5.0)
    for name in ("completed_rps", "tokens_per_s", "ttft_p50_ms", "kv_usage", "loop_lag_ms"):
        assert row[name] is None


def test_rates_are_means_over_two_seconds() -> None:
    state = LiveState(T0)
    for tick in range(51):
        done = tick * 2
        fold(state, delta(0, tick / 10, intended=tick * 3, sent=tick * 2, ok=2 if tick else 0, done=done))
    offered, sent, completed = state.rates(at(5.0))
    assert offered == pytest.approx(30.0)
    assert sent == pytest.approx(20.0)
    assert completed == pytest.approx(20.0)
    assert len(state.history) <= 42
    assert state.rates(at(60.0)) == (None, None, None)


def test_tokens_a_second_are_chunks_scaled_by_what_the_server_counts() -> None:
    state = LiveState(T0)
    fold(state, delta(0, 0.5, sent=5, chunks=100, counted_chunks=100, counted_tokens=100))
    assert state.gaps_are_tokens
    assert state.tokens_per_s(at(0.9)) is None  # no second is over yet
    assert state.tokens_per_s(at(1.2)) == 100
    fold(state, delta(0, 1.5, sent=9, chunks=50, counted_chunks=100, counted_tokens=120))
    assert state.chunk_ratio == pytest.approx(1.1)
    assert not state.gaps_are_tokens
    assert state.tokens_per_s(at(2.2)) == pytest.approx(55)
    assert state.tokens_per_s(at(9.2)) == 0  # nothing came in that second, and that is known


def test_a_lost_worker_takes_what_it_held_with_it() -> None:
    state = LiveState(T0)
    fold(state, delta(0, 0.5, intended=9, sent=9, in_flight=4, in_flight_by_model=(3, 1), ok=5))
    fold(state, delta(1, 0.5, intended=9, sent=9, in_flight=2, in_flight_by_model=(1, 1), ok=7))
    state.lose(0)
    state.lose(0)
    state.lose(7)  # it never said a word
    assert state.errors["worker_lost"] == 4
    assert (state.in_flight, state.sent) == (2, 18)


def test_late_deltas_go_to_their_own_second() -> None:
    state = LiveState(T0)
    fold(state, delta(0, 3.05, ok=1))
    fold(state, delta(1, 2.95, ok=2))
    fold(state, delta(0, 3.15, ok=4))
    assert {s.index: s.ok for s in state.seconds} == {3: 5, 2: 2}


def test_the_lag_of_sends_and_of_the_loop_is_kept() -> None:
    state = LiveState(T0)
    fold(state, delta(0, 0.2, lag=[0.0, 0.1], loop_lag_ns=np.array([MS, 3 * MS]), cpu_s=0.5))
    fold(state, delta(1, 0.3, lag=[8.0], loop_lag_ns=np.array([MS]), cpu_s=0.25))
    (second,) = state.seconds
    assert second.lag.count == 3
    assert second.lag.max_ns == 8 * MS
    assert (second.loop_lag_ns, second.loop.count) == (3 * MS, 3)
    row = timeline_row(1.2, at(1.2), state, ServerState(()).view(at(1.2)), 5.0)
    assert row["loop_lag_ms"] == 3.0
    assert row["worker_cpu_s"] == 0.75


@pytest.mark.parametrize("a_second", [1, 2, 5, 10])
def test_a_worker_s_share_of_a_core_is_known_however_often_it_tells(a_second: int) -> None:
    """And however its deltas jitter."""
    state = LiveState(T0)
    for number in range(1, 6 * a_second):
        t_s = number / a_second + (-1) ** number * 1e-4
        fold(state, delta(0, t_s, cpu_s=0.25 * t_s))
        if t_s > 2.1:
            assert state.worker_cpu(at(t_s)) == pytest.approx(0.25)


def test_the_series_holds_ten_minutes() -> None:
    state, log = LiveState(T0), SeriesLog()
    view = ServerState(()).view(T0)
    for second in range(650):
        log.add(timeline_row(float(second), at(second), state, view, 5.0))
    assert len(log.series.t_s) == len(log.series.ttft_p99_ms) == 600
    assert (log.series.t_s[0], log.series.t_s[-1]) == (50.0, 649.0)


def test_the_series_counts_from_the_session_s_start_as_events_do() -> None:
    """A server that took 15 s to start: charts show the second of that snapshot, that mark."""
    log, row = SeriesLog(15), timeline_row(3.0, at(3), LiveState(T0), ServerState(()).view(T0), 5.0)
    log.add(row)
    assert (log.series.t_s, row["t_s"]) == ((18.0,), 3.0)  # timeline.jsonl counts from the load's start


def test_a_row_tells_how_evenly_gpus_and_machines_are_used_and_what_was_preempted() -> None:
    idle = Gpu("n1", 0, "H200", util=0.11)
    busy = Gpu("n1", 1, "H200", util=0.97)
    stale = Gpu("n2", 0, "H200", util=0.01, stale_s=9.0)
    view = ServerView(
        gpus=(idle, busy, stale, Gpu("n2", 1, "H200")),
        nodes=(Node("n1", cpu=0.4), Node("n2", cpu=0.2), Node("n3", cpu=0.0, stale_s=9.0)),
        totals={"preemptions": 14.0},
    )
    row = timeline_row(1.0, at(1), LiveState(T0), view, 5.0)
    log = SeriesLog()
    log.add(row)
    assert (row["gpu_util_min"], row["gpu_util_max"]) == (0.11, 0.97)
    assert (log.series.node_cpu_min, log.series.node_cpu_max) == ((0.2,), (0.4,))
    assert log.series.preemptions == (14.0,)
    nothing = timeline_row(1.0, at(1), LiveState(T0), ServerView(), 5.0)
    for name in ("gpu_util_min", "gpu_util_max", "node_cpu_min", "node_cpu_max", "preemptions"):
        assert nothing[name] is None


@pytest.mark.parametrize(
    ("lag", "ttft", "errors", "says"),
    [
        (None, None, {}, None),
        (4.9, 1000.0, {}, None),
        (5.1, 500.0, {}, "sends are late by 5.1 ms"),
        (5.1, None, {}, "sends are late by 5.1 ms"),
        (5.1, 1000.0, {}, None),  # less than 1 % of the TTFT: it cannot be seen in it
        (10.0, 50_000.0, {}, None),
        (600.0, 50_000.0, {}, "sends are late by 600.0 ms"),
        (4.0, 50.0, {}, "8 % of TTFT"),
        (4.0, 100.0, {}, None),
        (0.9, 5.0, {}, None),  # a share of next to nothing is the machine's own noise
        (4.0, None, {}, None),
        (0.1, 100.0, {"client_limit": 1}, "ran out of sockets"),
        (None, None, {"client_limit": 1}, "ran out of sockets"),
        (0.1, 100.0, {"reset": 9}, None),
    ],
)
def test_when_the_client_bends_the_figures(
    lag: float | None, ttft: float | None, errors: dict[str, int], says: str | None
) -> None:
    found = client_limited(lag, ttft, errors)
    assert (found is None) == (says is None)
    assert says is None or says in (found or "")


@pytest.mark.parametrize(
    ("loop_lag", "ttft", "cpu", "says"),
    [
        (5.1, 1000.0, 0.1, "the load worker's event loop was blocked for 5.1 ms"),
        (4.0, 50.0, 0.1, "was blocked for 8 % of TTFT"),
        (4.0, 100.0, 0.91, "uses 91 % of a core: add workers"),
        (4.0, 100.0, 0.89, None),
        (None, 100.0, None, None),
    ],
)
def test_a_loop_that_stands_still_or_has_no_core_left_bends_them_too(
    loop_lag: float | None, ttft: float, cpu: float | None, says: str | None
) -> None:
    found = client_limited(0.1, ttft, {}, loop_lag, cpu)
    assert (found is None) == (says is None)
    assert says is None or says in (found or "")


@pytest.mark.parametrize(
    ("workers", "says"),
    [
        ("2", "add workers (--workers auto) or free this machine's cores"),
        ("auto", "free this machine's cores or use workers on other machines (--workers ray:N)"),
        ("ray:4", "add workers (a larger N than --workers ray:4) or free the cores of their nodes"),
    ],
)
def test_what_mends_it_depends_on_the_workers_that_there_are(workers: str, says: str) -> None:
    for figures in ((6.0, 50.0, {}), (4.0, 50.0, {}), (0.1, 50.0, {}, 6.0), (0.1, 50.0, {}, 0.1, 0.95)):
        assert (client_limited(*figures, workers=workers) or "").endswith(f": {says}")


def test_what_limits_a_phase_is_not_what_limited_the_one_before() -> None:
    state = LiveState(T0)
    for tenth in range(25):  # nearly a whole core, and late
        fold(state, delta(0, tenth / 10, lag=[9.0], loop_lag_ns=np.array([9 * MS]), cpu_s=0.095 * tenth))
    state.errors["client_limit"] = 1
    assert "late by 9.0 ms" in (limited_since(state, at(2.5), at(0), "1") or "")
    state.begin_phase()
    for tenth in range(30, 45):
        fold(state, delta(0, tenth / 10, lag=[0.1], ttft=[50.0], loop_lag_ns=np.array([MS // 10]), cpu_s=2.4))
        assert limited_since(state, at(tenth / 10 + 0.01), at(3), "1") is None
    fold(state, delta(0, 5.3, cpu_s=3.4))
    assert "% of a core" in (limited_since(state, at(5.4), at(3), "1") or "")
    fold(state, delta(0, 5.4, errors={"client_limit": 1}))
    assert "ran out of sockets" in (limited_since(state, at(5.5), at(3), "1") or "")


def test_a_second_is_a_second() -> None:
    assert SECOND_NS == 10**9
