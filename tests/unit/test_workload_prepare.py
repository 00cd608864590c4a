"""Workloads become prompts.jsonl and the fields of every request before the load begins."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from rvtop.contract.snapshot import StartStep
from rvtop.errors import UserError
from rvtop.scenario.schema import PromptsWorkload, RagWorkload, SyntheticWorkload, Workload
from rvtop.workload.prepare import Prepared, prepare


async def prepared(workload: Workload, folder: Path, *, seed: int = 1, ours: bool = False) -> Prepared:
    return await prepare(workload, folder, seed, ours, lambda step: None)


def rows(made: Prepared) -> list[dict[str, Any]]:
    text = made.prompts.read_bytes()
    assert hashlib.sha256(text).hexdigest() == made.digest
    return [json.loads(line) for line in text.decode().split("\n") if line]


async def test_synthetic_prompts_are_the_seed_s(tmp_path: Path) -> None:
    workload = SyntheticWorkload(kind="synthetic", prompt_tokens=40, output_tokens=9)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, again = await prepared(workload, tmp_path / "a"), await prepared(workload, tmp_path / "b")
    assert one.digest == again.digest
    assert one.digest != (await prepared(workload, tmp_path / "a", seed=2)).digest
    texts = {row["messages"][0]["content"] for row in rows(again)}
    assert len(texts) == 512
    assert {len(text.split()) for text in texts} == {40}
    assert one.body == {"max_tokens": 9, "temperature": 0.0, "ignore_eos": True}


async def test_a_text_file_has_a_prompt_a_line(tmp_path: Path) -> None:
    source = tmp_path / "p.txt"
    source.write_text("첫 질문\n\n  \r\nsecond\u2028line\n", "utf-8")
    made = await prepared(PromptsWorkload(kind="prompts", file=str(source), temperature=None), tmp_path)
    assert [row["messages"][0]["content"] for row in rows(made)] == ["첫 질문", "second\u2028line"]
    assert made.body == {"max_tokens": 256}


async def test_prompts_of_jsonl_go_as_they_are(tmp_path: Path) -> None:
    source = tmp_path / "p.jsonl"
    source.write_text('{"prompt":"a","max_tokens":3}\n{"prompt":"b"}\n')
    made = await prepared(PromptsWorkload(kind="prompts", file=str(source)), tmp_path, ours=True)
    assert made.prompts.read_text() == source.read_text()
    assert made.body["rvtop"] == {"timings": True}


async def test_questions_for_a_server_that_retrieves_itself(tmp_path: Path) -> None:
    source = tmp_path / "q.jsonl"
    source.write_text('{"question":"eins"}\n{"question":"zwei"}\n')
    workload = RagWorkload(kind="rag", where="server", questions=str(source), top_k=3)
    made = await prepared(workload, tmp_path, ours=True)
    assert [row["messages"][0]["content"] for row in rows(made)] == ["eins", "zwei"]
    assert made.body["rag"] == {"top_k": 3}


async def test_the_sample_questions_are_found_without_importing_backends(tmp_path: Path) -> None:
    known = "backends" in sys.modules
    made = await prepared(RagWorkload(kind="rag", where="server"), tmp_path, ours=True)
    assert len(rows(made)) == 24
    assert ("backends" in sys.modules) == known


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("p.txt", b"\n \n", "holds no prompt"),
        ("p.txt", b"\xff", "can't be read"),
        ("p.jsonl", b'{"prompt":"a"}\n{\n', "p.jsonl:2: not JSON"),
        ("p.jsonl", b"", "holds no prompt"),
        ("p.jsonl", None, "can't be read"),
    ],
)
async def test_prompts_that_are_none_are_one_line(
    tmp_path: Path, name: str, content: bytes | None, says: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as refused:
        await prepared(PromptsWorkload(kind="prompts", file=str(tmp_path / name)), tmp_path)
    assert says in str(refused.value)
    assert str(tmp_path / name) in str(refused.value)
    assert not (tmp_path / "prompts.jsonl").exists()


@pytest.mark.parametrize("content", [b"[1]\n", b'{"q":"x"}\n', b"{\n", b"\xff\n", b'"x"\n'])
async def test_questions_that_are_none_are_one_line(tmp_path: Path, content: bytes) -> None:
    source = tmp_path / "q.jsonl"
    source.write_bytes(content)
    workload = RagWorkload(kind="rag", where="server", questions=str(source))
    with pytest.raises(UserError, match="questions can't be read"):
        await prepared(workload, tmp_path, ours=True)


async def test_an_expansion_that_fails_says_why_in_one_line(tmp_path: Path) -> None:
    """The subprocess's own words; nothing of Python's."""
    steps: list[StartStep] = []
    workload = RagWorkload(kind="rag", questions="sample", index=str(tmp_path / "no-index"))
    with pytest.raises(UserError) as refused:
        await prepare(workload, tmp_path, 1, False, steps.append)
    assert "no-index" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "Traceback" not in str(refused.value)
    assert [step.state for step in steps][-1] == "fail"
