"""Answers: the bytes have vLLM's and OpenAI's shape, streamed and whole answers say the same."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from backends.api.request import Call, parse_call
from backends.api.response import Answer, Choice, Part, collect, sse
from backends.engines.protocol import Delta, Finish
from backends.errors import internal

PROMPT = (1, 2, 3)
DELTAS = [Delta("안", (7,)), Delta("", (8,)), Delta('녕 "x"\n', (9, 10), Finish("length"))]


def call_of(endpoint: Any = "chat", **fields: Any) -> Call:
    body = {"messages": [{"role": "user", "content": "q"}], "prompt": "q", **fields}
    return parse_call(endpoint, json.dumps(body).encode())


def answer_of(call: Call) -> Answer:
    choices = [Choice(index, PROMPT) for index in range(call.generations)]
    return Answer(call, "id-1", 1700000000, "m", choices)


async def replay(
    deltas: Iterable[Delta], error: Exception | None = None, choices: int = 1
) -> AsyncGenerator[Part, None]:
    """Each delta for every choice in turn."""
    for delta in deltas:
        for index in range(choices):
            yield index, delta
    if error is not None:
        raise error


async def events_of(
    call: Call, deltas: Iterable[Delta] = DELTAS, error: Exception | None = None
) -> list[Any]:
    """Decoded events, ``[DONE]`` as a string."""
    parts = replay(deltas, error, call.generations)
    raw = b"".join([chunk async for chunk in sse(answer_of(call), parts)])
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

    async def deltas() -> AsyncGenerator[Part, None]:
        try:
            while True:
                yield 0, Delta("x", (1,))
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


async def test_choices_have_their_index_and_one_usage() -> None:
    usage = {"prompt_tokens": 3, "total_tokens": 11, "completion_tokens": 8}
    events = await events_of(call_of(n=2, stream=True, stream_options={"include_usage": True}))
    firsts, texts = events[:2], events[2:-2]
    assert [event["choices"][0]["index"] for event in firsts] == [0, 1]
    assert all(event["choices"][0]["delta"]["role"] == "assistant" for event in firsts)
    for index in (0, 1):
        own = [event["choices"][0] for event in texts if event["choices"][0]["index"] == index]
        assert "".join(choice["delta"]["content"] for choice in own) == '안녕 "x"\n'
        assert [choice["finish_reason"] for choice in own] == [None, None, "length"]
    assert events[-2] == {**events[-2], "choices": [], "usage": usage}
    body = json.loads(await collect(answer_of(call_of(n=2)), replay(DELTAS, choices=2)))
    assert [choice["index"] for choice in body["choices"]] == [0, 1]
    assert body["usage"] == usage


async def test_each_prompt_is_counted_once() -> None:
    call = call_of("completions", prompt=["a", "b"], n=2)
    body = json.loads(await collect(answer_of(call), replay(DELTAS, choices=4)))
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2, 3]
    assert body["usage"] == {"prompt_tokens": 6, "total_tokens": 22, "completion_tokens": 16}


LOGPROBS = [
    Delta("안", (7,), None, ((("안", -0.5), ("x", -1.0)),)),
    Delta("a", (8,), Finish("stop"), ((("a", float("-inf")), ("b", -0.25), ("c", -2.0)),)),
]


async def test_logprobs_of_chat() -> None:
    body = json.loads(await collect(answer_of(call_of(logprobs=True, top_logprobs=2)), replay(LOGPROBS)))
    first, second = body["choices"][0]["logprobs"]["content"]
    assert first == {
        "token": "안",
        "logprob": -0.5,
        "bytes": list("안".encode()),
        "top_logprobs": [
            {"token": "안", "logprob": -0.5, "bytes": list("안".encode())},
            {"token": "x", "logprob": -1.0, "bytes": [120]},
        ],
    }
    assert second["logprob"] == -9999.0
    assert [top["token"] for top in second["top_logprobs"]] == ["a", "b"]
    events = await events_of(call_of(logprobs=True, top_logprobs=2, stream=True), LOGPROBS)
    streamed = [event["choices"][0]["logprobs"]["content"] for event in events[1:-1]]
    assert streamed == [[first], [second]]


async def test_logprobs_of_completions() -> None:
    call = call_of("completions", logprobs=1)
    whole = json.loads(await collect(answer_of(call), replay(LOGPROBS)))["choices"][0]["logprobs"]
    assert whole == {
        "text_offset": [0, 1],
        "token_logprobs": [-0.5, -9999.0],
        "tokens": ["안", "a"],
        "top_logprobs": [{"안": -0.5, "x": -1.0}, {"a": -9999.0, "b": -0.25}],
    }
    events = await events_of(call_of("completions", logprobs=1, stream=True), LOGPROBS)
    streamed = [event["choices"][0]["logprobs"] for event in events[:-1]]
    assert {key: [item for part in streamed for item in part[key]] for key in whole} == whole


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
