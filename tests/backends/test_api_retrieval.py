"""Server-side retrieval: micro-batches, and where found text goes in a conversation."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

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


async def began(search: FakeSearch) -> None:
    await asyncio.to_thread(search.began.wait, 120)


async def test_what_arrives_meanwhile_is_one_batch() -> None:
    search = FakeSearch()
    retrieval = IndexRetrieval(search)
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
    retrieval = IndexRetrieval(search)
    names = [str(n) for n in range(70)]
    found = await asyncio.gather(*(retrieval.find(name, 1) for name in names))
    assert found == [[f"{name}/0"] for name in names]
    assert [len(batch) for batch in search.batches] == [32, 32, 6]


async def test_a_failure_reaches_those_who_asked_and_nobody_else() -> None:
    retrieval = IndexRetrieval(FakeSearch())
    with pytest.raises(RuntimeError, match="broken"):
        await retrieval.find("bad", 1)
    assert await retrieval.find("good", 1) == ["good/0"]


async def test_found_text_stands_before_the_question() -> None:
    retrieval = IndexRetrieval(FakeSearch())
    system, user = await retrieval.expand([USER], 2)
    assert system["role"] == "system"
    assert user["role"] == "user"
    assert user["content"].index("휴가는?/0") < user["content"].index("휴가는?/1")
    assert user["content"].endswith("휴가는?")


async def test_the_question_is_the_last_user_message() -> None:
    search = FakeSearch()
    talk = [{"role": "user", "content": "old"}, {"role": "assistant", "content": "answer"}, USER]
    expanded = await IndexRetrieval(search).expand(talk, 1)
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
        await IndexRetrieval(FakeSearch()).expand(messages, 1)
    assert caught.value.status == 400
