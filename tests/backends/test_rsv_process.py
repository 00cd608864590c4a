"""Ray Serve LLM as a process with two replicas: its rows and figures, and its end; and past its ingress."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.backends import processes
from tests.backends.backend_process import BackendProcess
from tests.backends.conformance import CHAT, chat_stream, messages
from tests.backends.conftest import Launch

ORPHAN_LIMIT_S = 60.0
# Ray hands a replica's figures on once a second; a busy machine takes longer.
FIGURES_LIMIT_S = 120.0
#: Of the start's own request through the one proxy.
WARM_UP_TOKENS = 2
TOKENS = 40


@pytest.fixture(scope="module")
def rsv(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackendProcess]:
    process = BackendProcess(
        *("rsv", "--lease", "--model", f"tiny={tiny_model}", "--dtype", "float32", "--threads", "1"),
        *("--num-replicas", "2", "--stream-batching-ms", "0"),
        log=tmp_path_factory.mktemp("rsv") / "rsv.log",
    )
    yield process
    process.kill()


@pytest.fixture
async def client(rsv: BackendProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=rsv.url, timeout=120, trust_env=False) as client:
        yield client


async def tokens_by_engine(client: httpx.AsyncClient) -> dict[str, float]:
    """What each engine's counter of generated tokens says."""
    page = (await client.get("/metrics")).text
    assert "ray_vllm" not in page
    return {
        sample.labels["engine"]: sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == "vllm:generation_tokens_total"
    }


async def test_replicas_are_engines_and_their_tokens_are_counted(client: httpx.AsyncClient) -> None:
    topology = (await client.get("/rvtop/topology")).json()
    rows: dict[str, dict[str, Any]] = {row["engine"]: row for row in topology["engines"]}
    assert len(rows) == 2
    assert {(row["state"], row["model"], row["kind"]) for row in rows.values()} == {("ready", "tiny", "vllm")}
    assert len({row["pid"] for row in rows.values()}) == 2
    assert topology["serve_llm"] == {"stream_batching_ms": 0.0, "direct_streaming": False}
    deadline = time.monotonic() + FIGURES_LIMIT_S
    while (before := sum((await tokens_by_engine(client)).values())) < WARM_UP_TOKENS:
        assert time.monotonic() < deadline, before  # Ray tells what vLLM counts some seconds later
        await asyncio.sleep(0.2)
    assert before == WARM_UP_TOKENS
    body = {"messages": messages(), "max_tokens": TOKENS, "ignore_eos": True}
    answers = await asyncio.gather(*(client.post(CHAT, json=body) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    made = sum(answer.json()["usage"]["completion_tokens"] for answer in answers)
    assert made == 8 * TOKENS
    deadline = time.monotonic() + FIGURES_LIMIT_S
    while sum((counted := await tokens_by_engine(client)).values()) - before < made:
        assert time.monotonic() < deadline, counted
        await asyncio.sleep(0.2)
    assert sum(counted.values()) - before == made
    assert set(counted) <= set(rows)


async def test_its_end_leaves_nothing_when_it_is_killed(
    rsv: BackendProcess, client: httpx.AsyncClient
) -> None:
    """The last of this file: the process is gone then."""
    assert (await client.get("/health")).status_code == 200
    everything = processes.family(rsv.pid)
    assert processes.named(rsv.pid, "VLLM::")
    os.kill(rsv.pid, signal.SIGKILL)
    rsv.wait()
    processes.wait_until_gone(everything, processes.folders(everything), ORPHAN_LIMIT_S)


async def test_direct_streaming_has_no_ingress(launch: Launch, tiny_model: Path) -> None:
    backend = launch("rsv", "--model", f"tiny={tiny_model}", "--threads", "1", "--direct-streaming")
    url = backend.wait_for("ready")["url"]
    async with httpx.AsyncClient(base_url=url, timeout=120, trust_env=False) as client:
        topology = (await client.get("/rvtop/topology")).json()
        assert topology["serve_llm"] == {"stream_batching_ms": None, "direct_streaming": True}
        events = await chat_stream(client, max_tokens=TOKENS, ignore_eos=True)
    assert events[-1]["usage"]["completion_tokens"] == TOKENS
    titles = set()
    for one in processes.family(backend.pid):
        with contextlib.suppress(OSError):
            titles.add(Path(f"/proc/{one.pid}/cmdline").read_bytes().rstrip(b"\0").decode())
    assert any("LLMServer:tiny" in title for title in titles), titles
    assert not any("OpenAiIngress" in title for title in titles), titles
