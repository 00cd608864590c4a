"""Conformance: errors, full queues, clients that go away, and metrics that tell the truth about it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.backends.conformance import (
    CHAT,
    MAX_QUEUE,
    QUESTIONS,
    TEXT,
    TOOL,
    chat,
    chat_stream,
    drop,
    idle,
    messages,
    occupy,
    samples,
)
from tests.deferred import Deferred

if TYPE_CHECKING:
    from openai import AsyncOpenAI

openai = Deferred("openai")

# -- errors --------------------------------------------------------------------------------------------------

BAD = [
    (CHAT, {"model": "nope"}, 404, "model", "does not exist"),
    (CHAT, {"max_tokens": 10**6}, 400, "max_tokens", "max_model_len"),
    (CHAT, {"messages": messages("휴가 " * 20_000)}, 400, "input_tokens", "maximum context length"),
    (CHAT, {"messages": []}, 400, "messages", "at least one message"),
    (CHAT, {"messages": None}, 400, "messages", "required"),
    (CHAT, {"temperature": -1}, 400, "temperature", "non-negative"),
    (CHAT, {"top_p": 2}, 400, "top_p", "(0, 1]"),
    (CHAT, {"max_tokens": 0}, 400, "max_tokens", "at least 1"),
    (CHAT, {"n": 3, "temperature": 0}, 400, "n", "n must be 1"),
    (CHAT, {"logprobs": True, "top_logprobs": 21}, 400, "logprobs", "max allowed: 20"),
    (CHAT, {"top_logprobs": 2}, 400, "top_logprobs", "must be set to true"),
    (CHAT, {"tools": [TOOL]}, 400, "tools", "topology rvc takes them"),
    (CHAT, {"min_p": 0.1}, 400, "min_p", "vllm and rsv take it"),
    (CHAT, {"rag": {"top_k": 0}}, 400, "rag.top_k", "at least 1"),
    (TEXT, {"rag": {"top_k": 4}}, 400, "rag", "/v1/chat/completions"),
    (CHAT, {"stream_options": {"include_usage": True}}, 400, "stream_options", "stream=True"),
    (TEXT, {"prompt": None}, 400, "prompt", "non-empty"),
    (TEXT, {"prompt": [10**7]}, 400, "prompt", "out of vocabulary"),
    (TEXT, {"prompt": ["a", 5]}, 400, "prompt", "list of those"),
    ("/tokenize", {"prompt": None}, 400, "prompt", "must be given"),
    ("/detokenize", {"tokens": [10**7]}, 400, "tokens", "out of vocabulary"),
    ("/v1/embeddings", {"input": []}, 400, "input", "a list of texts"),
]


@pytest.mark.parametrize(("path", "fields", "status", "param", "words"), BAD)
async def test_bad_requests(
    client: httpx.AsyncClient, path: str, fields: dict[str, Any], status: int, param: str, words: str
) -> None:
    body = {"model": "tiny", **({"messages": messages()} if path == CHAT else {"prompt": "x"}), **fields}
    for extra in ({}, {"stream": True}) if path in (CHAT, TEXT) else ({},):
        if extra and "stream_options" in fields:
            continue
        answer = await client.post(path, json={**body, **extra})
        assert answer.status_code == status, answer.text
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert (error["code"], error["param"]) == (status, param)
        assert words in error["message"]


async def test_what_is_no_request_at_all(client: httpx.AsyncClient) -> None:
    broken = await client.post(CHAT, content=b"{oops", headers={"content-type": "application/json"})
    assert broken.status_code == 400
    assert broken.json()["error"]["type"] == "BadRequestError"
    assert (await client.get("/v1/nothing")).status_code == 404
    assert (await client.get(CHAT)).status_code == 405


# -- load ----------------------------------------------------------------------------------------------------


async def test_a_full_queue_is_429(client: httpx.AsyncClient, ai: AsyncOpenAI) -> None:
    tasks = await occupy(client, 1 + MAX_QUEUE)
    now = await samples(client)
    assert now["num_requests_waiting"] == MAX_QUEUE
    refused = await client.post(CHAT, json={"messages": messages()})
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    error = refused.json()["error"]
    assert (error["code"], error["param"]) == (429, None)
    with pytest.raises(openai.RateLimitError):
        await ai.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "q"}])
    assert (await client.get("/health")).status_code == 200  # busy is not broken
    await drop(client, tasks)
    assert (await chat(client))["usage"]["completion_tokens"] > 0


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_that_goes_away_frees_the_engine(client: httpx.AsyncClient, streamed: bool) -> None:
    await idle(client)
    before = await samples(client)
    body = {"messages": messages(), "max_tokens": 900, "ignore_eos": True, "stream": streamed}
    if streamed:
        async with client.stream("POST", CHAT, json=body) as response:
            lines = response.aiter_lines()
            await anext(lines)
            await runs(client)
    else:
        task = asyncio.create_task(client.post(CHAT, json=body))
        await runs(client)
        task.cancel()
    await idle(client)
    after = await samples(client)
    assert after["generation_tokens_total"] - before["generation_tokens_total"] < 900  # it did not go on


async def runs(client: httpx.AsyncClient) -> None:
    """Waits until a request is being answered."""
    async with asyncio.timeout(120):
        while (await samples(client))["num_requests_running"] == 0:
            await asyncio.sleep(0.005)


async def test_metrics_grow_by_the_usage(client: httpx.AsyncClient) -> None:
    await idle(client)
    before = await samples(client)
    prompt = completion = 0
    answers = [await chat(client, question, max_tokens=20) for question in QUESTIONS]
    usages = [answer["usage"] for answer in answers]
    usages += [(await chat_stream(client, question, max_tokens=9))[-1]["usage"] for question in QUESTIONS]
    for usage in usages:
        prompt += usage["prompt_tokens"]
        completion += usage["completion_tokens"]
    async with asyncio.timeout(120):
        while (after := await samples(client))["request_success_total"] < before.get(
            "request_success_total", 0.0
        ) + len(usages):
            await asyncio.sleep(0.02)

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    assert grown("prompt_tokens_total") == prompt
    assert grown("generation_tokens_total") == completion
    assert grown("request_success_total") == len(usages)
    assert grown("time_to_first_token_seconds_count") == len(usages)
    assert grown("e2e_request_latency_seconds_count") == len(usages)
    assert grown("request_queue_time_seconds_count") == len(usages)
    assert grown("inter_token_latency_seconds_count") == completion - len(usages)


async def test_kv_cache_shows_while_it_is_held(client: httpx.AsyncClient) -> None:
    tasks = await occupy(client, 1)
    async with asyncio.timeout(120):
        while not 0 < (await samples(client))["kv_cache_usage_perc"] <= 1:
            await asyncio.sleep(0.005)
    await drop(client, tasks)
    async with asyncio.timeout(120):
        while (await samples(client))["kv_cache_usage_perc"]:
            await asyncio.sleep(0.02)


async def test_requests_side_by_side_do_not_mix(client: httpx.AsyncClient) -> None:
    alone = [await chat(client, question) for question in QUESTIONS]
    together = await asyncio.gather(*(chat(client, question) for question in QUESTIONS))
    assert [a["choices"] for a in together] == [a["choices"] for a in alone]
