"""rvtop against vLLM's own OpenAI server: a server that rvtop did not start and that knows nothing of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.models.tiny.tiny import ensure_model
from rvtop.contract.command import Stop
from rvtop.session.request import attach_request
from rvtop.session.session import Session

START_LIMIT_S = 180.0
RVTOP = str(Path(sys.executable).with_name("rvtop"))


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.fixture(scope="module")
def vllm_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """vLLM's API server on the tiny model, on the CPU."""
    log = tmp_path_factory.mktemp("vllm") / "log"
    port = free_port()
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(ensure_model())]
    command += ["--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--enforce-eager", "--max-model-len", "2048"]
    settings = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    with open(log, "wb") as out:
        server = subprocess.Popen(
            command, env=os.environ | settings, stdout=out, stderr=out, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_healthy(url, server, log)
        yield url
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(20)
        finally:
            with contextlib.suppress(ProcessLookupError):  # when all of it has ended by itself
                os.killpg(server.pid, signal.SIGKILL)


def wait_until_healthy(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"vLLM ended: {log.read_text('utf-8', 'replace')[-2000:]}")
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise RuntimeError(f"vLLM was not healthy within {START_LIMIT_S:g} s")


def generated(url: str) -> float:
    """The server's own count of output tokens."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        page = answer.read().decode()
    return sum(
        float(value) for value in re.findall(r"^vllm:generation_tokens_total\{.*\} (\S+)$", page, re.M)
    )


def run_command(url: str, out: Path, rate: str = "6", duration: str = "6s") -> list[str]:
    load = ["--rate", rate, "--duration", duration, "--prompt-tokens", "100", "--output-tokens", "40"]
    return [RVTOP, "run", "--target", url, "--out", str(out), *load]


def test_usage_is_what_the_server_counted_and_its_figures_move(vllm_url: str, tmp_path: Path) -> None:
    before = generated(vllm_url)
    done = subprocess.run(
        run_command(vllm_url, tmp_path / "run"), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_bytes())
    rows = [json.loads(line) for line in (tmp_path / "run" / "requests.jsonl").read_text().splitlines()]
    assert summary["requests"]["ok"] == summary["requests"]["planned"] == len(rows) > 10
    assert sum(row["output_tokens"] for row in rows) == generated(vllm_url) - before
    assert summary["tokens"]["source"] == "usage"
    assert summary["tokens"]["output"] == 40 * len(rows)
    server = summary["server"]
    assert server["kv_cache_usage"]["max"] > 0
    assert server["running_max"] >= 1
    assert server["waiting_max"] is not None
    timeline = [json.loads(line) for line in (tmp_path / "run" / "timeline.jsonl").read_text().splitlines()]
    assert len({row["running"] for row in timeline}) > 1  # they move while the load runs


async def test_attach_shows_the_servers_histograms_before_any_load_of_its_own(
    vllm_url: str, tmp_path: Path
) -> None:
    session = Session(attach_request(vllm_url, ("tiny",), (), None, tmp_path / "watch"))
    running = asyncio.create_task(session.run())
    other = await asyncio.create_subprocess_exec(
        *run_command(vllm_url, tmp_path / "other", duration="8s"), "--ui", "none"
    )
    try:
        deadline = time.monotonic() + 60
        seen = session.snapshot()
        while time.monotonic() < deadline:
            seen = session.snapshot()
            hist = seen.latency.server_ttft
            if hist is not None and hist.count >= 5 and seen.tokens.server_per_s:
                break
            await asyncio.sleep(0.1)
        assert seen.state == "watching"
        assert seen.load.sent == 0
        assert seen.latency.ttft.count == 0
        assert seen.tokens.per_s is None
        assert seen.latency.server_ttft is not None
        assert seen.latency.server_ttft.count >= 5
        assert seen.latency.server_ttft.p50 is not None
        assert seen.latency.server_itl is not None
        assert seen.latency.server_itl.count > 0
    finally:
        session.command(Stop("quit"))
        outcome = await running
        await other.wait()
    assert outcome.exit_code == 0
    assert outcome.summary is not None
    assert outcome.summary["requests"]["planned"] == 0
