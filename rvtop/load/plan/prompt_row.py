"""What a row of prompts has to be, whether a user wrote it or we did: ``{id, messages | prompt, max_tokens?,
min_tokens?, at_s?, documents?: [text], turns?: [{messages, max_tokens?, delay_s?}]}``. ``documents`` are
those of a rerank, whose query is the prompt."""

from __future__ import annotations

from typing import Any

_LONGEST_DELAY_S = 1e6  # no run lasts as long, and nanoseconds would overflow far beyond it


def row_problem(row: Any) -> str | None:
    """Why a row can't be sent, in words; None when it can."""
    if not isinstance(row, dict) or not ("messages" in row or "prompt" in row):
        return 'needs "messages" or "prompt"'
    if "messages" in row and "prompt" in row:
        return 'has both "messages" and "prompt"'
    if "prompt" in row and not _is_prompt(row["prompt"]):
        return '"prompt" must be text or a list of token numbers'
    documents = row.get("documents", [""])
    if not isinstance(documents, list) or not documents or not all(isinstance(one, str) for one in documents):
        return '"documents" must be a list of texts that is not empty'
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
    delay = row.get("delay_s", 0.0)
    if isinstance(delay, bool) or not isinstance(delay, int | float) or delay < 0:
        return f'"delay_s" must be a number of seconds ≥ 0, got {delay!r}'
    if delay >= _LONGEST_DELAY_S:
        return f'"delay_s" must be below {_LONGEST_DELAY_S:g} seconds, got {delay!r}'
    return None
