"""Bodies of the endpoints besides chat and completions: what each asks for, and nothing that it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rvtop.load.plan.api import KINDS, Api, text_of
from rvtop.load.plan.prompts import PromptError, Prompts

TALK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
BODY = {"max_tokens": 64, "temperature": 0.0, "ignore_eos": True, "rvtop": {"timings": True}}


def prompts(tmp_path: Path, api: Api, *rows: object, extra: dict[str, Any] | None = None) -> Prompts:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return Prompts(path, ["m"], BODY, extra, api=api)


def body(made: Prompts, number: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(made.body(number, 0))
    return found


STREAM = {"stream": True, "stream_options": {"include_usage": True}}
CHAT = {"max_tokens": 64, "temperature": 0.0, "ignore_eos": True, "rvtop": {"timings": True}}


@pytest.mark.parametrize(
    ("api", "row", "wanted"),
    [
        (Api("chat"), {"prompt": "a"}, {"messages": [{"role": "user", "content": "a"}], **CHAT, **STREAM}),
        (Api("chat", stream=False), {"messages": TALK}, {"messages": TALK, **CHAT, "stream": False}),
        (Api("completions"), {"messages": TALK}, {"prompt": "Be brief.\n\nWhy?", **CHAT, **STREAM}),
        (
            Api("responses"),
            {"messages": TALK, "min_tokens": 3},
            {"input": TALK, "max_output_tokens": 64, "temperature": 0.0, "ignore_eos": True, "stream": True},
        ),
        (
            Api("responses", stream=False),
            {"prompt": "a", "max_tokens": 7},
            {"input": "a", "max_output_tokens": 7, "temperature": 0.0, "ignore_eos": True, "stream": False},
        ),
        (
            Api("messages"),
            {"messages": TALK},
            {
                "messages": TALK[1:],
                "system": "Be brief.",
                "max_tokens": 64,
                "temperature": 0.0,
                "stream": True,
            },
        ),
        (Api("embeddings"), {"messages": TALK}, {"input": "Be brief.\n\nWhy?"}),
        (Api("embeddings"), {"prompt": [1, 2]}, {"input": [1, 2]}),
        (Api("rerank"), {"prompt": "q", "documents": ["x", "y"]}, {"query": "q", "documents": ["x", "y"]}),
    ],
)
def test_a_body_holds_what_its_endpoint_asks_for(
    tmp_path: Path, api: Api, row: dict[str, Any], wanted: dict[str, Any]
) -> None:
    made = prompts(tmp_path, api, row)
    assert made.path == KINDS[api.name].path
    assert body(made) == {"model": "m", **wanted}


def test_a_batch_takes_the_texts_that_follow_and_begins_anew_at_the_end(tmp_path: Path) -> None:
    rows = [{"prompt": text} for text in "abc"]
    assert body(prompts(tmp_path, Api("embeddings", batch=2), *rows), 2)["input"] == ["c", "a"]
    ranked = body(prompts(tmp_path, Api("rerank", batch=2), *rows), 1)
    assert (ranked["query"], ranked["documents"]) == ("b", ["c", "a"])
    usual = body(prompts(tmp_path, Api("rerank"), *rows))
    assert usual["documents"] == [*"bcabcabc"]


def test_messages_always_say_how_long_an_answer_may_be(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "a"}\n')
    assert json.loads(Prompts(path, ["m"], {}, api=Api("messages")).body(0, 0))["max_tokens"] == 256
    own = Prompts(path, ["m"], {}, {"max_tokens": 5}, api=Api("messages"))
    assert json.loads(own.body(0, 0))["max_tokens"] == 5


def test_lengths_are_limited_under_the_name_that_the_endpoint_has_for_them(tmp_path: Path) -> None:
    made = prompts(tmp_path, Api("responses"), {"prompt": "a", "max_tokens": 90, "min_tokens": 80})
    made.limit_output(9)
    assert body(made)["max_output_tokens"] == 9
    assert not {"max_tokens", "min_tokens"} & body(made).keys()
    embeds = prompts(tmp_path, Api("embeddings"), {"prompt": "a"})
    embeds.limit_output(9)
    assert body(embeds) == {"model": "m", "input": "a"}


def test_fields_of_the_user_win_everywhere(tmp_path: Path) -> None:
    extra = {"encoding_format": "base64", "temperature": None}
    made = prompts(tmp_path, Api("embeddings"), {"prompt": "a"}, extra=extra)
    assert body(made) == {"model": "m", "input": "a", "encoding_format": "base64"}
    messages = prompts(tmp_path, Api("messages"), {"prompt": "a"}, extra=extra)
    assert "temperature" not in body(messages)


@pytest.mark.parametrize(
    ("name", "key"), [("messages", "messages"), ("responses", "input"), ("chat", "messages")]
)
def test_a_turn_of_a_conversation_brings_its_history(tmp_path: Path, name: str, key: str) -> None:
    row = {"messages": TALK, "turns": [{"messages": [{"role": "user", "content": "And?"}]}]}
    made = prompts(tmp_path, Api(name), row)
    history = [*TALK, {"role": "assistant", "content": "So."}, {"role": "user", "content": "And?"}]
    found = json.loads(made.turn_body(history, made.steps[0].turns[0], 0))
    assert found[key][-1] == history[-1]
    assert len(found[key]) == (3 if name == "messages" else 4)


@pytest.mark.parametrize(
    ("api", "row", "says"),
    [
        (
            Api("rerank"),
            {"prompt": "only"},
            'a rerank needs documents: give the row its "documents", or the file',
        ),
        (
            Api("rerank"),
            {"prompt": "q", "documents": []},
            '"documents" must be a list of texts that is not empty',
        ),
        (Api("rerank"), {"prompt": "q", "documents": [1]}, '"documents" must be a list of texts'),
        (Api("messages"), {"prompt": [1, 2]}, "endpoint messages takes text"),
        (
            Api("embeddings"),
            {"messages": TALK, "turns": [{"messages": TALK}]},
            'has "turns", and endpoint embeddings has no conversations',
        ),
    ],
)
def test_prompts_that_do_not_fit_are_named(tmp_path: Path, api: Api, row: object, says: str) -> None:
    with pytest.raises(PromptError, match=r"prompts\.jsonl") as caught:
        prompts(tmp_path, api, row)
    assert says in str(caught.value)


def test_the_text_of_messages_leaves_out_what_is_none() -> None:
    parts = [{"type": "text", "text": "b"}, {"type": "image_url", "image_url": {}}]
    talk = [{"role": "user", "content": "a"}, {"role": "user", "content": parts}, {"role": "assistant"}]
    assert text_of(talk) == "a\n\nb"


def test_only_a_batch_and_answers_in_one_piece_make_an_api_whole() -> None:
    assert [name for name in KINDS if Api(name).whole] == ["embeddings", "rerank"]
    assert all(Api(name, stream=False).whole for name in ("", *KINDS))
