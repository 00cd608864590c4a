"""What requests get that do not say it themselves, set while a backend serves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from backends.api.control import Control
from backends.api.defaults import NO_DEFAULTS, Defaults
from backends.api.request import parse_call
from backends.api.splits import Splits
from backends.errors import ApiError, StartFailure, bad_request
from backends.process import again
from backends.process.notices import NOTICES
from backends.settings.split import Arm, Split, SplitOptions
from rvtop.cli.set import values_from
from rvtop.errors import UserError
from rvtop.net.transport import Transport
from rvtop.target import defaults

SET = Defaults(max_tokens=7, temperature=0.5, rag_top_k=2)


def call(body: dict[str, Any], defaults: Defaults) -> Any:
    message = {"messages": [{"role": "user", "content": "hi"}]}
    return parse_call("chat", json.dumps(message | body).encode(), defaults)


def test_a_request_that_says_nothing_gets_them() -> None:
    found = call({"rag": {}}, SET)
    assert (found.max_tokens, found.temperature, found.rag_top_k) == (7, 0.5, 2)
    found = call({}, SET)
    assert found.rag_top_k is None  # no retrieval was asked for
    found = call({"rag": {}}, NO_DEFAULTS)
    assert (found.max_tokens, found.temperature, found.rag_top_k) == (None, 1.0, 4)


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_what_a_request_says_counts(limit: str) -> None:
    found = call({limit: 3, "temperature": 0.0, "rag": {"top_k": 9}}, SET)
    assert (found.max_tokens, found.temperature, found.rag_top_k) == (3, 0.0, 9)


class Group:
    """Engines that take defaults."""

    def __init__(self) -> None:
        self.models: dict[str, Any] = {}
        self.given: list[Defaults] = []

    async def configure(self, defaults: Defaults) -> None:
        self.given.append(defaults)


async def test_changes_add_up_and_null_takes_one_away() -> None:
    group = Group()
    control = Control("rac", [group])  # type: ignore[list-item]
    for body in ({"max_tokens": 7, "rag_top_k": 2}, {"temperature": 0.5}, {"rag_top_k": None}):
        _, said = await control.set(json.dumps(body).encode())
    assert group.given == [
        Defaults(7, None, 2),
        Defaults(7, 0.5, 2),
        Defaults(7, 0.5, None),
    ]
    assert json.loads(said) == {"max_tokens": 7, "temperature": 0.5, "rag_top_k": None}


async def test_changes_in_one_instant_add_up_too() -> None:
    class Slow(Group):
        async def configure(self, defaults: Defaults) -> None:
            await asyncio.sleep(0)  # the other change gets its turn
            await super().configure(defaults)

    group = Slow()
    control = Control("rac", [group])  # type: ignore[list-item]
    await asyncio.gather(control.set(b'{"max_tokens": 7}'), control.set(b'{"temperature": 0.5}'))
    assert group.given == [Defaults(7, None, None), Defaults(7, 0.5, None)]


async def test_a_backend_that_starts_again_has_what_was_changed_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept: dict[str, dict[str, Any]] = {}
    monkeypatch.setattr(again, "_changed", kept)
    options = SplitOptions((Split("chat", (Arm("v1", 90.0), Arm("v2", 10.0))),))
    group = Group()
    first = Control("rac", [group], splits=Splits(options, lambda _: True))  # type: ignore[list-item]
    await first.as_before()
    assert group.given == []  # there was nothing
    await first.set(b'{"max_tokens": 7, "temperature": 0.5}')
    await first.set(b'{"temperature": null}')
    await first.split(b'{"alias": "chat", "shares": {"v2": 33.3}}')
    with pytest.raises(ApiError):
        await first.set(b'{"max_tokens": 0}')  # what is refused is not kept

    monkeypatch.setattr(again, "_before", kept)
    told: list[Split] = []

    async def tell(split: Split) -> None:
        told.append(split)

    group = Group()
    splits = Splits(options, lambda _: True, tell)
    await Control("rac", [group], splits=splits).as_before()  # type: ignore[list-item]
    assert group.given == [Defaults(7, None, None)]
    assert [arm.share for arm in splits.now["chat"].arms] == [pytest.approx(66.7), 33.3]
    assert told == [splits.now["chat"]]  # the router knows it


@pytest.mark.parametrize("refusal", [bad_request("There is room for 6 replicas."), StartFailure("too late")])
async def test_what_can_not_be_any_more_is_said_and_the_rest_holds_on(
    refusal: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stages(Group):
        async def scale(self, counts: Mapping[str, int]) -> Mapping[str, int]:
            raise refusal

    shares = {"v2": 50.0}
    kept = {"set": {"max_tokens": 7, "llm.replicas": 3}, "split": {"gone": shares, "chat": shares}}
    monkeypatch.setattr(again, "_before", kept)
    said: list[str] = []
    monkeypatch.setattr(NOTICES, "say", lambda text, level: said.append(text))
    options = SplitOptions((Split("chat", (Arm("v1", 90.0), Arm("v2", 10.0))),))
    group, splits = Stages(), Splits(options, lambda _: True)
    await Control("graph", [group], splits=splits).as_before()  # type: ignore[list-item]
    assert group.given == [Defaults(7, None, None)]
    assert splits.shares() == {"chat": {"v1": 50.0, "v2": 50.0}}
    assert said == [
        f"what `rvtop set` changed is lost: {refusal}",
        "what `rvtop split` changed is lost: `alias` must be one of chat.",
    ]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"temperature": 3}, 400, "temperature must be in"),
        ({"rag_top_k": 101}, 400, "rag_top_k"),
        ({"top_k": 3}, 400, "`top_k` can't be set; there are max_tokens, temperature, rag_top_k."),
    ],
)
async def test_what_can_not_be_is_refused(body: dict[str, Any], status: int, words: str) -> None:
    group = Group()
    with pytest.raises(ApiError) as refused:
        await Control("rac", [group]).set(json.dumps(body).encode())  # type: ignore[list-item]
    assert refused.value.status == status
    assert words in refused.value.message
    assert group.given == []


async def test_servers_that_are_not_ours_have_none() -> None:
    with pytest.raises(ApiError, match="Topology x has no defaults that can be set"):
        await Control("x", [object()]).set(b'{"max_tokens": 3}')  # type: ignore[list-item]


def test_the_words_of_the_command() -> None:
    assert values_from(["max_tokens=64", "temperature=none"]) == {"max_tokens": 64, "temperature": None}
    for word in ("max_tokens", "max_tokens=many", "max_tokens=true", "=3"):
        with pytest.raises(UserError, match="write "):
            values_from([word])


async def test_only_numbers_are_taken_from_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"max_tokens": 64, "a": "\x1b[2J", "b": True, "c": None, "d": [1], "e": 10**400, "f": 0.5}
    body = json.dumps(said)[:-1].encode() + b', "g": 1e999, "h": NaN}'
    monkeypatch.setattr(defaults, "ask", lambda *_: (200, body))
    found = await defaults.change_defaults("http://x", Transport(), {"max_tokens": 64})
    assert found == {"max_tokens": 64, "f": 0.5}
