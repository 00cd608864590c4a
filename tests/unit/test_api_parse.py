"""Request checking: what is taken, what is refused, and in which words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.api.request import UNSUPPORTED, Call, fit_max_tokens, parse_call
from backends.errors import ApiError

MESSAGES = [{"role": "user", "content": "휴가는 며칠?"}]


def chat(**fields: Any) -> Call:
    return parse_call("chat", json.dumps({"messages": MESSAGES, **fields}).encode())


def text(**fields: Any) -> Call:
    return parse_call("completions", json.dumps({"prompt": "hello", **fields}).encode())


def refused(call: Any, **fields: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        call(**fields)
    assert caught.value.status == 400
    assert caught.value.type == "BadRequestError"
    return caught.value


def test_defaults_are_openais() -> None:
    call = chat()
    assert (call.temperature, call.top_p, call.seed, call.stop) == (1.0, 1.0, None, ())
    assert call.max_tokens is None
    assert (call.stream, call.ignore_eos, call.include_usage, call.timings) == (False,) * 4
    assert text().max_tokens == 16


def test_every_field_is_read() -> None:
    call = chat(
        model="m",
        max_completion_tokens=7,
        max_tokens=9,
        temperature=0,
        top_p=0.5,
        seed=-3,
        stop=["a", "b"],
        stop_token_ids=[4],
        ignore_eos=True,
        stream=True,
        stream_options={"include_usage": True, "continuous_usage_stats": True},
        return_token_ids=True,
        rag={"top_k": 3},
        rvtop={"timings": True},
    )
    assert call.messages == ({"role": "user", "content": "휴가는 며칠?"},)
    assert (call.model, call.max_tokens, call.max_tokens_field) == ("m", 7, "max_completion_tokens")
    assert (call.temperature, call.top_p, call.seed) == (0.0, 0.5, -3)
    assert (call.stop, call.stop_token_ids, call.ignore_eos) == (("a", "b"), (4,), True)
    assert (call.stream, call.include_usage, call.continuous_usage) == (True, True, True)
    assert (call.return_token_ids, call.rag_top_k, call.timings) == (True, 3, True)


def test_content_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert chat(messages=[{"role": "user", "content": parts}]).messages[0]["content"] == "a\nb"


def test_prompts() -> None:
    assert text(prompt="x").prompts == ("x",)
    assert text(prompt=["x"]).prompts == ("x",)
    assert text(prompt=[1, 2]).prompts == ((1, 2),)
    assert text(prompt=[[1, 2]]).prompts == ((1, 2),)
    assert text(prompt=["a", "b"]).prompts == ("a", "b")
    assert text(prompt=["a", [3]], n=2).generations == 4


def test_logprobs() -> None:
    assert (chat().logprobs, text().logprobs, text(logprobs=False).logprobs) == (None,) * 3
    assert (chat(logprobs=True).logprobs, chat(logprobs=True, top_logprobs=4).logprobs) == (0, 4)
    assert (text(logprobs=0).logprobs, text(logprobs=3).logprobs) == (0, 3)


def test_tools() -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {}}}
    call = chat(tools=[tool], tool_choice="required")
    assert (call.tools, call.tool_choice) == ((tool,), "required")
    assert chat(tools=[], tool_choice="none").tools == ()


def test_a_refusal_names_the_topologies_that_can() -> None:
    assert "vllm and rsv" in refused(chat, min_p=0.5).message
    assert "vllm" not in refused(text, suffix="x").message


def test_unknown_fields_are_ignored() -> None:
    assert chat(user="u", foo={"bar": 1}, metadata={}) == chat()


@pytest.mark.parametrize("field", sorted(UNSUPPORTED))
def test_unsupported_fields_pass_only_when_they_ask_for_nothing(field: str) -> None:
    for neutral in UNSUPPORTED[field]:
        assert chat(**{field: neutral}) == chat()
    assert refused(chat, **{field: 1.5}).param == field


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"n": 2, "temperature": 0}, "n", "n must be 1 when using greedy"),
        ({"n": 0}, "n", "at least 1"),
        ({"n": 129}, "n", "at most 128"),
        ({"n": 2, "rvtop": {"timings": True}}, "rvtop.timings", "one answer"),
        ({"logprobs": 3}, "logprobs", "true or false"),
        ({"top_logprobs": 3}, "top_logprobs", "`logprobs` must be set"),
        ({"logprobs": True, "top_logprobs": -2}, "top_logprobs", "at least 0"),
        ({"tools": {}, "tool_choice": "auto"}, "tools", "list"),
        ({"tools": [{"function": {}}]}, "tools[0]", "function"),
        ({"tool_choice": "required"}, "tool_choice", "`tools` must be set"),
        ({"messages": None}, "messages", "required"),
        ({"messages": []}, "messages", "at least one message"),
        ({"messages": "hi"}, "messages", "list"),
        ({"messages": [{"content": "x"}]}, "messages[0]", "role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "string"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0]",
            "text only",
        ),
        ({"temperature": -0.1}, "temperature", "non-negative"),
        ({"temperature": 2.5}, "temperature", "[0, 2]"),
        ({"temperature": "hot"}, "temperature", "number"),
        ({"temperature": True}, "temperature", "number"),
        ({"top_p": 0}, "top_p", "(0, 1]"),
        ({"top_p": 1.01}, "top_p", "(0, 1]"),
        ({"max_tokens": 0}, "max_tokens", "at least 1"),
        ({"max_tokens": 1.5}, "max_tokens", "integer"),
        ({"max_tokens": "5"}, "max_tokens", "integer"),
        ({"max_completion_tokens": -1}, "max_completion_tokens", "at least 1"),
        ({"seed": 2**63}, "seed", "at most"),
        ({"seed": "s"}, "seed", "integer"),
        ({"stop": 5}, "stop", "string"),
        ({"stop": [""]}, "stop", "empty"),
        ({"stop": ["x"] * 17}, "stop", "at most 16"),
        ({"stream": "yes"}, "stream", "true or false"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "stream=True"),
        ({"stream": True, "stream_options": 1}, "stream_options", "object"),
        ({"ignore_eos": 1}, "ignore_eos", "true or false"),
        ({"model": 5}, "model", "string"),
        ({"rag": 4}, "rag", "object"),
        ({"rag": {"top_k": 0}}, "rag.top_k", "at least 1"),
        ({"rvtop": {"timings": "x"}}, "rvtop.timings", "true or false"),
    ],
)
def test_bad_chat_fields(fields: dict[str, Any], param: str, words: str) -> None:
    error = refused(chat, **fields)
    assert error.param == param
    assert words in error.message
    assert "\n" not in error.message


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (None, "non-empty"),
        ("", "non-empty"),
        ([], "non-empty"),
        (["a", ""], "non-empty"),
        (["a", 5], "list of those"),
        ([1, "a"], "token ids"),
        ([True], "token ids"),
        ({"a": 1}, "string or a list"),
    ],
)
def test_bad_prompts(prompt: Any, words: str) -> None:
    error = refused(text, prompt=prompt)
    assert error.param == "prompt"
    assert words in error.message


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"messages": NaN}'])
def test_bodies_that_are_no_json_object(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        parse_call("chat", body)
    assert caught.value.status == 400
    assert "request body" in caught.value.message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    [
        *("model", "messages", "prompt", "max_tokens", "temperature", "top_p", "seed", "stop", "stream"),
        *("stream_options", "rag", "rvtop", "stop_token_ids", "ignore_eos", "n", *UNSUPPORTED),
        *("logprobs", "top_logprobs", "tools", "tool_choice"),
    ]
)


@given(endpoint=st.sampled_from(["chat", "completions"]), data=st.dictionaries(FIELDS, JSON, max_size=6))
def test_any_object_is_a_call_or_a_400(endpoint: Any, data: dict[str, Any]) -> None:
    call, status = None, 400
    try:
        call = parse_call(endpoint, json.dumps(data).encode())
    except ApiError as error:
        status = error.status
    assert status == 400
    assert call is None or (call.messages is None) != (call.prompts is None)


def test_output_fits_the_context() -> None:
    assert fit_max_tokens(chat(), 10, 100) == 90
    assert fit_max_tokens(chat(max_tokens=90), 10, 100) == 90
    for fields, prompt_tokens, param in (
        ({"max_tokens": 91}, 10, "input_tokens"),
        ({}, 100, "input_tokens"),
        ({"max_completion_tokens": 101}, 10, "max_completion_tokens"),
    ):
        with pytest.raises(ApiError) as caught:
            fit_max_tokens(chat(**fields), prompt_tokens, 100)
        assert (caught.value.status, caught.value.param) == (400, param)
        assert "100" in caught.value.message
