"""Prompt files: ``.txt`` with a prompt a line, and ``.jsonl`` with rows as ``prompts.jsonl`` has them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from rvtop.workload.rows import WorkloadError, encode, user_row

_BOM = b"\xef\xbb\xbf"


def lines(path: Path, limit: int | None) -> Iterator[bytes]:
    """Lines of ``prompts.jsonl`` for the first ``limit`` prompts of a file. Raises WorkloadError."""
    found = _jsonl(path) if path.suffix == ".jsonl" else _text(path)
    try:
        yield from islice(found, limit)
    except (OSError, UnicodeDecodeError) as error:
        raise WorkloadError(f"{path}: can't be read: {error}") from error


def _text(path: Path) -> Iterator[bytes]:
    with path.open(encoding="utf-8-sig") as file:
        prompts = (line.rstrip("\n") for line in file if line.strip())
        for i, prompt in enumerate(prompts, 1):
            yield encode(user_row(f"p{i}", prompt))


def _jsonl(path: Path) -> Iterator[bytes]:
    """The file's own lines, each looked at: what a worker would trip over is told before the load starts."""
    kind = ""
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            line = raw.removeprefix(_BOM).strip()
            if not line:
                continue
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise WorkloadError(f"{path}:{number}: not JSON: {error}") from error
            problem = row_problem(row)
            if problem is None:
                here = "messages" if "messages" in row else "prompt"
                if kind and here != kind:
                    problem = f"has {here!r} where the lines before have {kind!r}"
                kind = here
            if problem is not None:
                raise WorkloadError(f"{path}:{number}: {problem}")
            if "at_s" in row:  # the prompts of a replayed trace, now sent in turn
                line = orjson.dumps({key: value for key, value in row.items() if key != "at_s"})
            yield line + b"\n"


def row_problem(row: Any) -> str | None:
    """Why a row can't be sent, in words; None when it can."""
    if not isinstance(row, dict) or not ("messages" in row or "prompt" in row):
        return 'needs "messages" or "prompt"'
    if "messages" in row and "prompt" in row:
        return 'has both "messages" and "prompt"'
    if "prompt" in row and not _is_prompt(row["prompt"]):
        return '"prompt" must be text or a list of token numbers'
    turns = row.get("turns", [])
    if turns and "prompt" in row:
        return '"turns" need "messages", not "prompt"'
    if not isinstance(turns, list):
        return '"turns" must be a list'
    problem = _turn_problem(row) if "messages" in row else _numbers_problem(row)
    for i, turn in enumerate(turns):
        if problem is None:
            problem = _turn_problem(turn) if isinstance(turn, dict) else "must be {messages: …}"
            problem = None if problem is None else f"turns[{i}]: {problem}"
    return problem


def _is_prompt(prompt: Any) -> bool:
    if isinstance(prompt, list):
        return bool(prompt) and all(type(token) is int for token in prompt)
    return isinstance(prompt, str)


def _turn_problem(turn: dict[str, Any]) -> str | None:
    messages = turn.get("messages")
    if not isinstance(messages, list) or not messages:
        return '"messages" must be a list that is not empty'
    if not all(isinstance(one, dict) and isinstance(one.get("role"), str) for one in messages):
        return '"messages" must hold {"role": …, "content": …}'
    return _numbers_problem(turn)


def _numbers_problem(row: dict[str, Any]) -> str | None:
    for key, least in (("max_tokens", 1), ("min_tokens", 0)):
        value = row.get(key)
        if value is not None and (type(value) is not int or value < least):
            return f'"{key}" must be a whole number ≥ {least}, got {value!r}'
    delay = row.get("delay_s")
    if delay is not None and (isinstance(delay, bool) or not isinstance(delay, int | float) or delay < 0):
        return f'"delay_s" must be a number of seconds ≥ 0, got {delay!r}'
    return None
