"""RVC with three front processes for one engine: all answer, one page counts them, and each can be killed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.backends import processes
from tests.backends.backend_process import BackendProcess
from tests.backends.conformance import CHAT, chat, messages

FRONTS = 3
# A front process loads vLLM's Python again: some 20 s here, more while others use the cores.
BACK_LIMIT_S = 240.0
ORPHAN_LIMIT_S = 60.0
LONG = {"messages": messages(), "max_tokens": 1500, "ignore_eos": True, "stream": True}


@pytest.fixture(scope="module")
def rvc(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackendProcess]:
    process = BackendProcess(
        *("rvc", "--lease", "--model", f"a={tiny_model}", "--front-processes", str(FRONTS)),
        *("--dtype", "float32", "--threads", "1", "--max-model-len", "2048", "--max-num-seqs", "32"),
        log=tmp_path_factory.mktemp("rvc") / "rvc.log",
    )
    yield process
    process.kill()


@pytest.fixture
async def client(rvc: BackendProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=rvc.url, timeout=60, trust_env=False) as client:
        yield client


async def row(client: httpx.AsyncClient) -> dict[str, Any]:
    (engine,) = (await client.get("/rvtop/topology")).json()["engines"]
    return dict(engine)


async def counted(client: httpx.AsyncClient, name: str) -> list[float]:
    """A series' values on the page, one for each engine."""
    lines = (await client.get("/metrics")).text.splitlines()
    return [float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + "{")]


async def until(what: Callable[[], Awaitable[bool]], limit_s: float = BACK_LIMIT_S) -> None:
    async with asyncio.timeout(limit_s):
        while not await what():
            await asyncio.sleep(0.2)


async def test_all_answer_and_are_counted_as_one_engine(client: httpx.AsyncClient) -> None:
    engine = await row(client)
    assert len({front["pid"] for front in engine["fronts"]}) == FRONTS
    assert (engine["engine"], engine["pid"], engine["concurrency"]) == (
        "vllm-0",
        engine["fronts"][0]["pid"],
        32,
    )
    before = await counted(client, "vllm:generation_tokens_total")
    answers = await asyncio.gather(
        *(chat(client, max_tokens=40, ignore_eos=True, rvtop={"timings": True}) for _ in range(12))
    )
    assert {answer["usage"]["rvtop"]["engine"] for answer in answers} == {"vllm-0"}
    assert len({answer["choices"][0]["message"]["content"] for answer in answers}) == 1
    after = await counted(client, "vllm:generation_tokens_total")
    assert [a - b for a, b in zip(after, before, strict=True)] == [12 * 40]
    # Each has warmed up with two requests of its own.
    assert await counted(client, "vllm:e2e_request_latency_seconds_count") == [12 + 2 * FRONTS]


async def test_a_front_that_is_killed_leaves_nothing_and_comes_back(client: httpx.AsyncClient) -> None:
    held = await hold(client)
    engine = await row(client)
    assert [front["in_flight"] for front in engine["fronts"]] == [1] * FRONTS
    os.kill(engine["fronts"][1]["pid"], signal.SIGKILL)

    async def replaced() -> bool:
        now = await row(client)
        return bool(now["front_restarts"] == 1 and now["fronts"][1]["in_flight"] == 0)

    await until(replaced)
    assert (await chat(client, max_tokens=4))["choices"]  # the rest answers
    read = await asyncio.gather(*(response.aread() for response in held), return_exceptions=True)
    whole = [text for text in read if isinstance(text, bytes) and text.endswith(b"data: [DONE]\n\n")]
    assert len(whole) == FRONTS - 1
    await asyncio.gather(*(response.aclose() for response in held))

    async def idle() -> bool:
        return await counted(client, "vllm:num_requests_running") == [0]

    await until(idle)

    async def all_hold_one() -> bool:
        """Whether the router gives the new process its part again."""
        held = await hold(client)
        now = await row(client)
        await asyncio.gather(*(response.aclose() for response in held))
        return [front["in_flight"] for front in now["fronts"]] == [1] * FRONTS

    await until(all_hold_one)
    assert (await row(client))["restarts"] == 0  # the engine's


async def test_an_engine_that_dies_ends_its_fronts_too(client: httpx.AsyncClient) -> None:
    await until(lambda: _in_flight_is(client, 0))
    before = await row(client)
    held = await hold(client)
    (core,) = processes.named(before["pid"], "VLLM::EngineCor")
    os.kill(core.pid, signal.SIGKILL)
    texts = await asyncio.gather(*(response.aread() for response in held))
    assert all(b'"code":503' in text and text.endswith(b"data: [DONE]\n\n") for text in texts)

    async def back() -> bool:
        now = await row(client)
        return bool((now["state"], now["restarts"]) == ("ready", 1))

    await until(back)
    after = await row(client)
    assert not {front["pid"] for front in before["fronts"]} & {front["pid"] for front in after["fronts"]}
    assert (await chat(client, max_tokens=4))["choices"]


async def test_a_killed_parent_leaves_nothing(rvc: BackendProcess, client: httpx.AsyncClient) -> None:
    await hold(client)
    everything = processes.family(rvc.pid)
    fronts = {front["pid"] for front in (await row(client))["fronts"]}
    assert fronts <= {process.pid for process in everything}
    paths = processes.folders(everything)
    rvc.process.kill()
    processes.wait_until_gone(everything, paths, ORPHAN_LIMIT_S)


async def hold(client: httpx.AsyncClient) -> list[httpx.Response]:
    """Streams that have begun, one for each front process."""
    return [
        await client.send(client.build_request("POST", CHAT, json=LONG), stream=True) for _ in range(FRONTS)
    ]


async def _in_flight_is(client: httpx.AsyncClient, number: int) -> bool:
    return bool((await row(client))["in_flight"] == number)
