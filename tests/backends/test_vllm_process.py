"""vLLM's own server as a child: it comes back when it ends, serves two models, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import httpx
import pytest

from tests.backends import processes
from tests.backends.backend_process import BackendProcess
from tests.backends.conformance import CHAT, TEXT, messages
from tests.backends.conftest import Launch

START_LIMIT_S = 400.0
ORPHAN_LIMIT_S = 15.0


def started(launch: Launch, tiny_model: Path, *args: str) -> BackendProcess:
    return launch("vllm", "--model", f"a={tiny_model}", "--threads", "1", *args)


async def test_two_models_each_with_its_servers_and_a_dead_one_comes_back(
    launch: Launch, tiny_model: Path
) -> None:
    backend = started(launch, tiny_model, "--model", f"b={tiny_model}", "--api-server-count", "2")
    url = backend.wait_for("ready", START_LIMIT_S)["url"]  # six processes import vLLM
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:

        async def status(model: str) -> int:
            body = {"model": model, "messages": messages(), "max_tokens": 4}
            return (await client.post(CHAT, json=body)).status_code

        assert [await status(model) for model in ("a", "b", "nope")] == [200, 200, 404]
        listed = await client.post(TEXT, json={"model": "b", "prompt": ["x", "y"], "max_tokens": 2})
        assert len(listed.json()["choices"]) == 2  # what only vLLM's server can
        tokens = await client.post("/tokenize", json={"model": "a", "prompt": "휴가는 며칠"})
        assert tokens.json()["count"] > 0
        topology = (await client.get("/rvtop/topology")).json()
        assert [(e["engine"], e["model"], e["state"]) for e in topology["engines"]] == [
            ("vllm-0", "a", "ready"),
            ("vllm-1", "b", "ready"),
        ]
        page = (await client.get("/metrics")).text
        assert 'engine="vllm-0"' in page
        assert 'engine="vllm-1"' in page
        os.kill(topology["engines"][0]["pid"], signal.SIGKILL)
        deadline = time.monotonic() + START_LIMIT_S
        while (health := await client.get("/health")).status_code != 200 or health.json()["restarts"] != 1:
            assert await status("b") == 200
            assert time.monotonic() < deadline
            await asyncio.sleep(0.5)
        assert await status("a") == 200
    everything = processes.family(backend.pid)
    backend.process.send_signal(signal.SIGTERM)
    assert backend.wait() == 0
    processes.wait_until_gone(everything, processes.folders(everything), ORPHAN_LIMIT_S)


@pytest.mark.parametrize("when", ["loading", "ready"])
def test_nothing_is_left_when_its_parent_is_killed(launch: Launch, tiny_model: Path, when: str) -> None:
    backend = started(launch, tiny_model)
    if when == "ready":
        backend.wait_for("ready", START_LIMIT_S)
    else:
        backend.wait_for("step", START_LIMIT_S, name="weights", state="run")
        deadline = time.monotonic() + START_LIMIT_S
        while (
            len(processes.folders(processes.family(backend.pid))) < 3
        ):  # its own, the router's, the server's
            assert time.monotonic() < deadline
            time.sleep(0.05)
    everything = processes.family(backend.pid)
    os.kill(backend.pid, signal.SIGKILL)
    backend.wait()
    processes.wait_until_gone(everything, processes.folders(everything), ORPHAN_LIMIT_S)
