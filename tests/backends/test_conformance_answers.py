"""Conformance: what every topology answers, driven over HTTP by httpx and by the `openai` package.

The backend is the real process with the tiny model: one generation at a time, a queue of four.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.backends.backend_process import BackendProcess
from tests.backends.conformance import (
    CHAT,
    QUESTIONS,
    TEXT,
    TOOL,
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


async def test_the_prefix_cache_is_reset_where_there_is_one(
    client: httpx.AsyncClient, backend: BackendProcess
) -> None:
    """Of vLLM's own server only where it was started in its development mode."""
    has_one = backend.wait_for("ready")["topology"] == "rvc"
    text = "The same words again and again. " * 12
    if has_one:
        for _ in range(2):
            cached = (await chat(client, text))["usage"]["prompt_tokens_details"]["cached_tokens"]
        assert cached > 0
    answer = await client.post("/reset_prefix_cache")
    if not has_one:
        assert answer.status_code == 404
        assert answer.json()["error"]["message"].startswith("No engine here has a prefix cache")
        return
    assert (answer.status_code, answer.json()) == (200, {"success": True})
    again = (await chat(client, text))["usage"]["prompt_tokens_details"] or {}
    assert not again.get("cached_tokens")


async def test_a_profiler_that_was_not_asked_for_is_not_there(client: httpx.AsyncClient) -> None:
    for path in ("/start_profile", "/stop_profile"):
        answer = await client.post(path)
        assert answer.status_code == 404
        assert "profiler" in answer.json()["error"]["message"]


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


async def test_choices(client: httpx.AsyncClient) -> None:
    """``n`` answers to each prompt of a list: those that each would get alone with the seeds that follow."""
    asked: dict[str, Any] = {"max_tokens": 12, "ignore_eos": True, "temperature": 1.0}
    alone = [
        (await post(client, TEXT, prompt=prompt, seed=seed, **asked))["choices"][0]["text"]
        for prompt in (ENCODED, "휴가는")
        for seed in (5, 6)
    ]
    assert len(set(alone)) == 4
    several = {"prompt": [ENCODED, "휴가는"], "n": 2, "seed": 5, **asked}
    whole = await post(client, TEXT, **several)
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2, 3]
    assert [choice["text"] for choice in whole["choices"]] == alone
    assert whole["usage"]["completion_tokens"] == 4 * 12
    events = await stream(client, TEXT, **several)
    pieces = [event["choices"][0] for event in events[:-1]]
    for index, text in enumerate(alone):
        own = [piece for piece in pieces if piece["index"] == index]
        assert "".join(piece["text"] for piece in own) == text
        assert own[-1]["finish_reason"] == "length"
    usage = events[-1]["usage"]
    assert all(usage[key] == whole["usage"][key] for key in ("prompt_tokens", "completion_tokens"))


async def test_logprobs(client: httpx.AsyncClient) -> None:
    asked: dict[str, Any] = {"logprobs": True, "top_logprobs": 3, "max_tokens": 8}
    whole = await chat(client, **asked, return_token_ids=True)
    choice = whole["choices"][0]
    told = choice["logprobs"]["content"]
    streamed = [
        token
        for event in (await chat_stream(client, **asked))[1:-1]
        for token in (event["choices"][0]["logprobs"] or {}).get("content", ())
    ]
    assert [token["token"] for token in streamed] == [token["token"] for token in told]
    assert "".join(token["token"] for token in told).startswith(choice["message"]["content"])
    for token, again in zip(told, streamed, strict=True):
        assert token["logprob"] == pytest.approx(again["logprob"], abs=1e-3)
        values = [top["logprob"] for top in token["top_logprobs"]]
        assert token["top_logprobs"][0]["token"] == token["token"]  # greedy
        assert values == sorted(values, reverse=True)
        assert (len(values), values[0]) == (3, token["logprob"])
        assert values[0] <= 0
    prompt = whole["prompt_token_ids"]
    text = await post(client, TEXT, prompt=prompt, temperature=0, max_tokens=8, logprobs=2)
    lists = text["choices"][0]["logprobs"]
    assert lists["tokens"] == [token["token"] for token in told]
    assert lists["token_logprobs"] == pytest.approx([token["logprob"] for token in told], abs=1e-3)
    assert lists["text_offset"][0] == 0
    for token, value, top in zip(
        *(lists[key] for key in ("tokens", "token_logprobs", "top_logprobs")), strict=True
    ):
        assert top[token] == value == max(top.values())


async def test_tokens_and_back(client: httpx.AsyncClient, reference: Reference) -> None:
    counted = await post(client, "/tokenize", messages=messages())
    assert counted["tokens"] == list(reference.answers[0].prompt)
    assert counted["count"] == len(counted["tokens"])
    card = (await client.get("/v1/models")).json()["data"][0]
    assert counted["max_model_len"] == card["max_model_len"]
    plain = await post(client, "/tokenize", prompt=ENCODED, return_token_strs=True)
    assert plain["tokens"] == reference.encoded
    assert len(plain["token_strs"]) == plain["count"]
    assert (await post(client, "/detokenize", tokens=plain["tokens"]))["prompt"] == ENCODED


async def test_embeddings(ai: AsyncOpenAI) -> None:
    """The embedder of the index, whose vectors have length 1. (The package asks for base64.)"""
    texts = [QUESTIONS[0], QUESTIONS[1]]
    answer = await ai.embeddings.create(model="tiny", input=texts)
    first, second = (entry.embedding for entry in answer.data)
    assert sum(x * x for x in first) == pytest.approx(1, abs=1e-4)
    assert first != second
    assert answer.usage.prompt_tokens > 0
    alone = await ai.embeddings.create(model="tiny", input=texts[1], encoding_format="float")
    assert alone.data[0].embedding == pytest.approx(second, abs=1e-5)


async def test_tools(client: httpx.AsyncClient) -> None:
    """A tool that has to be called is: what the model says is bound to the tool's schema."""
    named = {"type": "function", "function": {"name": "days_off"}}
    for choice, reason in (("required", "tool_calls"), (named, "stop")):
        # Hot, for a small model may go on with spaces, which the schema allows, until its tokens are spent.
        asked: dict[str, Any] = {"temperature": 2.0, "seed": 1, "max_tokens": 400}
        asked |= {"tools": [TOOL], "tool_choice": choice}
        whole = (await chat(client, **asked))["choices"][0]
        (call,) = whole["message"]["tool_calls"]
        assert call["function"]["name"] == "days_off"
        assert json.loads(call["function"]["arguments"])["year"] in (2024, 2025)
        assert whole["finish_reason"] == reason
        deltas = [event["choices"][0] for event in (await chat_stream(client, **asked))[1:-1]]
        parts = [part["function"] for d in deltas for part in d["delta"].get("tool_calls") or ()]
        assert [part["name"] for part in parts if part.get("name")] == ["days_off"]
        arguments = "".join(part.get("arguments") or "" for part in parts)
        assert json.loads(arguments) == json.loads(call["function"]["arguments"])
        assert deltas[-1]["finish_reason"] == reason
    spoken = (await chat(client, tools=[TOOL], tool_choice="none"))["choices"][0]["message"]
    assert spoken["content"]
    assert not spoken.get("tool_calls")


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
        await ask(model="tiny", messages=[{"role": "user", "content": "q"}], n=2, temperature=0)
    assert "n must be 1" in bad.value.message
