"""A real Prometheus reads recorded pages whose counters grow: each panel and variable has a finite value."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from rvtop.contract.snapshot import Load, Snapshot, Target, Tokens
from rvtop.deploy.grafana import dashboards
from rvtop.deploy.promql import Names
from rvtop.session.metrics_page import LATENCIES, Measured, metrics
from rvtop.stats.histogram import Histogram
from rvtop.telemetry.buckets import growth, quantile
from rvtop.telemetry.prometheus import PageReader
from rvtop.telemetry.sample import Buckets
from tests.backends.prometheus_server import HERE, Prometheus, pages
from tests.backends.test_deploy_live import substituted
from tests.unit.telemetry_pages import golden

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HERE, reason="no Prometheus here: apt install prometheus"),
]

#: What no recorded page has: an engine that drafts tokens, and the buckets of Serve's latencies.
MADE = """\
vllm:spec_decode_num_drafts_total{engine="0",model_name="tiny"} 5
vllm:spec_decode_num_draft_tokens_total{engine="0",model_name="tiny"} 10
vllm:spec_decode_num_accepted_tokens_total{engine="0",model_name="tiny"} 7
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",model_name="tiny",position="0"} 4
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",model_name="tiny",position="1"} 3
ray_serve_deployment_processing_latency_ms_bucket{application="demo",deployment="D",le="50"} 2
ray_serve_deployment_processing_latency_ms_bucket{application="demo",deployment="D",le="100"} 9
ray_serve_deployment_processing_latency_ms_bucket{application="demo",deployment="D",le="+Inf"} 10
"""
_COUNTS = re.compile(r"^(\S*(?:_total|_count|_sum|_bucket|_counter|_starts)(?:\{.*\})?) (\S+)$", re.M)


def grown(page: str, steps: int) -> str:
    """A page whose counters have grown: by what they held and one more, at each step."""
    return _COUNTS.sub(lambda line: f"{line[1]} {float(line[2]) * (1 + steps) + steps}", page)


class _Client:
    """The client's own page, with all figures."""

    def describe(self) -> Iterator[object]:
        yield from ()

    def collect(self) -> Iterator[object]:
        load = Load(
            target_rps=2.0, offered_rps=2.0, sent_rps=2.0, completed_rps=2.0, goodput_rps=2.0, lag_p99_ms=1.0,
            ok=10, sent=11, due=12, dropped=1, errors=(("http_500", 1),),
        )  # fmt: skip
        target = Target("http://127.0.0.1:1", "rvc", ("m",))
        picture = Snapshot(1, 1.0, 1.0, "running", "s", target, load=load, tokens=Tokens(total=1, per_s=1.0))
        some = Histogram.of(np.array([1_000_000], np.int64)).distribution()
        yield from metrics(Measured(picture, dict.fromkeys(LATENCIES, some)))


def client_page() -> str:
    registry = CollectorRegistry()
    registry.register(_Client())  # type: ignore[arg-type]
    return generate_latest(registry).decode()


def whole(page: str) -> str:
    """Without the comments, whose types would be told twice where pages are put together."""
    return "".join(f"{line}\n" for line in page.splitlines() if line and not line.startswith("#"))


def ttft(page: str) -> Buckets:
    """The TTFT that rvtop reads from a page of one engine."""
    (engine,) = PageReader().read(page).engines
    return engine.hists["ttft"]


@pytest.mark.parametrize("old", [False, True], ids=["ray 2.60", "ray 2.44"])
def test_every_panel_and_every_variable(
    old: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ray = ("ray_2.44",) if old else ("ray_2.60_busy", "ray_2.60_batch")
    jobs: dict[str, str] = {
        "rvc": golden("vllm_0.29_during.prom"),
        "rsc": golden("hf.prom"),
        "ray": "".join(map(golden, (f"{name}.prom" for name in ray))) + golden("ray_gpu.prom"),
        "more": golden("panels.prom") + golden("dcgm.prom") + MADE,
        "client": client_page(),
    }
    made = dashboards(Names(ray_before_2_53=old))
    start = time.time()
    with ExitStack() as stack, Prometheus(tmp_path) as prometheus:
        for job, page in jobs.items():
            prometheus.name([stack.enter_context(pages(partial(grown, whole(page))))], job)

        def read() -> bool:
            scraped = prometheus.value("min(count_over_time(up[1m]))") or 0
            return scraped >= 12 and prometheus.value("sum(up)") == len(jobs)

        prometheus.until(read, "all pages are read")
        asked = [
            (f"{one.uid}: {panel.title}: {query.legend}", substituted(query.expr))
            for one in made
            for panel in one.panels
            for query in panel.queries
        ]
        empty = [
            f"{where}: {expr}" for where, expr in asked if not prometheus.finite(expr, start, time.time(), 1)
        ]
        panel = next(
            panel
            for one in made
            if one.uid == "rvtop-serving"
            for panel in one.panels
            if panel.title == "TTFT"
        )
        p99 = next(query.expr for query in panel.queries if query.legend.startswith("p99"))
        theirs = prometheus.value(substituted(p99.replace("$job", "rvc")))
        events = growth(*(ttft(grown(jobs["rvc"], steps)) for steps in (1, 12)))
        ours = quantile(events.le, events.counts, 0.99)
        variables = [(one.uid, variable) for one in made for variable in one.variables]
        unnamed = [
            f"{uid}: {variable.name}"
            for uid, variable in variables
            if not prometheus.values_of(variable.of, substituted(variable.series), start)
        ]
    with capsys.disabled():
        print(f"\npanel expressions with a sample: {len(asked) - len(empty)}/{len(asked)}")
        print(f"variables with a value: {len(variables) - len(unnamed)}/{len(variables)}")
    assert (empty, unnamed) == ([], [])
    assert ours is not None
    assert theirs is not None
    edges = [1000 * edge for edge in events.le]
    assert abs(bucket(edges, 1000 * ours) - bucket(edges, 1000 * theirs)) <= 1


def bucket(edges: list[float], value: float) -> int:
    """The bucket that a value is in."""
    return next(index for index, edge in enumerate(edges) if value <= edge)
