"""The dashboards and the alerts on a real Prometheus that scrapes live runs of rsc and rvc."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from rvtop.deploy.alerts import Limits, files
from rvtop.deploy.grafana import dashboards
from rvtop.results.screen_log import read_screen
from rvtop.telemetry.buckets import quantile
from tests.backends import processes
from tests.backends.backend_process import BackendProcess
from tests.backends.prometheus_server import HERE, Prometheus, pages
from tests.unit.telemetry_pages import golden

pytestmark = [
    pytest.mark.skipif(not HERE, reason="no Prometheus here: apt install prometheus"),
    pytest.mark.timeout(2400),
]

RUN_LIMIT_S = 300
SCENARIO = """\
name: panels
seed: 3
workload:
  {kind: synthetic, prompt_tokens: 60, output_tokens: 24, ignore_eos: true, prefix_tokens: 32}
slo: {ttft_ms: 5000}
phases:
  - {name: load, rate: 2, duration: 60s, drain: 60s}
"""
#: So that something is drafted, which a panel tells of.
DRAFTS = '{"method":"ngram","num_speculative_tokens":2,"prompt_lookup_max":3,"prompt_lookup_min":1}'
STARTS = {
    "rsc": ("--dtype", "float32", "--threads", "1"),
    "rvc": (
        *("--dtype", "float32", "--threads", "1", "--max-model-len", "1024", "--max-num-seqs", "16"),
        *("--engine-arg", f"speculative_config={DRAFTS}"),
    ),
}
BACK_LIMIT_S = 600.0


def substituted(expr: str) -> str:
    """An expression as Grafana sends it with all of every variable chosen."""
    for one in dashboards():
        for variable in one.variables:
            expr = expr.replace(f"${variable.name}", ".*")
    return expr.replace("$__rate_interval", "30s")


@dataclass
class Seen:
    """A Prometheus that has scraped a run of each topology, and how rvtop's screen saw the servers."""

    prometheus: Prometheus
    start: float
    end: float
    folders: dict[str, Path]
    spans: dict[str, tuple[float, float]]
    fired: dict[str, float]


def run(url: str, folder: Path, prometheus: Prometheus) -> tuple[float, float]:
    """A minute of load; when it began and ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    prometheus.name([f"http://127.0.0.1:{port}/metrics"], f"client-{folder.name}")
    (folder.parent / "panels.yaml").write_text(SCENARIO)
    began = time.time()
    ended = subprocess.run(
        [
            *(sys.executable, "-P", "-m", "rvtop.cli", "run", str(folder.parent / "panels.yaml")),
            *("--target", url, "--metrics-port", str(port), "--out", str(folder)),
        ],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=RUN_LIMIT_S, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return began, time.time()


@pytest.fixture(scope="module")
def seen(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    folder = tmp_path_factory.mktemp("live")
    rules = files(Limits({"ttft_p99": 60_000.0}, window="10s", hold="0s"))
    recorded = "".join(golden(f"{name}.prom") for name in ("dcgm", "ray_gpu", "panels"))
    start = time.time()
    folders, spans, fired = {}, {}, {}
    with Prometheus(folder, *rules.values()) as prometheus, pages(lambda _: recorded) as page:
        prometheus.name([page], "recorded")
        for topology, arguments in STARTS.items():
            backend = BackendProcess(
                topology, "--lease", "--model", f"tiny={tiny_model}", *arguments,
                log=folder / f"{topology}.log",
            )  # fmt: skip
            try:
                url = backend.url
                nodes = httpx.get(f"{url}/rvtop/topology", trust_env=False, timeout=30).json()["nodes"]
                prometheus.name([f"{url}/metrics"], topology)
                prometheus.name([node["metrics_url"] for node in nodes], f"ray-{topology}")
                folders[topology] = folder / f"run-{topology}"
                spans[topology] = run(url, folders[topology], prometheus)
                if topology == "rvc":
                    fired = engine_killed(backend, prometheus)
            finally:
                backend.kill()
                prometheus.name([], topology)
                prometheus.name([], f"ray-{topology}")
        yield Seen(prometheus, start, time.time(), folders, spans, fired)


def engine_killed(backend: BackendProcess, prometheus: Prometheus) -> dict[str, float]:
    """Kills vLLM's engine process of rvc: seconds until its rule fires, and until it has resolved. That of
    rsc, which was ended before, may fire meanwhile."""

    def lost() -> bool:
        return "RvtopEngineLost" in prometheus.firing("rvc")

    assert not lost()
    engines = processes.named(backend.pid, "VLLM::Engin")
    assert engines, processes.family(backend.pid)
    os.kill(engines[0].pid, signal.SIGKILL)
    killed = time.monotonic()
    prometheus.until(lost, "the rule fires", BACK_LIMIT_S)
    fired = time.monotonic() - killed
    prometheus.until(lambda: not lost(), "it resolves", BACK_LIMIT_S)
    return {"fired_s": fired, "resolved_s": time.monotonic() - killed}


def test_every_panel_and_every_variable_has_a_sample(seen: Seen, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [
        (f"{one.uid}: {panel.title}: {query.legend}", substituted(query.expr))
        for one in dashboards()
        for panel in one.panels
        for query in panel.queries
    ]
    empty = [where for where, expr in asked if not seen.prometheus.finite(expr, seen.start, seen.end)]
    variables = [(one.uid, variable) for one in dashboards() for variable in one.variables]
    unnamed = [
        f"{uid}: ${variable.name}"
        for uid, variable in variables
        if not seen.prometheus.values_of(variable.of, substituted(variable.series), seen.start)
    ]
    with capsys.disabled():
        print(f"\npanel expressions with a sample: {len(asked) - len(empty)}/{len(asked)}")
        print(f"variables with a value: {len(variables) - len(unnamed)}/{len(variables)}")
    assert (empty, unnamed) == ([], [])


@pytest.mark.parametrize("topology", STARTS)
def test_a_panel_s_p99_and_rvtop_s_are_in_one_bucket(
    seen: Seen, topology: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = agreement(seen.prometheus, topology, seen.folders[topology], seen.spans[topology])
    with capsys.disabled():
        print(f"\n{topology}: {said}")


def agreement(prometheus: Prometheus, job: str, folder: Path, span: tuple[float, float]) -> str:
    """TTFT p99 of a panel over a whole run, and rvtop's: the histograms of its screen, each of the last 10 s,
    put together. They must be in one bucket or in two side by side."""
    counts: dict[float, float] = {}
    latest = 0.0
    for snapshot in read_screen(folder / "screen.jsonl.gz", []):
        found = snapshot.latency.server_ttft
        if found is not None and snapshot.t_s >= latest + 10.0:
            latest = snapshot.t_s
            for edge, count in zip(found.le_ms, found.counts, strict=True):
                counts[edge] = counts.get(edge, 0.0) + count
    edges = sorted(counts)
    ours = quantile(edges, [counts[edge] for edge in edges], 0.99)
    panel = next(panel for one in dashboards() for panel in one.panels if panel.title == "TTFT" and "job" in
                 panel.queries[0].legend)  # fmt: skip
    expr = next(query.expr for query in panel.queries if query.legend.startswith("p99"))
    began, ended = span
    expr = expr.replace("$__rate_interval", f"{ended - began:.0f}s").replace("$job", job)
    theirs = prometheus.value(substituted(expr), ended)
    assert ours is not None
    assert theirs is not None
    assert abs(place(edges, ours) - place(edges, 1000 * theirs)) <= 1, (ours, theirs)
    return f"TTFT p99, panel {1000 * theirs:.0f} ms, rvtop {ours:.0f} ms"


def place(edges: list[float], value: float) -> int:
    """The bucket that a value is in."""
    return next(index for index, edge in enumerate(edges) if value <= edge)


def test_a_real_kill_of_an_engine_fires_its_rule_and_resolves(
    seen: Seen, capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        print(f"\nRvtopEngineLost: {json.dumps(seen.fired)}")
    assert seen.fired["fired_s"] < seen.fired["resolved_s"]
