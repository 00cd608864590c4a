"""Answers: the bytes have vLLM's and OpenAI's shape, streamed and whole answers say the same."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from backends.api.request import Call, parse_call
from backends.api.response import Answer, collect, sse
from backends.engines.protocol import Delta, Finish
from backends.errors import internal

PROMPT = (1, 2, 3)
DELTAS = [Delta("안", (7,)), Delta("", (8,)), Delta('녕 "x"\n', (9, 10), Finish("length"))]


def call_of(endpoint: Any = "chat", **fields: Any) -> Call:
    body = {"messages": [{"role": "user", "content": "q"}], "prompt": "q", **fields}
    return parse_call(endpoint, json.dumps(body).encode())


def answer_of(call: Call) -> Answer:
    return Answer(call, "id-1", 1700000000, "m", PROMPT)


async def replay(deltas: Iterable[Delta], error: Exception | None = None) -> AsyncGenerator[Delta, None]:
    for delta in deltas:
        yield delta
    if error is not None:
        raise error


async def events_of(
    call: Call, deltas: Iterable[Delta] = DELTAS, error: Exception | None = None
) -> list[Any]:
    """Decoded events, ``[DONE]`` as a string."""
    raw = b"".join([chunk async for chunk in sse(answer_of(call), replay(deltas, error))])
    assert raw.endswith(b"\n\n")
    events = raw.removesuffix(b"\n\n").split(b"\n\n")
    assert all(event.startswith(b"data: ") for event in events)
    return [
        "[DONE]" if event == b"data: [DONE]" else json.loads(event.removeprefix(b"data: "))
        for event in events
    ]


async def test_chat_stream_is_vllms_shape() -> None:
    head = {"id": "id-1", "object": "chat.completion.chunk", "created": 1700000000, "model": "m"}
    usage = {"prompt_tokens": 3, "total_tokens": 7, "completion_tokens": 4}
    assert await events_of(call_of(stream=True, stream_options={"include_usage": True})) == [
        {
            **head,
            "choices": [
                {
                    "index": 0,
                    "delta": {"role": "assistant", "content": ""},
                    "logprobs": None,
                    "finish_reason": None,
                }
            ],
        },
        *(
            {
                **head,
                "choices": [
                    {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
                ],
            }
            for text in ("안", "")
        ),
        {
            **head,
            "choices": [
                {
                    "index": 0,
                    "delta": {"content": '녕 "x"\n'},
                    "logprobs": None,
                    "finish_reason": "length",
                    "stop_reason": None,
                }
            ],
        },
        {**head, "choices": [], "usage": usage},
        "[DONE]",
    ]


async def test_completion_stream_is_vllms_shape() -> None:
    events = await events_of(call_of("completions", stream=True))
    head = {"id": "id-1", "object": "text_completion", "created": 1700000000, "model": "m"}
    assert [event["choices"][0]["text"] for event in events[:-1]] == ["안", "", '녕 "x"\n']
    assert events[0] == {
        **head,
        "choices": [{"index": 0, "text": "안", "logprobs": None, "finish_reason": None, "stop_reason": None}],
    }
    assert events[-1] == "[DONE]"
    assert not any("usage" in event for event in events[:-1])


async def test_continuous_usage_counts_up() -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    events = await events_of(call_of(stream=True, stream_options=options))
    assert [event["usage"]["completion_tokens"] for event in events[:-1]] == [0, 1, 2, 4, 4]


async def test_token_ids_on_request() -> None:
    events = await events_of(call_of(stream=True, return_token_ids=True))
    assert events[0]["prompt_token_ids"] == [1, 2, 3]
    assert [event["choices"][0]["token_ids"] for event in events[1:-1]] == [[7], [8], [9, 10]]


async def test_role_and_first_text_leave_together() -> None:
    stream = sse(answer_of(call_of(stream=True)), replay(DELTAS))
    first = await anext(stream)
    assert first.count(b"data: ") == 2
    await stream.aclose()


async def test_timings_ride_on_usage_even_without_include_usage() -> None:
    answer = answer_of(call_of(stream=True, rvtop={"timings": True}))
    answer.rvtop = {"engine": "hf-0", "queue_ms": 1.5}
    raw = b"".join([chunk async for chunk in sse(answer, replay(DELTAS))])
    usage = json.loads(raw.split(b"\n\n")[-3].removeprefix(b"data: "))["usage"]
    assert usage["rvtop"] == {"engine": "hf-0", "queue_ms": 1.5}


async def test_a_failure_in_the_stream_is_an_error_event() -> None:
    events = await events_of(call_of(stream=True), DELTAS[:1], internal("boom"))
    assert events[-2] == {
        "error": {"message": "boom", "type": "InternalServerError", "param": None, "code": 500}
    }
    assert events[-1] == "[DONE]"


async def test_closing_the_stream_closes_the_generation() -> None:
    closed = []

    async def deltas() -> AsyncGenerator[Delta, None]:
        try:
            while True:
                yield Delta("x", (1,))
        finally:
            closed.append(True)

    stream = sse(answer_of(call_of(stream=True)), deltas())
    await anext(stream)
    await stream.aclose()
    assert closed


async def test_whole_answer() -> None:
    body = json.loads(await collect(answer_of(call_of()), replay(DELTAS)))
    assert body["object"] == "chat.completion"
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": '안녕 "x"\n', "refusal": None},
            "logprobs": None,
            "finish_reason": "length",
            "stop_reason": None,
        }
    ]
    assert body["usage"] == {"prompt_tokens": 3, "total_tokens": 7, "completion_tokens": 4}


async def test_cached_tokens_are_told_when_known() -> None:
    deltas = [Delta("x", (1,), Finish("stop", None, None, cached_tokens=2))]
    body = json.loads(await collect(answer_of(call_of("completions")), replay(deltas)))
    assert body["usage"]["prompt_tokens_details"] == {"cached_tokens": 2}


@given(st.lists(st.tuples(st.text(), st.lists(st.integers(0, 999), max_size=3)), min_size=1, max_size=8))
async def test_streamed_and_whole_answers_agree(pieces: list[tuple[str, list[int]]]) -> None:
    deltas = [Delta(text, tuple(ids)) for text, ids in pieces[:-1]]
    deltas.append(Delta(pieces[-1][0], tuple(pieces[-1][1]), Finish("stop", "시")))
    for endpoint in ("chat", "completions"):
        whole = json.loads(await collect(answer_of(call_of(endpoint)), replay(deltas)))
        events = await events_of(
            call_of(endpoint, stream=True, stream_options={"include_usage": True}), deltas
        )
        choices = [event["choices"][0] for event in events[:-2]]
        text = "".join(
            choice["delta"]["content"] if endpoint == "chat" else choice["text"] for choice in choices
        )
        choice = whole["choices"][0]
        assert text == (choice["message"]["content"] if endpoint == "chat" else choice["text"])
        assert choices[-1]["finish_reason"] == choice["finish_reason"] == "stop"
        assert choices[-1]["stop_reason"] == choice["stop_reason"] == "시"
        assert events[-2]["usage"] == whole["usage"]
