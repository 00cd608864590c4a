"""The dashboards and the alerts beside a live Hugging Face engine, no Ray: a run, and the engine killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from rvtop.deploy.alerts import Limits, files
from rvtop.deploy.grafana import dashboards
from tests.backends.backend_process import BackendProcess
from tests.backends.prometheus_server import HERE, Prometheus
from tests.backends.test_deploy_live import agreement, run, substituted

pytestmark = [
    pytest.mark.skipif(not HERE, reason="no Prometheus here: apt install prometheus"),
    pytest.mark.timeout(1200),
]
LIMIT_S = 300.0
#: Panels that tell of engines with a paged cache or drafts, of Ray, of GPUs.
NOT_HERE = (
    "KV cache",
    "Prefix",
    "Preemptions",
    "Prompts from",
    "Waiting for",
    "Energy",
    "Drafted",
    "Accepted",
    "Step",
    "Frag",
)


def test_a_run_is_on_the_panels_and_a_killed_engine_fires_its_rule(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    rules = files(Limits({"ttft_p99": 60_000.0}, window="10s", hold="0s"))
    words = ("baseline", "--lease", "--model", f"tiny={tiny_model}", "--threads", "1", "--port", str(port))
    with Prometheus(tmp_path, *rules.values()) as prometheus:
        start = time.time()
        backend = BackendProcess(*words, log=tmp_path / "first.log")
        try:
            prometheus.name([f"{backend.url}/metrics"], "baseline")
            span = run(backend.url, tmp_path / "run-baseline", prometheus)
            said = agreement(prometheus, "baseline", tmp_path / "run-baseline", span)
            asked = {
                f"{one.uid}: {panel.title}: {query.legend}": substituted(query.expr)
                for one in dashboards()
                if one.uid in ("rvtop-serving", "rvtop-client", "rvtop-comparison")
                for panel in one.panels
                if not panel.title.startswith(NOT_HERE)
                for query in panel.queries
            }
            empty = [
                where for where, expr in asked.items() if not prometheus.finite(expr, start, time.time())
            ]
            assert "RvtopServerDown" not in prometheus.firing()
            os.kill(backend.pid, signal.SIGKILL)
            killed = time.monotonic()
            prometheus.until(lambda: "RvtopServerDown" in prometheus.firing(), "the rule fires", LIMIT_S)
            fired_s = time.monotonic() - killed
        finally:
            backend.kill()
        backend = BackendProcess(*words, log=tmp_path / "second.log")
        try:
            assert backend.url.endswith(str(port))
            prometheus.until(lambda: "RvtopServerDown" not in prometheus.firing(), "it resolves", LIMIT_S)
        finally:
            backend.kill()
    with capsys.disabled():
        print(f"\npanel expressions with a sample: {len(asked) - len(empty)}/{len(asked)}; {said}")
        print(f"RvtopServerDown: {json.dumps({'fired_s': round(fired_s, 1)})}")
    assert empty == []
