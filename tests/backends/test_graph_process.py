"""Topology graph as a process: what stages take, branches that overlap, stages scaled alone, ends."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from backends.settings.graph import ANALYSIS, RETRIEVAL
from tests.backends import processes
from tests.backends.backend_process import BackendProcess
from tests.backends.conformance import CHAT, QUESTIONS, chat, idle, messages

KEY = "s3cret-key"
BACK_LIMIT_S = 240.0
ORPHAN_LIMIT_S = 15.0
#: Of a request: in the order in which they pass.
PASSED = ("router_ms", "embed_ms", "search_ms", "rerank_ms", "queue_ms", "prefill_ms", "decode_ms")
TEXT = "The flight was late and the hotel was loud, but the food made up for all of it. " * 12


@pytest.fixture(scope="module")
def graph(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackendProcess]:
    process = BackendProcess(
        *("graph", "--lease", "--model", f"tiny={tiny_model}", "--dtype", "float32", "--threads", "1"),
        log=tmp_path_factory.mktemp("graph") / "graph.log",
        env={"RVTOP_API_KEY": KEY},
    )
    yield process
    process.kill()


@pytest.fixture
async def client(graph: BackendProcess) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=graph.url, timeout=120, trust_env=False, headers=headers) as client:
        yield client


async def stages(client: httpx.AsyncClient) -> dict[str, dict[str, Any]]:
    return {row["stage"]: row for row in (await client.get("/rvtop/topology")).json()["stages"]}


def actors(rows: dict[str, dict[str, Any]]) -> dict[str, set[str]]:
    return {stage: {replica["actor"] for replica in row["replicas"]} for stage, row in rows.items()}


async def served(client: httpx.AsyncClient, name: str) -> float:
    """Seconds that the server's own histogram of ``name`` has in all."""
    page = (await client.get("/metrics")).text
    lines = [line for line in page.splitlines() if line.startswith(f"rvtop:{name}_seconds_sum")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


async def test_stages_sum_to_the_servers_time(client: httpx.AsyncClient) -> None:
    """What a request took from its arrival at the server to its last token, by the server's own histogram, is
    what its stages say that they took."""
    assert set(await stages(client)) == {*RETRIEVAL, "llm", *ANALYSIS}
    before = await served(client, "e2e_request_latency")
    told = []
    for number in range(12):
        asked = {"max_tokens": 128, "ignore_eos": True, "rag": {"top_k": 2}, "rvtop": {"timings": True}}
        answer = await chat(client, QUESTIONS[number % len(QUESTIONS)], **asked)
        told.append(answer["usage"]["rvtop"])
    await idle(client)
    whole = 1e3 * (await served(client, "e2e_request_latency") - before)
    parts = {name: sum(one[name] for one in told) for name in PASSED}
    inside = sum(took for name, took in parts.items() if name != "router_ms")
    print(f"stages {inside:.1f} of {whole:.1f} ms: {parts}")
    assert all(one["embed_ms"] > 0 and one["search_ms"] > 0 and one["rerank_ms"] > 0 for one in told)
    assert all(one["retrieve_ms"] >= sum(one[f"{stage}_ms"] for stage in RETRIEVAL) - 0.01 for one in told)
    assert 0.95 <= inside / whole <= 1.05
    rows = await stages(client)
    assert rows["embed"]["requests"] >= len(told)
    assert rows["embed"]["total_ms"] >= parts["embed_ms"] - 1


async def test_a_plain_chat_passes_no_stage(client: httpx.AsyncClient) -> None:
    before = (await stages(client))["embed"]["requests"]
    timings = (await chat(client, rvtop={"timings": True}))["usage"]["rvtop"]
    assert timings["retrieve_ms"] is None
    assert "embed_ms" not in timings
    assert (await stages(client))["embed"]["requests"] == before


async def test_questions_at_once_are_embedded_together(client: httpx.AsyncClient) -> None:
    async def batches() -> tuple[int, int]:
        (replica,) = (await stages(client))["embed"]["replicas"]
        return replica["items"], replica["calls"]

    items, calls = await batches()
    body = {"messages": [{"role": "user", "content": QUESTIONS[0]}], "max_tokens": 1, "rag": {"top_k": 1}}
    answers = await asyncio.gather(*(client.post(CHAT, json=body) for _ in range(24)))
    assert {answer.status_code for answer in answers} == {200}
    now_items, now_calls = await batches()
    assert now_items - items == 24
    assert now_calls - calls < 24


async def test_branches_overlap(client: httpx.AsyncClient) -> None:
    ratios, overlaps = [], 0
    for _ in range(10):
        answer = await client.post("/analyze", json={"text": TEXT, "rvtop": {"timings": True}})
        assert answer.status_code == 200, answer.text
        body = answer.json()
        for name in ("sentiment", "topic"):
            assert body[name]["label"] in body[name]["scores"]
            assert sum(body[name]["scores"].values()) == pytest.approx(1.0)
        told = body["usage"]["rvtop"]
        assert told["total_ms"] >= told["branches_ms"] >= max(told["sentiment_ms"], told["topic_ms"]) - 0.01
        ratios.append(told["total_ms"] / (told["sentiment_ms"] + told["topic_ms"]))
        (a, b), (c, d) = told["sentiment_span"], told["topic_span"]
        overlaps += max(a, c) < min(b, d)
    print(f"/analyze: total over the branches' sum {sorted(round(ratio, 3) for ratio in ratios)}")
    assert sorted(ratios)[len(ratios) // 2] < 0.75
    assert overlaps >= 8  # both computed at the same moment
    plain = (await client.post("/analyze", json={"text": "good", "labels": {"topic": ["a", "b"]}})).json()
    assert set(plain) == {"sentiment", "topic"}
    assert set(plain["topic"]["scores"]) == {"a", "b"}
    for wrong, status in (({"text": ""}, 400), ({"text": "x", "labels": {"topic": ["a"]}}, 400)):
        assert (await client.post("/analyze", json=wrong)).status_code == status
    refused = await client.post("/analyze", json={"text": "x"}, headers={"Authorization": "Bearer no"})
    assert refused.status_code == 401


async def test_scaling_the_embedder_touches_no_other_replica(client: httpx.AsyncClient) -> None:
    before = actors(await stages(client))
    body = {"messages": messages(), "max_tokens": 1500, "ignore_eos": True}
    running = asyncio.create_task(client.post(CHAT, json=body))
    answer = await client.post("/rvtop/set", json={"embed.replicas": 2})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["embed.replicas"], answer.json()["llm.replicas"]) == (2, 1)
    async with asyncio.timeout(BACK_LIMIT_S):
        while (await stages(client))["embed"]["ready"] != 2:
            await asyncio.sleep(0.2)
    after = actors(await stages(client))
    assert before["embed"] < after["embed"]
    assert {stage: ids for stage, ids in after.items() if stage != "embed"} == {
        stage: ids for stage, ids in before.items() if stage != "embed"
    }
    assert (await running).json()["usage"]["completion_tokens"] == 1500
    too_many = await client.post("/rvtop/set", json={"embed.replicas": 30})
    assert (too_many.status_code, "room for" in too_many.text) == (400, True)
    unknown = await client.post("/rvtop/set", json={"nope.replicas": 2})
    assert unknown.status_code == 400
    assert (await client.post("/rvtop/set", json={"embed.replicas": 1})).status_code == 200
    async with asyncio.timeout(BACK_LIMIT_S):
        while len(actors(await stages(client))["embed"]) != 1:
            await asyncio.sleep(0.2)


async def test_an_llm_replica_that_is_retired_ends_its_answers(client: httpx.AsyncClient) -> None:
    """Serve knows of none of its requests: they come by its own port."""
    (first,) = actors(await stages(client))["llm"]
    await client.post("/rvtop/set", json={"llm.replicas": 2})
    async with asyncio.timeout(BACK_LIMIT_S):
        while (await stages(client))["llm"]["ready"] != 2:
            await asyncio.sleep(0.2)
    await asyncio.sleep(2.0)  # the head has told the router
    body = {"messages": messages(), "max_tokens": 1800, "ignore_eos": True}
    running = [asyncio.create_task(client.post(CHAT, json=body)) for _ in range(4)]
    async with asyncio.timeout(BACK_LIMIT_S):
        while not all(row.get("running") for row in (await stages(client))["llm"]["replicas"]):
            await asyncio.sleep(0.02)
    await client.post("/rvtop/set", json={"llm.replicas": 1})
    statuses = []
    while not all(task.done() for task in running):
        answer = await client.post(CHAT, json={"messages": messages("hi"), "max_tokens": 1})
        statuses.append(answer.status_code)
        await asyncio.sleep(0.2)
    assert [task.result().json()["usage"]["completion_tokens"] for task in running] == [1800] * 4
    assert set(statuses) == {200}
    async with asyncio.timeout(BACK_LIMIT_S):
        while len(actors(await stages(client))["llm"]) != 1:
            await asyncio.sleep(0.2)
    assert first


@pytest.mark.parametrize("stage", ["embed", "llm"])
async def test_a_killed_replica_comes_back(client: httpx.AsyncClient, stage: str) -> None:
    (before,) = (await stages(client))[stage]["replicas"]
    os.kill(before["pid"], signal.SIGKILL)
    async with asyncio.timeout(BACK_LIMIT_S):
        while (await client.get("/health")).status_code != 503:
            await asyncio.sleep(0.05)
        body = {"messages": messages(), "max_tokens": 2, "rag": {"top_k": 1}}
        gone = time.monotonic()
        while (answer := await client.post(CHAT, json=body)).status_code != 200:
            assert answer.status_code in (502, 503), answer.text
            assert "error" in answer.json()
            await asyncio.sleep(0.5)
        while (await client.get("/health")).status_code != 200:
            await asyncio.sleep(0.2)
    print(f"{stage}: answers again after {time.monotonic() - gone:.1f} s")
    (after,) = (await stages(client))[stage]["replicas"]
    assert after["actor"] != before["actor"]


async def test_a_killed_parent_leaves_nothing(client: httpx.AsyncClient, graph: BackendProcess) -> None:
    body = {"messages": messages(), "max_tokens": 1500, "ignore_eos": True, "rag": {"top_k": 1}}
    load = [asyncio.create_task(client.post(CHAT, json=body)) for _ in range(4)]
    load += [asyncio.create_task(client.post("/analyze", json={"text": TEXT})) for _ in range(4)]
    await asyncio.sleep(0.5)
    everything = processes.family(graph.pid)
    paths = processes.folders(everything)
    assert KEY not in graph.log.read_text()
    graph.process.kill()
    processes.wait_until_gone(everything, paths, ORPHAN_LIMIT_S)
    await asyncio.gather(*load, return_exceptions=True)


async def test_a_profile_splits_what_there_is(tiny_model: Path, tmp_path: Path) -> None:
    """The plan and its reasons are told, and the replicas are there."""
    process = BackendProcess(
        *("graph", "--lease", "--model", f"tiny={tiny_model}", "--dtype", "float32", "--threads", "1"),
        *("--no-analyze", "--reranker", "none", "--auto", "5"),
        log=tmp_path / "auto.log",
    )
    try:
        async with httpx.AsyncClient(base_url=process.url, timeout=60, trust_env=False) as client:
            facts = (await client.get("/rvtop/topology")).json()
            told = {row["model"]: row for row in facts["placement"]["models"]}
            rows = await stages(client)
            assert {stage: row["wanted"] for stage, row in rows.items()} == {
                stage: row["replicas"] for stage, row in told.items()
            }
            assert all(row["ready"] == row["wanted"] for row in rows.values())
            assert told["llm"]["replicas"] >= max(told["embed"]["replicas"], told["search"]["replicas"])
            assert await chat(client, rag={"top_k": 1})
        steps = [event for event in process.events if event["event"] == "step" and event["state"] == "done"]
        plan = [f"{step['name']}: {step['detail']}" for step in steps if step["name"].startswith("plan ")]
        print("\n".join(plan))
        assert len(plan) == len(told)
        assert all("ms of computing a request" in line for line in plan)
    finally:
        everything = processes.family(process.pid)
        process.end_lease()
        assert process.wait() == 0
        processes.wait_until_gone(everything, set(), ORPHAN_LIMIT_S)
