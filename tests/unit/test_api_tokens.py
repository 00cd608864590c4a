"""`/tokenize` and `/detokenize` with a tokenizer of one character a token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from backends.api.render import Renderer
from backends.api.tokens import detokenize, tokenize
from backends.errors import ApiError

BOS = 0


class Characters:
    """Token ids are code points; special tokens are one 0 in front."""

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        return [BOS] * add_special_tokens + [ord(character) for character in text]

    def decode(self, ids: list[int]) -> str:
        return "".join(map(chr, ids))

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [f"<{token}>" for token in ids]

    def apply_chat_template(
        self, messages: list[dict[str, Any]], tools: Any, tokenize: bool, add_generation_prompt: bool
    ) -> str:
        assert not tokenize
        texts = [f"{m['role']}:{m['content']}{m.get('tool_calls', '')}" for m in messages]
        return "".join(texts) + (f"[{len(tools)}]" if tools else "") + ">" * add_generation_prompt


@pytest.fixture
def renderer() -> Iterator[Renderer]:
    made = Renderer(Characters(), 1000)
    yield made
    made.close()


async def ids(renderer: Renderer, **data: Any) -> Any:
    answer = json.loads(await tokenize(data, renderer, 77))
    assert answer["count"] == len(answer["tokens"])
    assert answer["max_model_len"] == 77
    return answer


def codes(text: str) -> list[int]:
    return [ord(character) for character in text]


async def test_a_prompt(renderer: Renderer) -> None:
    assert (await ids(renderer, prompt="ab"))["tokens"] == [BOS, 97, 98]
    bare = await ids(renderer, prompt="ab", add_special_tokens=False, return_token_strs=True)
    assert (bare["tokens"], bare["token_strs"]) == ([97, 98], ["<97>", "<98>"])
    assert (await ids(renderer, prompt=""))["tokens"] == [BOS]


async def test_messages(renderer: Renderer) -> None:
    asked = [{"role": "u", "content": "q"}]
    assert (await ids(renderer, messages=asked))["tokens"] == codes("u:q>")
    assert (await ids(renderer, messages=asked, add_generation_prompt=False))["tokens"] == codes("u:q")
    tool = {"type": "function", "function": {"name": "f"}}
    assert (await ids(renderer, messages=asked, tools=[tool]))["tokens"] == codes("u:q[1]>")


async def test_templates_see_the_arguments_of_earlier_calls_as_objects(renderer: Renderer) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    said = {"role": "assistant", "content": None, "tool_calls": [call]}
    text = bytes((await ids(renderer, messages=[said]))["tokens"]).decode()
    assert "'arguments': {'a': 1}" in text
    call["function"]["arguments"] = "{"  # type: ignore[index]
    with pytest.raises(ApiError, match="not JSON") as caught:
        await ids(renderer, messages=[said])
    assert caught.value.status == 400


async def test_back(renderer: Renderer) -> None:
    assert json.loads(await detokenize({"tokens": [97, 98]}, renderer)) == {"prompt": "ab"}
    assert json.loads(await detokenize({"tokens": []}, renderer)) == {"prompt": ""}


@pytest.mark.parametrize(
    ("call", "data", "param"),
    [
        (tokenize, {}, "prompt"),
        (tokenize, {"prompt": ["a"]}, "prompt"),
        (tokenize, {"messages": []}, "messages"),
        (tokenize, {"messages": [{"role": "u"}], "add_special_tokens": True}, "add_special_tokens"),
        (tokenize, {"prompt": "a", "return_token_strs": 1}, "return_token_strs"),
        (tokenize, {"prompt": "a", "chat_template": "x"}, "chat_template"),
        (detokenize, {}, "tokens"),
        (detokenize, {"tokens": ["a"]}, "tokens"),
        (detokenize, {"tokens": [1000]}, "tokens"),
        (detokenize, {"tokens": [-1]}, "tokens"),
    ],
)
async def test_bad_requests(renderer: Renderer, call: Any, data: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        await (tokenize(data, renderer, 77) if call is tokenize else detokenize(data, renderer))
    assert (caught.value.status, caught.value.param) == (400, param)
