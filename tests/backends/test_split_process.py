"""One name for two versions, on each topology: who answers, other shares while it serves, and an arm whose
engine dies."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from backends.settings.split import point_of
from tests.backends.backend_process import BackendProcess

CHAT, SPLIT, ARM = "/v1/chat/completions", "/rvtop/split", "x-rvtop-arm"
FLAGS = {
    "baseline": (),
    "rac": ("--num-replicas", "1"),
    "rsc": ("--num-replicas", "1"),
    "rvc": ("--num-replicas", "1", "--max-model-len", "512"),
    "vllm": ("--num-replicas", "1", "--max-model-len", "512"),
    "rsv": ("--num-replicas", "1", "--max-model-len", "512"),
}
#: Those in which an engine is a process that can be killed alone, and comes back.
KILLED = ("rac", "rvc", "vllm")


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=FLAGS)
def split(
    request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, BackendProcess]]:
    process = BackendProcess(
        *(request.param, "--lease", "--model", f"v1={tiny_model}", "--model", f"big-70b={tiny_model}"),
        *("--split", "chat=v1:90,big-70b:10", "--fallback", "--dtype", "float32", "--threads", "1"),
        *FLAGS[request.param],
        log=tmp_path_factory.mktemp("split") / f"{request.param}.log",
    )
    yield request.param, process
    process.kill()


@pytest.fixture
async def client(split: tuple[str, BackendProcess]) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=split[1].url, timeout=300, trust_env=False) as client:
        yield client


async def ask(
    client: httpx.AsyncClient, headers: dict[str, str] | None = None, **body: Any
) -> httpx.Response:
    said = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2, "model": "chat"}
    return await client.post(CHAT, json=said | body, headers=headers)


async def arms(client: httpx.AsyncClient, count: int, name: str = "x-request-id") -> list[str]:
    """Which arm answered each of so many requests, some at a time; all have to be answered."""
    at_once = asyncio.Semaphore(4)

    async def one(number: int) -> str:
        async with at_once:
            answer = await ask(client, {name: f"{name}-{number}"})
        assert answer.status_code == 200, answer.text
        return answer.headers[ARM]

    return list(await asyncio.gather(*(one(number) for number in range(count))))


async def weigh(client: httpx.AsyncClient, share: float) -> dict[str, Any]:
    answer = await client.post(SPLIT, json={"shares": {"big-70b": share}})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()["splits"][0]
    return told


async def test_a_name_is_split_and_the_arm_told(client: httpx.AsyncClient) -> None:
    got = await arms(client, 40)
    assert set(got) == {"v1", "big-70b"}
    assert got.count("v1") > 20
    models = [card["id"] for card in (await client.get("/v1/models")).json()["data"]]
    assert models == ["v1", "big-70b", "chat"]
    stream = await ask(client, stream=True)
    assert stream.headers[ARM] in ("v1", "big-70b")
    assert stream.text.endswith("data: [DONE]\n\n")


async def test_a_size_or_a_name_of_its_own_reaches_the_big_one(client: httpx.AsyncClient) -> None:
    answer = await ask(client, model=None, model_size="70b")
    assert answer.status_code == 200
    assert answer.json()["model"] == "big-70b"
    answer = await ask(client, model="big-70b")
    assert (answer.json()["model"], ARM in answer.headers) == ("big-70b", False)
    for body in ({"model": "nope"}, {"model": None, "model_size": "13b"}):
        answer = await ask(client, **body)
        assert (answer.status_code, answer.json()["error"]["type"]) == (404, "NotFoundError")


async def test_other_shares_count_at_once_and_sessions_stay(client: httpx.AsyncClient) -> None:
    try:
        before = await arms(client, 20, "x-session-id")
        told = await weigh(client, 100)
        assert [arm["share"] for arm in told["arms"]] == [0, 100]
        assert (await client.get("/rvtop/topology")).json()["splits"] == [told]
        assert set(await arms(client, 5)) == {"big-70b"}
        await weigh(client, 50)
        now = await arms(client, 20, "x-session-id")
        moved = [(a, b) for a, b in zip(before, now, strict=True) if a != b]
        assert all(b == "big-70b" for _, b in moved)  # v1 had nothing for a moment: its sessions were free
        assert "v1" in now or len(moved) < 20
        refused = await client.post(SPLIT, json={"shares": {"big-70b": 101}})
        assert refused.status_code == 400
    finally:
        await weigh(client, 10)


async def test_an_arm_whose_engine_is_killed_takes_nothing_with_it(
    split: tuple[str, BackendProcess], client: httpx.AsyncClient
) -> None:
    """The rest of the name's requests goes on, and with --fallback all of it."""
    topology, _ = split
    if topology not in KILLED:
        pytest.skip("its engines are no processes of their own")
    rows = (await client.get("/rvtop/topology")).json()["engines"]
    (pid,) = [row["pid"] for row in rows if row["model"] == "big-70b"]
    statuses: list[tuple[str, int]] = []
    stop = asyncio.Event()

    async def load() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            name = f"k-{number}"
            try:
                answer = await ask(client, {"x-request-id": name})
                statuses.append((answer.headers[ARM], answer.status_code))
            except httpx.TransportError:  # what its engine had begun ends with it
                arm = "big-70b" if point_of(name.encode()) < 1000 else "v1"
                statuses.append((arm, 0))

    loads = [asyncio.create_task(load()) for _ in range(2)]
    await asyncio.sleep(1)
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(60):
        while (await client.get(SPLIT)).json()["splits"][0]["arms"][1]["up"]:
            await asyncio.sleep(0.05)
    known = len(statuses)
    await asyncio.sleep(2)
    stop.set()
    await asyncio.gather(*loads)
    assert {status for arm, status in statuses if arm == "v1"} == {200}
    assert {status for _, status in statuses[known + 2 :]} == {200}
    async with asyncio.timeout(600):  # and it comes back
        while not (await client.get(SPLIT)).json()["splits"][0]["arms"][1]["up"]:
            await asyncio.sleep(0.5)
    assert "big-70b" in await arms(client, 40)
