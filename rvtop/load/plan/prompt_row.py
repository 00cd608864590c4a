"""What a row of prompts has to be, whether a user wrote it or we did: ``{id, messages | prompt, max_tokens?,
min_tokens?, at_s?, documents?: [text], turns?: [{messages, max_tokens?, delay_s?}]}``; of a task, instead of
``turns``, ``steps: [{messages, max_tokens?, tool_s?, after?, whole?}]`` (docs/agents.md). ``documents`` are
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
    if row.get("turns") and "steps" in row:
        return 'has both "turns" (of a conversation) and "steps" (of a task)'
    key = "steps" if "steps" in row else "turns"
    turns = row.get(key, [])
    if turns and "prompt" in row:
        return f'"{key}" need "messages", not "prompt"'
    if not isinstance(turns, list):
        return f'"{key}" must be a list'
    problem = _turn_problem(row) if "messages" in row else _numbers_problem(row)
    for i, turn in enumerate(turns):
        if problem is None:
            problem = _turn_problem(turn) if isinstance(turn, dict) else "must be {messages: …}"
            if problem is None and key == "steps":
                problem = _step_problem(turn, i + 1)
            problem = None if problem is None else f"{key}[{i}]: {problem}"
    return problem


def _step_problem(step: dict[str, Any], number: int) -> str | None:
    """``number``: the task's own messages are step 0."""
    after = step.get("after", [number - 1])
    known = isinstance(after, list) and all(type(one) is int and 0 <= one < number for one in after)
    if not known or not after or len(set(after)) < len(after):
        return f'"after" must be a list of steps from 0 to {number - 1}, each once, got {after!r}'
    if not isinstance(step.get("whole", False), bool):
        return f'"whole" must be true or false, got {step["whole"]!r}'
    return None


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
    for key in ("delay_s", "tool_s"):
        delay = row.get(key, 0.0)
        if isinstance(delay, bool) or not isinstance(delay, int | float) or not delay >= 0:
            return f'"{key}" must be a number of seconds ≥ 0, got {delay!r}'
        if delay >= _LONGEST_DELAY_S:
            return f'"{key}" must be below {_LONGEST_DELAY_S:g} seconds, got {delay!r}'
    return None
