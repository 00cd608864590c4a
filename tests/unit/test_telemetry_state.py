"""The fold of telemetry samples: growth, restarts, staleness, histograms over ten seconds, summaries."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from telemetry_pages import golden, many_engines

from rvtop.contract.figures import BY_KEY, Figure
from rvtop.results.server import server_summary
from rvtop.telemetry.buckets import Growth, growth, merged, quantile, server_hist
from rvtop.telemetry.prometheus import parse
from rvtop.telemetry.sample import Buckets, EngineSample, GpuSample, Sample
from rvtop.telemetry.state import ServerState

S = 1_000_000_000
GIB = 1024.0**3


def at(
    t_s: float, *engines: EngineSample, source: str = "metrics", gpus: tuple[GpuSample, ...] = ()
) -> Sample:
    return Sample(int(t_s * S), source, engines, gpus)


def engine(
    name: str = "0", counters: dict[str, float] | None = None, model: str | None = "tiny", **gauges: float
) -> EngineSample:
    return EngineSample(name, model, None, gauges, counters or {}, {}, "vllm")


def tokens(count: float, name: str = "0") -> EngineSample:
    return engine(name, {"generation_tokens": count})


def ttft(*cumulative: float, total: float = math.nan) -> EngineSample:
    buckets = Buckets((0.1, 0.2, math.inf), cumulative, total, cumulative[-1])
    return replace(engine(), hists={"ttft": buckets})


def test_nothing_seen_is_none_and_not_zero() -> None:
    state = ServerState(["metrics", "nvml"])
    view = state.view(5 * S)
    assert (view.tokens_per_s, view.kv_usage, view.running, view.waiting) == (None,) * 4
    assert view.totals == {}
    assert (view.ttft, view.itl, view.e2e, view.gpu_memory, view.engine_kind) == (None,) * 5
    assert view.engines == view.gpus == ()
    assert [(source.name, source.state, source.age_s) for source in view.sources] == [
        ("metrics", "absent", None),
        ("nvml", "absent", None),
    ]


def test_an_engine_without_kv_or_counters_leaves_them_none() -> None:
    state = ServerState()
    state.apply(at(1, engine(running=1)))
    state.apply(at(2, engine(running=1)))
    view = state.view(2 * S)
    assert view.running == 1
    assert (view.waiting, view.kv_usage, view.tokens_per_s) == (None,) * 3
    line = view.engines[0]
    assert (line.kv_usage, line.kv_bytes, line.preemptions, line.prefix_hit_rate) == (None,) * 4
    assert view.totals == {}


def test_tokens_per_second_come_from_the_growth_and_survive_a_restart() -> None:
    state = ServerState()
    rates = []
    for t, count in [(1, 1000), (2, 1500), (4, 1700), (5, 30), (6, 90)]:
        state.apply(at(t, tokens(count)))
        rates.append(state.view(t * S).tokens_per_s)
    assert rates == [None, 500, 100, 30, 60]
    assert state.view(6 * S).totals == {"generation_tokens": 500 + 200 + 30 + 60}


def test_tokens_of_all_engines_and_sources_add_up() -> None:
    state = ServerState()
    state.apply(at(1, tokens(0), tokens(100, "1")))
    state.apply(at(1, tokens(7), source="other"))
    state.apply(at(2, tokens(10), tokens(130, "1")))
    state.apply(at(2, tokens(9), source="other"))
    assert state.view(2 * S).tokens_per_s == 10 + 30 + 2
    assert {line.name for line in state.view(2 * S).engines} == {"metrics/0", "metrics/1", "other/0"}


def test_two_models_that_both_have_an_engine_0() -> None:
    state = ServerState()
    state.apply(at(1, engine("0", model="q3b"), engine("0", model="q15b")))
    assert [line.name for line in state.view(S).engines] == ["q3b/0", "q15b/0"]


def test_a_counter_that_is_left_out_for_once_is_not_counted_twice() -> None:
    state = ServerState()
    state.apply(at(1, tokens(1000)))
    state.apply(at(2, engine(running=1)))
    state.apply(at(3, tokens(1010)))
    assert state.view(3 * S).totals == {"generation_tokens": 10}


def test_what_a_vanished_engine_counted_stays_counted() -> None:
    state = ServerState()
    state.apply(at(1, tokens(0), tokens(0, "1")))
    state.apply(at(2, tokens(50), tokens(60, "1")))
    for t in range(3, 70):
        state.apply(at(t, tokens(50)))
    view = state.view(69 * S)
    assert [line.name for line in view.engines] == ["0"]
    assert view.totals == {"generation_tokens": 110}


def test_an_engine_that_stops_answering_is_stale_and_out_of_the_sums() -> None:
    state = ServerState()
    for t in (1, 2, 3):
        state.apply(at(t, engine("0", running=4, waiting=1, kv_usage=0.5), source="a"))
    state.apply(at(1, engine("0", running=9, kv_usage=0.9), source="b"))
    state.apply(Sample(2 * S, "b", error="connection refused"))
    now = state.view(3 * S)
    assert [line.stale_s for line in now.engines] == [None, None]
    assert now.running == 13
    later = state.view(int(5.5 * S))
    assert [line.stale_s for line in later.engines] == [None, 4.5]
    assert (later.running, later.waiting, later.kv_usage) == (4, 1, 0.5)
    assert [(source.name, source.state, source.detail) for source in later.sources] == [
        ("a", "ok", ""),
        ("b", "stale", "connection refused"),
    ]
    assert later.sources[1].age_s == 4.5
    assert state.view(60 * S).running is None
    assert state.view(60 * S).tokens_per_s is None


def test_a_source_that_never_answered_tells_why() -> None:
    state = ServerState(["metrics"])
    state.apply(Sample(S, "metrics", error="HTTP 404"))
    (source,) = state.view(2 * S).sources
    assert (source.state, source.detail, source.age_s) == ("absent", "HTTP 404", None)


def test_a_source_with_nothing_to_tell_is_quietly_absent() -> None:
    state = ServerState()
    state.apply(Sample(S, "nvml"))
    (source,) = state.view(S).sources
    assert (source.state, source.detail) == ("absent", "")


def test_histogram_of_the_last_ten_seconds() -> None:
    state = ServerState()
    state.apply(at(0, ttft(100, 100, 100, total=5)))
    assert state.view(0).ttft is None  # one look tells no growth
    state.apply(at(1, ttft(110, 120, 120, total=7.5)))
    seen = state.view(S).ttft
    assert seen is not None
    assert seen.le_ms == (100, 200, math.inf)
    assert seen.counts == (10, 10, 0)
    assert seen.mean == pytest.approx(125)
    assert seen.p50 == pytest.approx(100)
    assert seen.p90 == pytest.approx(180)
    for t in range(2, 12):
        state.apply(at(t, ttft(110, 120, 120, total=7.5)))
    quiet = state.view(int(11.5 * S)).ttft
    assert quiet is not None
    assert (quiet.count, quiet.mean, quiet.p50, quiet.p99) == (0, None, None, None)


def test_histogram_of_a_restarted_server_counts_only_the_new() -> None:
    state = ServerState()
    state.apply(at(0, ttft(100, 100, 100)))
    state.apply(at(1, ttft(1, 3, 4)))
    seen = state.view(S).ttft
    assert seen is not None
    assert seen.counts == (1, 2, 1)
    assert seen.mean is None  # the page told no sum


def test_real_pages_give_the_servers_figures() -> None:
    state = ServerState()
    state.apply(at(1, *parse(golden("vllm_0.29_before.prom"))))
    state.apply(at(2, *parse(golden("vllm_0.29_during.prom"))))
    state.apply(at(3, *parse(golden("vllm_0.29_after.prom"))))
    view = state.view(3 * S)
    assert view.engine_kind == "vllm"
    assert view.totals["generation_tokens"] == 6 * 24 + 200
    assert view.totals["preemptions"] == 0
    for hist in (view.ttft, view.itl, view.e2e):
        assert hist is not None
        assert hist.p50 is not None
        assert hist.p99 is not None
        assert hist.mean is not None
        assert 0 < hist.p50 <= hist.p99
    assert view.engines[0].prefix_hit_rate is not None
    assert 0 < view.engines[0].prefix_hit_rate < 1


def test_figures_of_each_engine_and_of_all_together() -> None:
    state = ServerState()
    for t, (hits, local) in enumerate([(0, 0), (30, 90)]):
        for name in ("0", "1"):
            counters = {"prefix_queries": 2.0 * hits, "prefix_hits": hits}
            counters |= {"prompt_tokens_by_source/local_compute": local}
            gauges = {"running": 2, "kv_usage": 0.2 + int(name), "alloc_reserved": 100 * (1 + int(name))}
            gauges |= {"alloc_allocated": 80, "waiting_by_reason/capacity": 3}
            state.apply(at(t, engine(name, counters, **gauges), source=name))
    view = state.view(S)
    assert [line.figures for line in view.engines] == [
        {
            "fragmentation": pytest.approx(share),
            "waiting_by_reason/capacity": 3,
            "prompt_tokens_by_source/local_compute": 90,
        }
        for share in (0.2, 0.6)
    ]
    assert view.figures == {
        "running": 4,
        "kv_usage": 1.2,
        "prefix_hit_rate": 0.5,
        "fragmentation": pytest.approx(1 - 160 / 300),
        "waiting_by_reason/capacity": 6,
        "prompt_tokens_by_source/local_compute": 180,
    }
    assert state.view(9 * S).figures == {}  # no engine is fresh


def test_means_of_durations_cover_the_last_ten_seconds() -> None:
    state = ServerState()
    for t, (total, count) in enumerate([(5.0, 10), (5.5, 15), (5.5, 15)]):
        queue = Buckets((math.inf,), (count,), total, count)
        state.apply(at(t, replace(engine(), hists={"queue_time": queue})))
    view = state.view(2 * S)
    assert view.figures == {"queue_time": pytest.approx(100)}
    assert view.totals == {"queue_time.sum": pytest.approx(0.5), "queue_time.count": 5}


def test_the_mean_of_what_is_no_duration_keeps_its_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    step = Figure(
        "step", "histogram", ("iteration_tokens_total",), "tokens", "…", heading="step", summary="s"
    )
    monkeypatch.setitem(BY_KEY, "step", step)  # type: ignore[arg-type]
    for shown in ("contract.figures.SHOWN", "results.server.SHOWN"):
        monkeypatch.setattr(f"rvtop.{shown}", (step,))
    monkeypatch.setattr("rvtop.telemetry.state._MEANS", ("step",))
    state = ServerState()
    for t, (total, count) in enumerate([(50.0, 1), (900.0, 11)]):
        state.apply(at(t, replace(engine(), hists={"step": Buckets((math.inf,), (count,), total, count)})))
    assert state.view(1 * S).figures == {"step": pytest.approx(85.0)}
    rows = [{"t_s": t, "totals": {"step.sum": 850.0 * t, "step.count": 10.0 * t}} for t in (0, 1)]
    assert server_summary(rows, [(0.0, 1.0)])["s"] == pytest.approx(85.0)


def test_a_gpu_is_idle_only_while_requests_are_in_flight() -> None:
    state = ServerState()
    shares = []
    for t, (util, in_flight, running) in enumerate(
        [(0.0, 0, 0), (0.0, 1, 0), (0.9, 1, 0), (0.04, 0, 2), (0.9, 0, 1), (0.0, 0, 0), (None, 3, 1)]
    ):
        gpu = GpuSample("n1", 0, "H200", util=util)
        state.apply(at(t, engine(running=running), gpus=(gpu,)))
        state.count_idle(in_flight, t * S)
        shares.append(state.view(t * S).gpus[0].idle_share)
    assert shares == [None, 1.0, 0.5, pytest.approx(2 / 3), 0.5, 0.5, 0.5]


def test_many_engines_together_have_the_figures_of_one() -> None:
    one, many = ServerState(), ServerState()
    for t, name in enumerate(("before", "during", "after")):
        page = golden(f"vllm_0.29_{name}.prom")
        one.apply(at(t, *parse(page)))
        many.apply(at(t, *parse(many_engines(page, 8))))
    a, b = one.view(2 * S), many.view(2 * S)
    assert b.totals == pytest.approx({name: 8 * total for name, total in a.totals.items()})
    assert a.ttft is not None
    assert b.ttft is not None
    assert b.ttft.count == 8 * a.ttft.count
    assert b.ttft.p90 == pytest.approx(a.ttft.p90)


def test_gpus_and_which_source_tells_of_them() -> None:
    state = ServerState()
    nvml = GpuSample("n1", 0, "H200", 40 * GIB, 140 * GIB, 0.5)
    state.apply(at(1, source="nvml", gpus=(nvml,)))
    state.apply(
        at(1, source="dcgm", gpus=(replace(nvml, util=0.9), GpuSample("n2", 0, "H200", 30 * GIB, 140 * GIB)))
    )
    state.apply(at(2, source="nvml", gpus=(replace(nvml, memory_used=70 * GIB, util=1.0),)))
    view = state.view(2 * S)
    assert [(gpu.node, gpu.index, gpu.util) for gpu in view.gpus] == [("n1", 0, 1.0), ("n2", 0, None)]
    assert view.gpu_memory == pytest.approx(100 / 280)
    assert view.engines == ()
    assert state.view(9 * S).gpus[0].stale_s == 7


# -- histograms --------------------------------------------------------------------------------


def test_quantile_as_prometheus_estimates_it() -> None:
    le, counts = (1.0, 2.0, 4.0, math.inf), (2.0, 6.0, 2.0, 0.0)
    assert quantile(le, counts, 0.2) == pytest.approx(1.0)
    assert quantile(le, counts, 0.1) == pytest.approx(0.5)
    assert quantile(le, counts, 0.5) == pytest.approx(1.5)
    assert quantile(le, counts, 0.9) == pytest.approx(3.0)
    assert quantile(le, (0.0, 0.0, 1.0, 9.0), 0.99) == 4.0  # above the last edge: that edge
    assert quantile(le, (0.0,) * 4, 0.5) is None
    assert quantile((math.inf,), (3.0,), 0.5) is None


def test_histograms_with_other_edges_meet_on_all_of_them() -> None:
    together = merged(
        [Growth((1.0, math.inf), (4.0, 1.0), 3.0), Growth((0.5, 1.0, math.inf), (1.0, 1.0, 0.0), 1.0)]
    )
    assert together == Growth((0.5, 1.0, math.inf), (1.0, 5.0, 1.0), 4.0)
    assert merged([]) is None


_COUNTS = st.lists(st.integers(0, 1000), min_size=4, max_size=4)


def _cumulative(counts: list[int]) -> Buckets:
    summed = tuple(float(sum(counts[: index + 1])) for index in range(len(counts)))
    return Buckets((0.1, 1.0, 10.0, math.inf), summed, 1.0, summed[-1])


@given(_COUNTS, _COUNTS)
def test_growth_is_what_was_added(before: list[int], added: list[int]) -> None:
    later = _cumulative([a + b for a, b in zip(before, added, strict=True)])
    assert growth(_cumulative(before), later).counts == tuple(map(float, added))


@given(_COUNTS, _COUNTS)
def test_growth_is_never_negative(before: list[int], after: list[int]) -> None:
    assert min(growth(_cumulative(before), _cumulative(after)).counts) >= 0


@given(_COUNTS)
def test_quantiles_are_ordered(counts: list[int]) -> None:
    hist = server_hist(growth(None, _cumulative(counts)))
    if sum(counts[:3]) == 0:
        assert hist.p50 == hist.p99 or not any(counts)
    elif hist.p50 is not None and hist.p90 is not None and hist.p99 is not None:
        assert hist.p50 <= hist.p90 <= hist.p99


def test_each_engine_has_its_own_ttft_of_each_look() -> None:
    """The mean of what came since the look before; None where nothing came, and for who tells of none."""

    def told(count: float, total_s: float) -> EngineSample:
        held = Buckets((0.1, math.inf), (0.0, count), total_s, count)
        return replace(engine("0"), hists={"ttft": held})

    state, seen = ServerState(["metrics"]), []
    for t, sample in enumerate((told(4.0, 9.0), told(6.0, 9.5), told(6.0, 9.5), told(7.0, 9.6))):
        state.apply(at(float(t), sample, engine("1")))
        seen.append([one.ttft_ms for one in state.view(t * S).engines])
    assert [other for _, other in seen] == [None] * 4
    assert [own for own, _ in seen] == [None, 250.0, None, pytest.approx(100.0)]


def test_each_engine_has_its_largest_batch_and_its_own_tokens_per_second() -> None:
    state = ServerState(["metrics"])
    for t, running, made in ((0.0, 3.0, 100.0), (2.0, 9.0, 300.0), (4.0, 1.0, 400.0)):
        state.apply(at(t, engine("0", {"generation_tokens": made}, running=running), engine("1")))
    first, second = state.view(4 * S).engines
    assert (first.running, first.most_running, first.tokens_per_s) == (1.0, 9.0, 50.0)
    assert (second.most_running, second.tokens_per_s, second.max_seqs) == (None, None, None)
