"""Conformance: gRPC says what HTTP says, on every topology that has both."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import grpc
import httpx
import pytest

from tests.backends.backend_process import BackendProcess
from tests.backends.conformance import CHAT, QUESTIONS, idle, post, samples
from tests.backends.grpc_client import SERVICE, GrpcClient, chat, connected, pb, reflected, text_of

#: A cancelled call's engine is free within this, of which most is what a busy machine takes.
_FREE_S = 60.0
_LONG = 4000  # tokens: seconds of work on any machine


@pytest.fixture
def place(backend: BackendProcess) -> str:
    return str(backend.wait_for("ready")["grpc"]).removeprefix("grpc://")


@pytest.fixture
async def caller(place: str) -> AsyncIterator[GrpcClient]:
    async with connected(place) as caller:
        yield caller


async def test_grpc_answers_in_the_words_of_http(caller: GrpcClient, client: httpx.AsyncClient) -> None:
    for question in QUESTIONS:
        told = await post(
            client,
            CHAT,
            messages=[{"role": "user", "content": question}],
            temperature=0,
            max_tokens=16,
            ignore_eos=True,
        )
        messages = await caller.generate(chat(question, model="tiny", ignore_eos=True))
        assert text_of(messages) == told["choices"][0]["message"]["content"]
        last = messages[-1]
        assert last.finish_reason == "length" == told["choices"][0]["finish_reason"]
        assert last.usage.prompt_tokens == told["usage"]["prompt_tokens"]
        assert last.usage.completion_tokens == 16 == sum(message.tokens for message in messages)
    # Tokens that are made while a process waits for its turn share a message: here are too many for one.
    messages = await caller.generate(chat("q", max_tokens=400, ignore_eos=True))
    assert sum(message.tokens for message in messages) == 400
    assert len(messages) > 1


async def test_grpc_knows_models_vectors_health_and_itself(
    caller: GrpcClient, client: httpx.AsyncClient, place: str
) -> None:
    async with asyncio.timeout(240):  # replicas may be late to say that they are there
        while await caller.health(SERVICE) != "SERVING":
            await asyncio.sleep(0.1)
    models = await caller.stub.ListModels(pb.ListModelsRequest())
    (card,) = (await client.get("/v1/models")).json()["data"]
    assert [(m.id, m.max_model_len, m.owned_by) for m in models.models] == [
        (card["id"], card["max_model_len"], card["owned_by"])
    ]
    assert models.http_port == client.base_url.port
    told = await post(client, "/v1/embeddings", input=list(QUESTIONS[:2]))
    vectors = await caller.stub.Embed(pb.EmbedRequest(input=QUESTIONS[:2]))
    assert [list(one.values) for one in vectors.embeddings] == [
        pytest.approx(row["embedding"]) for row in told["data"]
    ]
    assert await asyncio.to_thread(reflected, place) == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        SERVICE,
    ]


async def test_grpc_refuses_what_http_refuses(caller: GrpcClient) -> None:
    found = [
        await caller.failure(request)
        for request in (
            chat("q", model="nope"),
            chat("q", max_tokens=10**6),
            pb.GenerateRequest(model="tiny"),
            chat("q", more_json='{"min_p": 0.1}'),
            chat("q", more_json="["),
        )
    ]
    assert [code for code, _ in found] == ["NOT_FOUND", *["INVALID_ARGUMENT"] * 4]
    words = ("does not exist", "max_model_len", "is required", "vllm and rsv take it", "not JSON")
    assert all(word in text for word, (_, text) in zip(words, found, strict=True)), found


@pytest.mark.parametrize("how", ["cancelled", "deadline"])
async def test_grpc_frees_the_engine_of_a_call_that_is_given_up(
    caller: GrpcClient, client: httpx.AsyncClient, how: str
) -> None:
    request = chat("q", max_tokens=_LONG, ignore_eos=True)
    for limit_s in (1.0, 4.0, 16.0):  # the engine has to be at it by then, as late as it may begin
        await idle(client)
        before = await samples(client)
        call = caller.start(request, timeout=limit_s if how == "deadline" else None)
        with contextlib.suppress(grpc.aio.AioRpcError):
            await call.read()
            break
    if how == "cancelled":
        call.cancel()
    else:
        assert (await call.code()).name == "DEADLINE_EXCEEDED"
    began = time.monotonic()
    await idle(client, _FREE_S)
    print(f"free {time.monotonic() - began:.3f} s after the call was {how}")
    after = await samples(client)
    made = after["generation_tokens_total"] - before["generation_tokens_total"]
    assert made < _LONG  # it was not generated to its end
