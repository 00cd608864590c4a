"""RAC as a process with two engines of one model: who gets a request, and every engine killed once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.backends import processes
from tests.backends.backend_process import BackendProcess
from tests.backends.conformance import CHAT, chat, idle, messages

BACK_LIMIT_S = 180.0
# How long a killed parent's processes may live.
ORPHAN_LIMIT_S = 15.0
TOKENS = 1500
# None of these ends while another one is waited for, however busy the cores are.
MANY_TOKENS = 3000


@pytest.fixture(scope="module")
def rac(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackendProcess]:
    process = BackendProcess(
        *("rac", "--lease", "--model", f"tiny={tiny_model}", "--num-replicas", "2"),
        *("--dtype", "float32", "--threads", "1"),
        log=tmp_path_factory.mktemp("rac") / "rac.log",
    )
    yield process
    process.kill()


@pytest.fixture
async def client(rac: BackendProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=rac.url, timeout=60, trust_env=False) as client:
        yield client


async def rows(client: httpx.AsyncClient) -> dict[str, dict[str, Any]]:
    engines = (await client.get("/rvtop/topology")).json()["engines"]
    return {engine["engine"]: engine for engine in engines}


async def stream_of(
    client: httpx.AsyncClient, begun: asyncio.Event, tokens: int = TOKENS
) -> list[dict[str, Any]]:
    """A long stream's events but ``[DONE]``; tells when it has its first."""
    body = {"messages": messages(), "max_tokens": tokens, "ignore_eos": True, "stream": True}
    lines = []
    async with client.stream("POST", CHAT, json={**body, "rvtop": {"timings": True}}) as response:
        assert response.status_code == 200
        async for line in response.aiter_lines():
            begun.set()
            if line:
                lines.append(line.removeprefix("data: "))
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


async def two_streams(
    client: httpx.AsyncClient, tokens: int = TOKENS
) -> list[asyncio.Task[list[dict[str, Any]]]]:
    """One on each engine."""
    begun = [asyncio.Event(), asyncio.Event()]
    tasks = [asyncio.create_task(stream_of(client, event, tokens)) for event in begun]
    async with asyncio.timeout(240):
        for event in begun:
            await event.wait()
    assert {name: row["in_flight"] for name, row in (await rows(client)).items()} == {"rac-0": 1, "rac-1": 1}
    return tasks


async def test_the_engine_with_the_fewest_requests_gets_the_next(client: httpx.AsyncClient) -> None:
    engines = await rows(client)
    assert list(engines) == ["rac-0", "rac-1"]
    assert len({row["pid"] for row in engines.values()}) == 2
    asked = {"max_tokens": 8, "ignore_eos": True, "rvtop": {"timings": True}}
    in_turn = [(await chat(client, **asked))["usage"]["rvtop"]["engine"] for _ in range(6)]
    assert Counter(in_turn) == {"rac-0": 3, "rac-1": 3}
    begun = asyncio.Event()
    long = asyncio.create_task(stream_of(client, begun))
    await begun.wait()
    busy = {name for name, row in (await rows(client)).items() if row["in_flight"]}
    others = {(await chat(client, **asked))["usage"]["rvtop"]["engine"] for _ in range(3)}
    assert not long.done()
    assert others == {"rac-0", "rac-1"} - busy
    long.cancel()
    await asyncio.gather(long, return_exceptions=True)
    await idle(client)
    page = (await client.get("/metrics")).text
    made = dict.fromkeys(("rac-0", "rac-1"), 0.0)
    for line in page.splitlines():
        if line.startswith("rvtop:generation_tokens_total{"):
            made[line.partition('engine="')[2].partition('"')[0]] = float(line.rsplit(" ", 1)[1])
    assert all(tokens >= 3 * 8 for tokens in made.values())


async def test_killed_engines_come_back_and_the_rest_goes_on(client: httpx.AsyncClient) -> None:
    before = await rows(client)
    tasks = await two_streams(client)
    os.kill(before["rac-0"]["pid"], signal.SIGKILL)
    ended = await asyncio.gather(*tasks)
    lost = [events for events in ended if "error" in events[-1]]
    kept = [events for events in ended if "error" not in events[-1]]
    assert len(lost) == len(kept) == 1
    assert lost[0][-1]["error"]["code"] == 503
    assert kept[0][-1]["usage"]["completion_tokens"] == TOKENS
    assert kept[0][-1]["usage"]["rvtop"]["engine"] == "rac-1"
    # Its model has another engine: nobody is refused.
    assert (await client.get("/health")).status_code == 200
    assert (await chat(client))["usage"]["completion_tokens"] > 0

    # Without that one (and the other, should it be back by now) everybody is, until an engine is back.
    for row in (await rows(client)).values():
        if row["state"] == "ready":
            os.kill(row["pid"], signal.SIGKILL)
    async with asyncio.timeout(240):
        while (await client.get("/health")).status_code != 503:
            await asyncio.sleep(0.02)
    refused = await client.post(CHAT, json={"messages": messages()})
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert {row["state"] for row in (await rows(client)).values()} == {"restarting"}
    await are_back(client, before)
    health = await client.get("/health")
    assert health.status_code == 200
    restarts = {name: row["restarts"] for name, row in (await rows(client)).items()}
    assert restarts["rac-0"] in (1, 2)  # 2 if it was back before both were killed
    assert (restarts["rac-1"], health.json()["restarts"]) == (1, sum(restarts.values()))
    assert (await chat(client))["usage"]["completion_tokens"] > 0


async def are_back(client: httpx.AsyncClient, before: dict[str, dict[str, Any]]) -> None:
    """Waits until these engines are ready again, in other processes."""
    async with asyncio.timeout(BACK_LIMIT_S):
        while True:
            now = await rows(client)
            if all(row["state"] == "ready" for row in now.values()):
                break
            await asyncio.sleep(0.2)
    assert all(now[name]["pid"] != row["pid"] for name, row in before.items())


async def test_a_killed_parent_leaves_nothing(client: httpx.AsyncClient, rac: BackendProcess) -> None:
    tasks = await two_streams(client, MANY_TOKENS)
    everything = processes.family(rac.pid)
    paths = processes.folders(everything)
    assert {"raylet", "gcs_server", "ray::HfActor"} <= {process.name for process in everything}
    assert len(paths) == 1, paths
    rac.process.kill()
    processes.wait_until_gone(everything, paths, ORPHAN_LIMIT_S)
    assert all(isinstance(end, Exception) for end in await asyncio.gather(*tasks, return_exceptions=True))
