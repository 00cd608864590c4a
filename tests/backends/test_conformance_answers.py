"""Conformance: what every topology answers, driven over HTTP by httpx and by the `openai` package.

The backend is the real process with the tiny model: one generation at a time, a queue of four.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.backends.backend_process import BackendProcess
from tests.backends.conformance import (
    CHAT,
    QUESTIONS,
    TEXT,
    chat,
    chat_stream,
    messages,
    post,
    stream,
    streamed_text,
)
from tests.backends.reference import ENCODED, TOKENS, TOP_K, Reference
from tests.deferred import Deferred

if TYPE_CHECKING:
    from openai import AsyncOpenAI

openai = Deferred("openai")
tokenizers = Deferred("tokenizers")

# The first may have to wait for what all of them need, which is made once: the local model, its reference.
pytestmark = pytest.mark.timeout(900)

# -- what it is ----------------------------------------------------------------------------------------------


async def test_models_health_topology(client: httpx.AsyncClient, backend: BackendProcess) -> None:
    models = (await client.get("/v1/models")).json()
    assert models["object"] == "list"
    (card,) = models["data"]
    assert (card["id"], card["object"]) == ("tiny", "model")
    assert card["max_model_len"] > 0
    assert (await client.get("/health")).status_code == 200
    topology = (await client.get("/rvtop/topology")).json()
    ready = backend.wait_for("ready")
    assert topology["topology"] == ready["topology"]
    assert topology["pid"] == ready["pid"]
    assert ready["models"] == topology["models"] == ["tiny"]
    for engine in topology["engines"]:
        assert engine["model"] == "tiny"
        assert engine["state"] == "ready"
        assert engine["node"]
        assert engine["devices"]
        assert engine["pid"] > 0


async def test_start_shows_its_steps(backend: BackendProcess) -> None:
    done = [
        event["name"] for event in backend.events if event["event"] == "step" and event["state"] == "done"
    ]
    assert {"model", "weights", "warm-up", "http"} <= set(done)


# -- answers -------------------------------------------------------------------------------------------------


async def test_streamed_and_whole_answers_are_the_same(client: httpx.AsyncClient) -> None:
    for question in QUESTIONS:
        whole = await chat(client, question, max_tokens=24)
        events = await chat_stream(client, question, max_tokens=24)
        choice = whole["choices"][0]
        assert streamed_text(events) == choice["message"]["content"] != ""
        assert choice["message"]["role"] == "assistant"
        assert events[-1]["choices"] == []
        assert events[-1]["usage"] == whole["usage"]
        assert events[-2]["choices"][0]["finish_reason"] == choice["finish_reason"]
    body = {"prompt": "휴가는", "temperature": 0, "max_tokens": 24}
    whole, events = await post(client, TEXT, **body), await stream(client, TEXT, **body)
    assert streamed_text(events) == whole["choices"][0]["text"]
    assert events[-1]["usage"] == whole["usage"]


async def test_the_stream_begins_with_the_role(client: httpx.AsyncClient) -> None:
    first, *rest = await chat_stream(client)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert all("role" not in event["choices"][0]["delta"] for event in rest[:-1])
    assert len({event["id"] for event in (first, *rest)}) == 1
    assert {event["object"] for event in (first, *rest)} == {"chat.completion.chunk"}


async def test_usage_is_only_there_when_asked_for(client: httpx.AsyncClient) -> None:
    events = await chat_stream(client, stream_options=None)
    assert not any(event.get("usage") for event in events)


async def test_usage_counts_tokens(client: httpx.AsyncClient, reference: Reference) -> None:
    whole = await chat(client, max_tokens=7, ignore_eos=True, return_token_ids=True)
    prompt = reference.answers[0].prompt
    assert whole["prompt_token_ids"] == list(prompt)
    assert whole["usage"]["prompt_tokens"] == len(prompt)
    assert whole["usage"]["completion_tokens"] == len(whole["choices"][0]["token_ids"]) == 7
    assert whole["usage"]["total_tokens"] == len(prompt) + 7
    counts = [
        event["usage"]["completion_tokens"]
        for event in await chat_stream(
            client,
            max_tokens=7,
            ignore_eos=True,
            stream_options={"include_usage": True, "continuous_usage_stats": True},
        )
    ]
    assert counts == sorted(counts)
    assert counts[-1] == 7


async def test_a_prompt_may_be_token_ids(client: httpx.AsyncClient, reference: Reference) -> None:
    by_text = await post(client, TEXT, prompt=ENCODED, temperature=0)
    by_ids = await post(client, TEXT, prompt=reference.encoded, temperature=0)
    assert by_text["choices"][0]["text"] == by_ids["choices"][0]["text"]
    assert by_ids["usage"] == by_text["usage"]
    assert by_ids["usage"]["completion_tokens"] <= 16  # the default of this endpoint


async def test_greedy_is_what_transformers_generates(client: httpx.AsyncClient, reference: Reference) -> None:
    for question, wanted in zip(QUESTIONS, reference.answers, strict=True):
        got = await chat(client, question, max_tokens=TOKENS, ignore_eos=True, return_token_ids=True)
        assert got["prompt_token_ids"] == list(wanted.prompt)
        assert got["choices"][0]["token_ids"] == list(wanted.answer)


async def test_seeds_repeat(client: httpx.AsyncClient) -> None:
    def text(answer: dict[str, Any]) -> str:
        return str(answer["choices"][0]["message"]["content"])

    drawn = {"temperature": 1.0, "top_p": 0.95, "ignore_eos": True, "max_tokens": 24}
    first = text(await chat(client, seed=11, **drawn))
    assert text(await chat(client, seed=11, **drawn)) == first
    assert streamed_text(await chat_stream(client, seed=11, **drawn)) == first
    assert text(await chat(client, seed=12, **drawn)) != first


async def test_stop_strings_end_the_text(client: httpx.AsyncClient) -> None:
    plain = await chat(client, max_tokens=32, ignore_eos=True)
    whole = plain["choices"][0]["message"]["content"]
    stop = whole[len(whole) // 2 : len(whole) // 2 + 3]
    wanted = whole[: whole.index(stop)]
    answer = await chat(client, max_tokens=32, ignore_eos=True, stop=["\x00never", stop])
    choice = answer["choices"][0]
    assert choice["message"]["content"] == wanted
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", stop)
    assert 0 < answer["usage"]["completion_tokens"] < 32
    events = await chat_stream(client, max_tokens=32, ignore_eos=True, stop=stop)
    assert streamed_text(events) == wanted
    assert events[-1]["usage"] == answer["usage"]


async def test_a_stop_token_is_counted_and_not_shown(client: httpx.AsyncClient) -> None:
    plain = await chat(client, ignore_eos=True, return_token_ids=True)
    ids = plain["choices"][0]["token_ids"]
    end = ids[-1]
    answer = await chat(client, ignore_eos=True, return_token_ids=True, stop_token_ids=[end])
    assert answer["choices"][0]["token_ids"] == ids[: ids.index(end) + 1]
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] == ids.index(end) + 1
    assert plain["choices"][0]["message"]["content"].startswith(answer["choices"][0]["message"]["content"])


@pytest.mark.parametrize("tokens", [1, 2, 33])
async def test_ignore_eos_gives_exactly_max_tokens(client: httpx.AsyncClient, tokens: int) -> None:
    for seed in range(3):
        answer = await chat(client, max_tokens=tokens, ignore_eos=True, temperature=1.0, seed=seed)
        assert answer["usage"]["completion_tokens"] == tokens
        assert answer["choices"][0]["finish_reason"] == "length"


async def test_half_characters_never_appear(client: httpx.AsyncClient, tiny_model: Path) -> None:
    """Sampling at high temperature cuts characters all the time; what is shown is what decoding all shows."""
    tokenizer = tokenizers.Tokenizer.from_file(str(tiny_model / "tokenizer.json"))
    for seed in range(4):
        events = await chat_stream(
            client, temperature=2.0, seed=seed, max_tokens=64, ignore_eos=True, return_token_ids=True
        )
        ids = [token for event in events[1:-1] for token in event["choices"][0]["token_ids"]]
        whole = tokenizer.decode(ids, skip_special_tokens=True)
        assert streamed_text(events) == whole.rstrip("\ufffd")
        assert len(ids) == 64


async def test_timings_on_request(client: httpx.AsyncClient) -> None:
    asked = {"rvtop": {"timings": True}}
    names = {row["engine"] for row in (await client.get("/rvtop/topology")).json()["engines"]}
    whole = (await chat(client, **asked))["usage"]["rvtop"]
    streamed = (await chat_stream(client, stream_options=None, **asked))[-1]["usage"]["rvtop"]
    for timings in (whole, streamed):
        assert timings["engine"] in names
        assert timings["retrieve_ms"] is None
        assert all(timings[key] >= 0 for key in ("queue_ms", "prefill_ms", "decode_ms"))
        assert timings["prefill_ms"] + timings["decode_ms"] > 0
    assert "rvtop" not in (await chat(client))["usage"]


async def test_retrieval_here_is_retrieval_there(client: httpx.AsyncClient, reference: Reference) -> None:
    """A request with ``rag`` is answered as if its client had looked up and put in the context itself."""
    asked = {"temperature": 0, "max_tokens": 16, "return_token_ids": True}
    there = await post(client, CHAT, messages=reference.retrieved, **asked)
    here = await post(
        client,
        CHAT,
        messages=[{"role": "user", "content": QUESTIONS[0]}],
        rag={"top_k": TOP_K},
        rvtop={"timings": True},
        **asked,
    )
    assert here["prompt_token_ids"] == reference.retrieved_prompt
    assert here["usage"]["prompt_tokens"] > 50
    assert here["choices"] == there["choices"]
    assert here["usage"]["rvtop"]["retrieve_ms"] > 0


# -- the openai package --------------------------------------------------------------------------------------


async def test_openai_package(ai: AsyncOpenAI) -> None:
    assert [model.id async for model in await ai.models.list()] == ["tiny"]
    asked: Any = {"model": "tiny", "messages": messages(), "temperature": 0, "max_tokens": 12}
    whole = await ai.chat.completions.create(**asked)
    assert whole.usage is not None
    text, usage, finish = "", None, None
    async for chunk in await ai.chat.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    ):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
    assert text == whole.choices[0].message.content
    assert usage is not None
    assert usage.completion_tokens == whole.usage.completion_tokens
    assert finish == whole.choices[0].finish_reason
    old = await ai.completions.create(model="tiny", prompt="휴가는", max_tokens=5, temperature=0)
    pieces = [
        chunk.choices[0].text
        async for chunk in await ai.completions.create(
            model="tiny", prompt="휴가는", max_tokens=5, temperature=0, stream=True
        )
    ]
    assert "".join(pieces) == old.choices[0].text
    extra = await ai.chat.completions.create(
        **asked, extra_body={"ignore_eos": True, "rvtop": {"timings": True}}
    )
    assert extra.usage is not None
    assert extra.usage.completion_tokens == 12


async def test_openai_package_knows_our_errors(ai: AsyncOpenAI) -> None:
    ask = ai.chat.completions.create
    with pytest.raises(openai.NotFoundError) as missing:
        await ask(model="nope", messages=[{"role": "user", "content": "q"}])
    assert missing.value.param == "model"
    with pytest.raises(openai.BadRequestError) as bad:
        await ask(model="tiny", messages=[{"role": "user", "content": "q"}], n=2)
    assert "n must be 1" in bad.value.message
