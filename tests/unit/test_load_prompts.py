"""prompts.jsonl: bodies that servers take, and a damaged file named with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rvtop.load.plan.prompts import PromptError, Prompts

CHAT = {"id": "q1", "messages": [{"role": "user", "content": '질문 "1"\n'}], "sources": ["a#1"]}
SAID = b'"messages": [{"role": "user", "content": "a"}]'
TURN = b"{" + SAID + b', "turns": [{' + SAID + b', "delay_s": %b}]}\n'
BODY = {"max_tokens": 64, "temperature": 0.0, "rvtop": {"timings": True}}


def write(tmp_path: Path, *rows: object) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def body(prompts: Prompts, prompt: int, model: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(prompts.body(prompt, model))
    return found


def test_a_chat_body_holds_the_model_the_prompt_and_what_all_carry(tmp_path: Path) -> None:
    path = write(tmp_path, CHAT, {**CHAT, "max_tokens": 7})
    prompts = Prompts(path, ["a", 'b "x"'], BODY)
    assert (len(prompts), prompts.path) == (2, "/v1/chat/completions")
    common = {"stream": True, "stream_options": {"include_usage": True}, "temperature": 0.0}
    common["rvtop"] = {"timings": True}
    assert body(prompts, 0, 0) == {"model": "a", "messages": CHAT["messages"], "max_tokens": 64, **common}
    # a prompt's own length wins
    assert body(prompts, 1, 1) == {"model": 'b "x"', "messages": CHAT["messages"], "max_tokens": 7, **common}


def test_a_text_prompt_goes_to_completions(tmp_path: Path) -> None:
    prompts = Prompts(write(tmp_path, {"prompt": "once"}), ["a"], {})
    assert prompts.path == "/v1/completions"
    assert body(prompts, 0, 0)["prompt"] == "once"
    assert "max_tokens" not in body(prompts, 0, 0)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "holds no prompt"),
        (b"\n \n", "holds no prompt"),
        (b'{"prompt": "a"}\nnot json\n', ":2: not JSON"),
        (b'{"prompt": "a"}\n\n{"id": "x"}\n', ':3: needs "messages" or "prompt"'),
        (b'{"prompt": "a"}\n["prompt"]\n', ':2: needs "messages" or "prompt"'),
        (b'{"prompt": "a"}\n{"messages": []}\n', ':2: "messages" must be a list that is not empty'),
        (
            b'{"prompt": "a"}\n{"messages": [{"role": "user", "content": "b"}]}\n',
            ":2: has 'messages' where the lines before have 'prompt'",
        ),
        (TURN % b"-1", ':1: turns[0]: "delay_s" must be a number of seconds'),
        (TURN % b"null", ':1: turns[0]: "delay_s" must be a number of seconds'),
        (TURN % b"1e300", ':1: turns[0]: "delay_s" must be below 1e+06 seconds, got 1e+300'),
        ('{"prompt": "é"}\n'.encode("latin-1"), ":1: not JSON"),
    ],
)
def test_a_damaged_file_is_one_line_that_says_where(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(content)
    with pytest.raises(PromptError) as refused:
        Prompts(path, ["a"], {})
    assert str(refused.value).startswith(str(path))
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="No such file"):
        Prompts(tmp_path / "absent.jsonl", ["a"], {})


def test_a_line_separator_inside_a_prompt_ends_no_line(tmp_path: Path) -> None:
    prompts = Prompts(write(tmp_path, {"prompt": "a\u2028b\x0bc\x85d"}), ["m"], {})
    assert body(prompts, 0, 0)["prompt"] == "a\u2028b\x0bc\x85d"
