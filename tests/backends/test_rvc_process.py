"""RVC as a process with two models: each request to its engine, and every part of it killed once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.backends import processes
from tests.backends.backend_process import BackendProcess
from tests.backends.conformance import CHAT, chat, messages
from tests.backends.parity import COUNT, asked, differences
from tests.backends.reference import Reference

# An engine that was killed is loaded again: some 30 s here, more while others use the cores.
BACK_LIMIT_S = 240.0
# How long a killed parent's processes may live.
ORPHAN_LIMIT_S = 15.0


@pytest.fixture(scope="module")
def rvc(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackendProcess]:
    process = BackendProcess(
        *("rvc", "--lease", "--model", f"a={tiny_model}", "--model", f"b={tiny_model}"),
        *("--dtype", "float32", "--threads", "1", "--max-model-len", "1024", "--max-num-seqs", "32"),
        log=tmp_path_factory.mktemp("rvc") / "rvc.log",
    )
    yield process
    process.kill()


@pytest.fixture
async def client(rvc: BackendProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=rvc.url, timeout=60, trust_env=False) as client:
        yield client


async def rows(client: httpx.AsyncClient) -> dict[str, dict[str, Any]]:
    """Engines by their model."""
    engines = (await client.get("/rvtop/topology")).json()["engines"]
    return {engine["model"]: engine for engine in engines}


async def series(client: httpx.AsyncClient, name: str) -> dict[str, float]:
    """A series' value for each ``engine``."""
    values = {}
    for line in (await client.get("/metrics")).text.splitlines():
        if line.startswith(name + "{"):
            labels, value = line.rsplit(" ", 1)
            values[labels.partition('engine="')[2].partition('"')[0]] = float(value)
    return values


async def is_back(client: httpx.AsyncClient, model: str, restarts: int) -> None:
    async with asyncio.timeout(BACK_LIMIT_S):
        while True:
            row = (await rows(client))[model]
            if (row["state"], row["restarts"]) == ("ready", restarts):
                return
            await asyncio.sleep(0.2)


async def test_each_model_has_its_engine(client: httpx.AsyncClient) -> None:
    engines = await rows(client)
    assert {model: row["engine"] for model, row in engines.items()} == {"a": "vllm-0", "b": "vllm-1"}
    assert len({row["pid"] for row in engines.values()}) == 2
    for model, row in engines.items():
        before = await series(client, "vllm:generation_tokens_total")
        answer = await chat(client, model=model, max_tokens=5, ignore_eos=True, rvtop={"timings": True})
        assert answer["model"] == model
        assert answer["usage"]["rvtop"]["engine"] == row["engine"]
        after = await series(client, "vllm:generation_tokens_total")
        assert {
            engine: after[engine] - before[engine] for engine in after if after[engine] > before[engine]
        } == {row["engine"]: 5}
        assert (row["max_model_len"], row["concurrency"], row["kind"]) == (1024, 32, "vllm")
    models = (await client.get("/v1/models")).json()["data"]
    assert [(model["id"], model["max_model_len"]) for model in models] == [("a", 1024), ("b", 1024)]
    unknown = await client.post(CHAT, json={"model": "c", "messages": messages()})
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (404, "model")
    long = await client.post(CHAT, json={"messages": messages("x" * 2**20), "model": "b"})
    assert (long.status_code, long.json()["error"]["code"]) == (413, 413)


async def test_an_engines_own_port_wants_the_runs_bearer(client: httpx.AsyncClient) -> None:
    url = (await rows(client))["a"]["url"]
    assert urlsplit(url).hostname == "127.0.0.1"
    async with httpx.AsyncClient(base_url=url, trust_env=False) as engine:
        assert (await engine.get("/health")).status_code == 200
        assert (await engine.get("/metrics")).status_code == 401
        assert (await engine.post(CHAT, json={"messages": messages()})).status_code == 401


async def test_parity_of_requests_that_share_batches(
    client: httpx.AsyncClient, reference: Reference, reference_model: Callable[[], Any]
) -> None:
    got = await asked(client, at_once=COUNT)
    ties = differences(reference_model, reference.parity, got)
    print(f"rvc, batched: {COUNT - len(ties)} of {COUNT} answers identical", *ties, sep="\n  tie: ")


async def test_parts_that_are_killed_come_back_and_the_rest_goes_on(
    client: httpx.AsyncClient, rvc: BackendProcess
) -> None:
    before = await rows(client)
    (core_of_a,) = processes.named(before["a"]["pid"], "VLLM::EngineCor")
    body = {"model": "a", "messages": messages(), "max_tokens": 900, "ignore_eos": True, "stream": True}

    # vLLM's engine process: what runs is told, new requests get 503, the other model goes on.
    async with client.stream("POST", CHAT, json=body) as response:
        lines = response.aiter_lines()
        await anext(lines)
        os.kill(core_of_a.pid, signal.SIGKILL)
        said = [line async for line in lines if line]
    assert said[-1] == "data: [DONE]"
    assert json.loads(said[-2].removeprefix("data: "))["error"]["code"] == 503
    refused = await client.post(CHAT, json={"model": "a", "messages": messages()})
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == 503
    assert int(refused.headers["retry-after"]) >= 1
    async with asyncio.timeout(240):
        while (await client.get("/health")).status_code != 503:
            await asyncio.sleep(0.05)
    assert (await rows(client))["a"]["state"] == "restarting"
    assert (await chat(client, model="b"))["usage"]["completion_tokens"] > 0

    # The router: replaced at once, on the same port.
    (haproxy,) = processes.named(rvc.pid, "haproxy")
    os.kill(haproxy.pid, signal.SIGKILL)
    async with asyncio.timeout(240):
        while True:
            try:
                assert (await chat(client, model="b"))["model"] == "b"
                break
            except httpx.TransportError:
                await asyncio.sleep(0.02)

    # A whole actor. Nothing of it stays, not even what it started.
    of_b = processes.family(before["b"]["pid"])
    os.kill(before["b"]["pid"], signal.SIGKILL)
    processes.wait_until_gone(of_b, set(), ORPHAN_LIMIT_S)
    await asyncio.gather(is_back(client, "a", 1), is_back(client, "b", 1))
    after = await rows(client)
    for model in ("a", "b"):
        assert after[model]["pid"] != before[model]["pid"]
        assert (await chat(client, model=model))["model"] == model
    health = await client.get("/health")
    assert (health.status_code, health.json()["restarts"]) == (200, 2)


async def test_a_killed_parent_leaves_nothing(client: httpx.AsyncClient, rvc: BackendProcess) -> None:
    body = {"model": "a", "messages": messages(), "max_tokens": 900, "ignore_eos": True}
    load = [asyncio.create_task(client.post(CHAT, json=body)) for _ in range(8)]
    async with asyncio.timeout(240):
        while sum((await series(client, "vllm:num_requests_running")).values()) == 0:
            await asyncio.sleep(0.01)
    ports = [urlsplit(row["url"]).port for row in (await rows(client)).values()] + [urlsplit(rvc.url).port]
    everything = processes.family(rvc.pid)
    paths = processes.folders(everything)
    kinds = {process.name for process in everything}
    assert {"haproxy", "raylet", "gcs_server", "VLLM::EngineCor"} <= kinds
    assert len(paths) == 4, paths  # the cluster's, the router's, two engines'
    rvc.process.kill()
    processes.wait_until_gone(everything, paths, ORPHAN_LIMIT_S)
    for port in ports:
        with pytest.raises(ConnectionRefusedError), socket.socket() as probe:
            probe.connect(("127.0.0.1", port))
    await asyncio.gather(*load, return_exceptions=True)
