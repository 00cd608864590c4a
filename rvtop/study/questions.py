"""The questions of a quality check: what was asked, and whether what was retrieved holds the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from rvtop.results.answers import Question, holds
from rvtop.scenario.workload import RagWorkload, Workload
from rvtop.text import printable_names, told
from rvtop.workload.prepare import question_rows

#: Of a prompt's own text, where no question is told apart from it.
_MOST_TEXT = 2000


def questions_of(workload: Workload, prompts: Path) -> list[Question]:
    """The questions of ``prompts.jsonl``, which was made of ``workload``, in its order.

    Retrieval is judged where the prompt holds what was retrieved (``where: client``) and the question's file
    says what the answer is (``answer``, as it stands in the documents). Raises WorkloadError.
    """
    rows = [orjson.loads(line) for line in prompts.read_bytes().splitlines() if line.strip()]
    asked = question_rows(workload.questions) if isinstance(workload, RagWorkload) else [{} for _ in rows]
    inside = isinstance(workload, RagWorkload) and workload.where == "client"
    names = printable_names(told(row.get("id"), 200) or f"p{number}" for number, row in enumerate(rows, 1))
    found = []
    for name, row, facts in zip(names, rows, asked, strict=False):
        text, expected = facts.get("question"), facts.get("answer")
        prompt = _text_of(row)
        known = inside and isinstance(expected, str) and bool(expected.strip())
        hit = holds(prompt, str(expected)) if known else None
        found.append(Question(name, text if isinstance(text, str) else _last(row)[:_MOST_TEXT], hit))
    return found


def _text_of(row: dict[str, Any]) -> str:
    return "\n".join(str(message.get("content") or "") for message in row.get("messages", ()))


def _last(row: dict[str, Any]) -> str:
    """What is asked in it: its last message, or its prompt."""
    messages = row.get("messages")
    return str(messages[-1].get("content") or "") if messages else str(row.get("prompt", ""))
