"""RSC as a process with two models, an API key and batches: routing, a killed replica, a killed parent."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.backends import processes
from tests.backends.backend_process import BackendProcess
from tests.backends.conformance import CHAT, QUESTIONS, chat, idle, messages

KEY = "s3cret-key"
BATCH = 4
BACK_LIMIT_S = 180.0
# How long a killed parent's processes may live.
ORPHAN_LIMIT_S = 15.0


@pytest.fixture(scope="module")
def rsc(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackendProcess]:
    process = BackendProcess(
        *("rsc", "--lease", "--model", f"a={tiny_model}", "--model", f"b={tiny_model}"),
        *("--dtype", "float32", "--threads", "1", "--serve-batch", str(BATCH), "--serve-batch-wait", "0.2"),
        log=tmp_path_factory.mktemp("rsc") / "rsc.log",
        env={"RVTOP_API_KEY": KEY},
    )
    yield process
    process.kill()


@pytest.fixture
async def client(rsc: BackendProcess) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=rsc.url, timeout=60, trust_env=False, headers=headers) as client:
        yield client


async def rows(client: httpx.AsyncClient) -> dict[str, dict[str, Any]]:
    """Engines by their model."""
    engines = (await client.get("/rvtop/topology")).json()["engines"]
    return {engine["model"]: engine for engine in engines}


async def test_each_model_has_its_application(client: httpx.AsyncClient, rsc: BackendProcess) -> None:
    engines = await rows(client)
    assert set(engines) == {"a", "b"}
    for model, row in engines.items():
        answer = await chat(client, model=model, rvtop={"timings": True})
        assert answer["model"] == model
        assert answer["usage"]["rvtop"]["engine"] == row["engine"]
        assert row["concurrency"] == BATCH
    unnamed = await client.post(CHAT, json={"messages": messages(), "max_tokens": 2})
    assert unnamed.json()["model"] == "a"
    unknown = await client.post(CHAT, json={"model": "c", "messages": messages()})
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (404, "model")
    for path in ("/v1/models", "/metrics", "/rvtop/topology"):
        assert (await client.get(path, headers={"Authorization": "Bearer wrong"})).status_code == 401
    assert (await client.get("/health", headers={"Authorization": ""})).status_code == 200
    assert KEY not in rsc.log.read_text()


async def test_batches_answer_what_each_gets_alone(client: httpx.AsyncClient) -> None:
    asked = {"model": "a", "max_tokens": 200, "ignore_eos": True}
    alone = [await chat(client, question, **asked) for question in QUESTIONS]
    together = [asyncio.create_task(chat(client, question, **asked)) for question in QUESTIONS]
    async with asyncio.timeout(240):
        while (await rows(client))["a"]["running"] < len(QUESTIONS):
            await asyncio.sleep(0.005)
    assert [answer["choices"] for answer in await asyncio.gather(*together)] == [
        answer["choices"] for answer in alone
    ]
    await idle(client)


async def test_a_killed_replica_comes_back_and_the_other_model_goes_on(client: httpx.AsyncClient) -> None:
    before = await rows(client)
    body = {"model": "a", "messages": messages(), "max_tokens": 1500, "ignore_eos": True, "stream": True}
    async with client.stream("POST", CHAT, json=body) as response:
        lines = response.aiter_lines()
        await anext(lines)
        os.kill(before["a"]["pid"], signal.SIGKILL)
        with pytest.raises(httpx.RemoteProtocolError):  # Serve's proxy cuts the answer short
            async for _ in lines:
                pass
    async with asyncio.timeout(240):
        while (await client.get("/health")).status_code != 503:
            await asyncio.sleep(0.05)
    assert (await chat(client, model="b"))["usage"]["completion_tokens"] > 0
    # Serve keeps what comes now until there is a replica again.
    waiting = asyncio.create_task(chat(client, model="a", max_tokens=3, ignore_eos=True, timeout=None))
    async with asyncio.timeout(BACK_LIMIT_S):
        while (await client.get("/health")).status_code != 200:
            await asyncio.sleep(0.2)
    assert (await waiting)["usage"]["completion_tokens"] == 3
    after = await rows(client)
    assert after["a"]["engine"] != before["a"]["engine"]
    assert (await client.get("/health")).json()["restarts"] == 1
    assert after["b"] | {"in_flight": 0} == before["b"] | {"in_flight": 0}


async def test_a_killed_parent_leaves_nothing(client: httpx.AsyncClient, rsc: BackendProcess) -> None:
    body = {"model": "b", "messages": messages(), "max_tokens": 1500, "ignore_eos": True}
    load = [asyncio.create_task(client.post(CHAT, json=body)) for _ in range(6)]
    async with asyncio.timeout(240):
        while (await rows(client))["b"]["running"] == 0:
            await asyncio.sleep(0.01)
    everything = processes.family(rsc.pid)
    paths = processes.folders(everything)
    kinds = {process.name for process in everything}
    assert {"haproxy", "raylet", "gcs_server", "ray::ProxyActor"} <= kinds
    assert len(paths) == 2, paths  # the cluster's and the router's
    rsc.process.kill()
    processes.wait_until_gone(everything, paths, ORPHAN_LIMIT_S)
    with pytest.raises(httpx.ConnectError):
        await client.get("/health")
    await asyncio.gather(*load, return_exceptions=True)
