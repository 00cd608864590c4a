"""Server-side retrieval: micro-batches, and where found text goes in a conversation."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from backends.api.embeddings import embed
from backends.api.retrieval import IndexRetrieval, put_in
from backends.errors import ApiError

USER = {"role": "user", "content": "휴가는?"}


class FakeSearch:
    """Finds "question/0", "question/1", …; can be held up, and keeps what it was asked."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.began = threading.Event()
        self.batches: list[list[str]] = []

    def __call__(self, texts: Sequence[str], top_k: int) -> list[list[Any]]:
        self.batches.append(list(texts))
        self.began.set()
        assert self.go.wait(120)
        if "bad" in texts:
            raise RuntimeError("broken index")
        return [[SimpleNamespace(text=f"{text}/{n}") for n in range(top_k)] for text in texts]


class FakeEmbedder:
    """A text's vector is (its length, 1)."""

    name = "fake"

    def encode(self, texts: Sequence[str]) -> Any:
        return np.array([(len(text), 1) for text in texts], np.float32)

    def count(self, texts: Sequence[str]) -> int:
        return sum(map(len, texts))


async def embedded(**fields: Any) -> dict[str, Any]:
    body = {"input": "ab", **fields}
    return dict(json.loads(await embed(body, IndexRetrieval(FakeSearch(), FakeEmbedder()))))


async def began(search: FakeSearch) -> None:
    await asyncio.to_thread(search.began.wait, 120)


async def test_what_arrives_meanwhile_is_one_batch() -> None:
    search = FakeSearch()
    retrieval = IndexRetrieval(search, FakeEmbedder())
    search.go.clear()
    first = asyncio.create_task(retrieval.find("a", 1))
    await began(search)
    rest = [
        asyncio.create_task(retrieval.find(name, top_k)) for name, top_k in (("b", 2), ("c", 1), ("d", 3))
    ]
    await asyncio.sleep(0)
    rest[1].cancel()
    await asyncio.sleep(0)
    search.go.set()
    assert await first == ["a/0"]
    assert await rest[0] == ["b/0", "b/1"]
    assert await rest[2] == ["d/0", "d/1", "d/2"]
    assert search.batches == [["a"], ["b", "d"]]
    assert await retrieval.find("later", 1) == ["later/0"]


async def test_batches_have_a_limit() -> None:
    search = FakeSearch()
    retrieval = IndexRetrieval(search, FakeEmbedder())
    names = [str(n) for n in range(70)]
    found = await asyncio.gather(*(retrieval.find(name, 1) for name in names))
    assert found == [[f"{name}/0"] for name in names]
    assert [len(batch) for batch in search.batches] == [32, 32, 6]


async def test_a_failure_reaches_those_who_asked_and_nobody_else() -> None:
    retrieval = IndexRetrieval(FakeSearch(), FakeEmbedder())
    with pytest.raises(RuntimeError, match="broken"):
        await retrieval.find("bad", 1)
    assert await retrieval.find("good", 1) == ["good/0"]


async def test_found_text_stands_before_the_question() -> None:
    retrieval = IndexRetrieval(FakeSearch(), FakeEmbedder())
    system, user = await retrieval.expand([USER], 2, {})
    assert system["role"] == "system"
    assert user["role"] == "user"
    assert user["content"].index("휴가는?/0") < user["content"].index("휴가는?/1")
    assert user["content"].endswith("휴가는?")


async def test_the_question_is_the_last_user_message() -> None:
    search = FakeSearch()
    talk = [{"role": "user", "content": "old"}, {"role": "assistant", "content": "answer"}, USER]
    expanded = await IndexRetrieval(search, FakeEmbedder()).expand(talk, 1, {})
    assert search.batches == [["휴가는?"]]
    assert [message["role"] for message in expanded] == ["system", "user", "assistant", "user"]
    assert expanded[1]["content"] == "old"


def test_the_clients_system_message_stays() -> None:
    own = {"role": "system", "content": "mine"}
    built = [{"role": "system", "content": "ours"}, {"role": "user", "content": "with context"}]
    assert put_in([own, USER], 1, built) == [own, {"role": "user", "content": "with context"}]


@pytest.mark.parametrize("messages", [[], [{"role": "system", "content": "x"}], [{**USER, "content": " "}]])
async def test_nothing_to_look_up_is_400(messages: list[dict[str, str]]) -> None:
    with pytest.raises(ApiError) as caught:
        await IndexRetrieval(FakeSearch(), FakeEmbedder()).expand(messages, 1, {})
    assert caught.value.status == 400


async def test_embeddings_are_openais() -> None:
    assert await embedded(input=["ab", "c"], model="fake") == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [2.0, 1.0]},
            {"object": "embedding", "index": 1, "embedding": [1.0, 1.0]},
        ],
        "model": "fake",
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    }
    packed = (await embedded(encoding_format="base64", dimensions=2))["data"][0]["embedding"]
    assert np.frombuffer(base64.b64decode(packed), np.float32).tolist() == [2.0, 1.0]


@pytest.mark.parametrize(
    ("fields", "status", "param", "words"),
    [
        ({"model": "tiny"}, 404, "model", "is `fake`"),
        ({"input": None}, 400, "input", "a text"),
        ({"input": [1, 2]}, 400, "input", "token ids"),
        ({"input": ["a", ""]}, 400, "input", "empty"),
        ({"input": ["a"] * 2049}, 400, "input", "at most 2048"),
        ({"encoding_format": "int8"}, 400, "encoding_format", "base64"),
        ({"dimensions": 3}, 400, "dimensions", "have 2"),
    ],
)
async def test_bad_embeddings(fields: dict[str, Any], status: int, param: str, words: str) -> None:
    with pytest.raises(ApiError) as caught:
        await embedded(**fields)
    assert (caught.value.status, caught.value.param) == (status, param)
    assert words in caught.value.message


async def test_without_an_index_nothing_embeds() -> None:
    with pytest.raises(ApiError, match="--index"):
        await embed({"input": "a"}, None)
