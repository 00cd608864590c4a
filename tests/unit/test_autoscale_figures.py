"""The figures of ``--autoscale-on``, read off pages, and the replicas they ask for."""

from __future__ import annotations

import math

import pytest

from backends.scaling.counts import Counts
from backends.scaling.demand import Demand, by_rules
from backends.scaling.figures import Figures, percentile
from backends.settings.autoscale import Autoscale
from backends.settings.scale_rules import Rule

PAGE = """\
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{{engine="e0",model_name="m"}} 0.5
vllm:kv_cache_usage_perc{{engine="e1",model_name="m"}} 0.9
vllm:kv_cache_usage_perc{{engine="e2",model_name="other"}} 0.1
vllm:num_requests_waiting{{engine="e0",model_name="m"}} 6.0
vllm:time_to_first_token_seconds_bucket{{engine="e0",model_name="m",le="0.1"}} {fast}
vllm:time_to_first_token_seconds_bucket{{engine="e0",model_name="m",le="1.0"}} {all}
vllm:time_to_first_token_seconds_bucket{{engine="e0",model_name="m",le="+Inf"}} {all}
vllm:time_to_first_token_seconds_bucket{{engine="e1",model_name="m",le="0.1"}} 0.0
"""
NODE = 'ray_node_gpus_utilization{ip="10.0.0.1",GpuIndex="0"} 40.0\n'


def page(fast: int, total: int) -> str:
    return PAGE.format(fast=fast, all=total)


def test_figures_of_a_model() -> None:
    figures = Figures("m")
    first = figures.read(0.0, page(10, 10), [NODE, NODE.replace("40", "80")], 2)
    assert first == {"kv_usage": 0.7, "waiting": 3.0, "gpu_util": 0.6}  # a percentile needs two pages
    second = figures.read(5.0, page(10, 110), [], 2)
    assert second["ttft_p99"] == pytest.approx(1000 * (0.1 + 0.9 * 0.99))
    assert "ttft_p99" not in figures.read(20.0, page(10, 110), [], 2)  # nothing for ten seconds
    assert "ttft_p99" not in figures.read(21.0, page(0, 1), [], 2)  # an engine went away
    assert Figures("m").read(0.0, "nonsense\nvllm:kv_cache_usage_perc NaN\n", [], 1) == {}


def test_percentiles() -> None:
    assert percentile({}, 0.99) is None
    assert percentile({0.1: 0.0, math.inf: 0.0}, 0.99) is None
    assert percentile({1.0: 50.0, 2.0: 100.0, math.inf: 100.0}, 0.75) == 1.5
    assert percentile({1.0: 50.0, math.inf: 100.0}, 0.99) == 1.0  # beyond the last edge: not less than that


def test_rules_ask_in_proportion() -> None:
    rules = (Rule("kv_usage", 0.8), Rule("ttft_p99", 500.0), Rule("gpu_util", 0.5))
    assert by_rules(rules, {"kv_usage": 0.4, "ttft_p99": 1000.0}, 2) == [1.0, 4.0, 2.0]


async def test_the_pages_are_read_once_a_second() -> None:
    reads: list[int] = []

    async def pages() -> tuple[str, list[str]]:
        reads.append(1)
        return page(0, 0), []

    demand = Demand(Autoscale(1, 8, rules=(Rule("kv_usage", 0.35),)), "m", pages)
    for now_s in (0.0, 0.5, 1.0, 1.5):
        await demand.look(now_s, Counts(healthy=2))
        assert demand.desired(now_s, 0.0, 2, 1.0) == [pytest.approx(4.0)]
    assert len(reads) == 2
    demand.tell({})  # by another process, which says nothing
    assert demand.desired(2.0, 0.0, 2, 1.0) == [2.0]
