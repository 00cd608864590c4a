"""Prompt files and ShareGPT conversations: what is sent of them, and damage named with file and row."""

# ruff: noqa: E501  # one case a line: the tables of bad files are read like tables

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rvtop.errors import UserError
from rvtop.scenario.workload import PromptsWorkload
from rvtop.workload import sharegpt
from rvtop.workload.prepare import Prepared, prepare


async def prepared(folder: Path, name: str, content: str | bytes, **keys: Any) -> Prepared:
    raw = content if isinstance(content, bytes) else content.encode()
    (folder / name).write_bytes(raw)
    workload = PromptsWorkload.model_validate({"kind": "prompts", "file": str(folder / name), **keys})
    return await prepare(workload, folder, 1, False, lambda step: None)


async def rows(folder: Path, name: str, content: str | bytes, **keys: Any) -> list[dict[str, Any]]:
    made = await prepared(folder, name, content, **keys)
    return [json.loads(line) for line in made.prompts.read_text("utf-8").split("\n") if line]


async def refused(folder: Path, name: str, content: str | bytes, **keys: Any) -> str:
    with pytest.raises(UserError) as caught:
        await rows(folder, name, content, **keys)
    assert not list(folder.glob("prompts.jsonl*"))
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{folder}/", "")


def talk(name: str, *said: str) -> dict[str, Any]:
    """A conversation of ``human: why?`` and the like."""
    parts = (one.split(": ", 1) for one in said)
    return {"id": name, "conversations": [{"from": who, "value": what} for who, what in parts]}


TALKS = [
    talk("a", "system: be kind", "human: why?", "gpt: 12345678", "human: and then?", "gpt: 1", "human: left"),
    talk("b", "gpt: the end of an answer", "human: what", "human: now?", "gpt: 질문", "gpt: x"),
    talk("c", "gpt: nobody asked"),
    talk("d", "human: no answer"),
]


async def test_the_first_question_with_the_length_of_its_answer(tmp_path: Path) -> None:
    made = await rows(tmp_path, "s.json", json.dumps(TALKS))
    assert made == [
        {
            "id": "a",
            "messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "why?"}],
            "max_tokens": 2,
        },
        {"id": "b", "messages": [{"role": "user", "content": "what\n\nnow?"}], "max_tokens": 3},
    ]
    assert await rows(tmp_path, "s.json", json.dumps(TALKS), limit=1) == made[:1]
    lines = "".join(json.dumps(one) + "\n" for one in TALKS)
    assert await rows(tmp_path, "s.jsonl", lines, format="sharegpt") == made


async def test_conversations_with_their_recorded_answers(tmp_path: Path) -> None:
    first, second = await rows(tmp_path, "s.json", json.dumps(TALKS), multi_turn=True, think="2s")
    assert first["turns"] == [
        {
            "messages": [
                {"role": "assistant", "content": "12345678"},
                {"role": "user", "content": "and then?"},
            ],
            "max_tokens": 1,
            "delay_s": 2.0,
        }
    ]
    assert "turns" not in second


async def test_one_length_for_all_stands_in_the_body_too(tmp_path: Path) -> None:
    made = await prepared(tmp_path, "s.json", json.dumps(TALKS), max_tokens=7)
    assert made.body["max_tokens"] == 7
    assert [json.loads(line)["max_tokens"] for line in made.prompts.read_text().splitlines()] == [7, 7]
    assert "max_tokens" not in (await prepared(tmp_path, "s.json", json.dumps(TALKS))).body


async def test_a_list_is_read_alike_in_pieces_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = json.dumps([*TALKS, talk("e", 'human: \\ud83d "]},{[', "gpt: ü")], indent=1, ensure_ascii=False)
    whole = await rows(tmp_path, "s.json", text)
    for size in (1, 2, 7, 100):
        monkeypatch.setattr(sharegpt, "_CHUNK", size)
        assert await rows(tmp_path, "s.json", text) == whole
    assert [row["id"] for row in whole] == ["a", "b", "e"]


async def test_half_a_surrogate_pair_does_not_stop_the_rest(tmp_path: Path) -> None:
    text = '[{"conversations": [{"from": "human", "value": "\\ud83d?"}, {"from": "gpt", "value": "y"}]}]'
    (row,) = await rows(tmp_path, "s.json", text)
    assert (row["id"], row["messages"][0]["content"]) == ("row 1", "??")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "s.json: must be a list of conversations"),
        ("{}", "s.json: must be a list of conversations"),
        ("[]", "s.json: holds no prompt"),
        ("[" + json.dumps(TALKS[0]), "s.json: row 1: must be followed by , or ]"),
        ("[" + json.dumps(TALKS[0]) + ", {", "s.json: row 2: not JSON: "),
        ("[" + json.dumps(TALKS[0]) + ' {"id": 1}]', "s.json: row 1: must be followed by , or ]"),
        ("[5]", 's.json: row 1: must be {"id": …, "conversations": […]}'),
        ('[{"conversations": [{"from": "human"}]}]', 's.json: row 1: message 1 must be {"from": …, "value": …}'),
        (json.dumps([TALKS[0], talk("x", "cat: mew")]), "s.json: row 2: message 1 is from 'cat'; known: human, "),
        (b"[\xff]", "s.json: can't be read"),
    ],
)  # fmt: skip
async def test_damaged_conversations_are_one_line(tmp_path: Path, content: str | bytes, says: str) -> None:
    assert (await refused(tmp_path, "s.json", content)).startswith(says)


async def test_rows_of_jsonl_may_have_turns_and_go_as_they_are(tmp_path: Path) -> None:
    asked = [{"role": "user", "content": "a"}]
    row = {"messages": asked, "turns": [{"messages": asked, "max_tokens": 3, "delay_s": 0.5}], "more": 1}
    text = json.dumps(row, separators=(",", ":"))
    made = await prepared(tmp_path, "p.jsonl", f"\ufeff{text}\r\n\n{text}")
    assert made.prompts.read_text() == f"{text}\n{text}\n"
    assert made.body["max_tokens"] == 256
    assert await rows(tmp_path, "p.jsonl", f"{text}\n{{", limit=1) == [row]
    assert await rows(tmp_path, "p.jsonl", '{"at_s": 2, "prompt": "é"}') == [{"prompt": "é"}]
    assert [row["id"] for row in await rows(tmp_path, "p.txt", "a\nb\nc\n", limit=2)] == ["p1", "p2"]


ASKED = '"messages": [{"role": "user", "content": "a"}]'


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("[]", 'needs "messages" or "prompt"'),
        ('{"prompt": 1}', '"prompt" must be text or a list of token numbers'),
        ('{"prompt": "a", "messages": []}', 'has both "messages" and "prompt"'),
        ('{"prompt": "a", "turns": [{}]}', '"turns" need "messages", not "prompt"'),
        ('{"messages": []}', '"messages" must be a list that is not empty'),
        ('{"messages": ["hi"]}', '"messages" must hold {"role": …, "content": …}'),
        (f'{{{ASKED}, "max_tokens": 0}}', '"max_tokens" must be a whole number ≥ 1, got 0'),
        (f'{{{ASKED}, "min_tokens": 1.5}}', '"min_tokens" must be a whole number ≥ 0, got 1.5'),
        (f'{{{ASKED}, "turns": {{}}}}', '"turns" must be a list'),
        (f'{{{ASKED}, "turns": [5]}}', "turns[0]: must be {messages: …}"),
        (f'{{{ASKED}, "turns": [{{{ASKED}, "delay_s": -1}}]}}', 'turns[0]: "delay_s" must be a number of seconds ≥ 0, got -1'),
        ('{"prompt": "a"}', "has 'prompt' where the lines before have 'messages'"),
    ],
)  # fmt: skip
async def test_a_damaged_row_is_one_line(tmp_path: Path, row: str, says: str) -> None:
    assert await refused(tmp_path, "p.jsonl", f"{{{ASKED}}}\n{row}\n") == f"p.jsonl:2: {says}"


def test_the_length_of_a_recorded_answer_is_estimated_from_its_bytes() -> None:
    assert [sharegpt.tokens_of(text) for text in ("", "a", "12345", "질문입니다", "\ud83d")] == [
        1,
        1,
        2,
        4,
        1,
    ]
