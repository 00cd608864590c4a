"""ShareGPT conversations as prompts: ``[{id, conversations: [{from: human | gpt | system, value}]}, …]``.

The recorded answers were made by some other model's tokenizer, so their length in tokens is an estimate: a
token to every four bytes of UTF-8, which is near the truth for English and for Korean or Chinese alike.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from rvtop.workload.rows import WorkloadError, user

BYTES_A_TOKEN = 4
_ROLES = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "chatgpt", "assistant", "bing", "bard"), "assistant"),
    "system": "system",
}
_CHUNK = 1 << 20
#: A conversation is smaller than this; what still doesn't end is damaged.
_LARGEST = 64 << 20
_DECODER = json.JSONDecoder()


def tokens_of(text: str) -> int:
    """About how many tokens ``text`` is, >= 1."""
    return max(1, -(-len(text.encode("utf-8", "replace")) // BYTES_A_TOKEN))


def rows(
    path: Path, *, multi_turn: bool, think_s: float | None, max_tokens: int | None, limit: int | None
) -> Iterator[dict[str, Any]]:
    """Rows of ``prompts.jsonl``, for the first ``limit`` conversations that have a question with an answer.

    Raises WorkloadError: which file, which row, what.
    """
    made = _made(path, multi_turn, think_s, max_tokens)
    try:
        yield from islice(made, limit)
    except (OSError, UnicodeDecodeError) as error:
        raise WorkloadError(f"{path}: can't be read: {error}") from error


def _made(
    path: Path, multi_turn: bool, think_s: float | None, max_tokens: int | None
) -> Iterator[dict[str, Any]]:
    for where, item in _items(path):
        try:
            system, pairs = _pairs(item)
        except ValueError as problem:
            raise WorkloadError(f"{path}: {where}: {problem}") from None
        if not pairs:
            continue
        question, answer = pairs[0]
        name = item.get("id")
        row: dict[str, Any] = {"id": str(where if name is None else name)}
        row["messages"] = [*system, user(question)]
        row["max_tokens"] = max_tokens or tokens_of(answer)
        if multi_turn and len(pairs) > 1:
            turns = []
            for question, next_answer in pairs[1:]:
                turn: dict[str, Any] = {
                    "messages": [{"role": "assistant", "content": answer}, user(question)],
                    "max_tokens": max_tokens or tokens_of(next_answer),
                }
                turns.append(turn | ({"delay_s": think_s} if think_s else {}))
                answer = next_answer
            row["turns"] = turns
        yield row


def _pairs(item: Any) -> tuple[list[dict[str, str]], list[tuple[str, str]]]:
    """System message (or none), and the questions with their answers.

    What comes before the first question is left out (ShareGPT's files are cut into pieces that may begin
    with an answer), so is a last question without an answer; messages of one side in a row are one.
    """
    talk = item.get("conversations") if isinstance(item, dict) else None
    if not isinstance(talk, list):
        raise ValueError('must be {"id": …, "conversations": […]}')
    system: list[dict[str, str]] = []
    pairs: list[list[str]] = []
    last = ""
    for number, said in enumerate(talk, 1):
        if not isinstance(said, dict) or not isinstance(said.get("value"), str):
            raise ValueError(f'message {number} must be {{"from": …, "value": …}}')
        role = _ROLES.get(str(said.get("from")))
        if role is None:
            raise ValueError(f"message {number} is from {said.get('from')!r}; known: {', '.join(_ROLES)}")
        text = said["value"]
        if not text.strip():
            continue
        if role == "system":
            if not system and not pairs:
                system = [{"role": "system", "content": text}]
        elif role == last:
            pairs[-1][-1] += f"\n\n{text}"
        elif role == "user":
            pairs.append([text])
            last = role
        elif pairs:
            pairs[-1].append(text)
            last = role
    return system, [(pair[0], pair[1]) for pair in pairs if len(pair) == 2]


def _items(path: Path) -> Iterator[tuple[str, Any]]:
    """(``row 3``, the row) of each conversation."""
    with path.open(encoding="utf-8-sig") as file:
        if path.suffix == ".jsonl":
            for number, line in enumerate(file, 1):
                if line.strip():
                    try:
                        yield f"line {number}", json.loads(line)
                    except ValueError as error:
                        raise WorkloadError(f"{path}:{number}: not JSON: {error}") from error
        else:
            for number, item in enumerate(_array(path, file), 1):
                yield f"row {number}", item


def _array(path: Path, file: TextIO) -> Iterator[Any]:
    """The items of a JSON list, one at a time: the usual file is 600 MB, a few thousand rows are wanted."""
    text, at = _skip_blank(file, "", 0)
    if text[at : at + 1] != "[":
        raise WorkloadError(f"{path}: must be a list of conversations: [{{…}}, …]")
    at, number = at + 1, 0
    while True:
        text, at = _skip_blank(file, text, at)
        mark = text[at : at + 1]
        if mark == "]":
            return
        if number:
            if mark != ",":
                raise WorkloadError(f"{path}: row {number}: must be followed by , or ]")
            text, at = _skip_blank(file, text, at + 1)
        number += 1
        try:
            text, at, item = _value(file, text, at)
        except ValueError as problem:
            raise WorkloadError(f"{path}: row {number}: not JSON: {problem}") from None
        yield item


def _skip_blank(file: TextIO, text: str, at: int) -> tuple[str, int]:
    """The text with ``at`` moved to what is not blank; the end of the text when nothing more comes."""
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if at < len(text):
            return text, at
        text, at = file.read(_CHUNK), 0
        if not text:
            return "", 0


def _value(file: TextIO, text: str, at: int) -> tuple[str, int, Any]:
    """The text, where it goes on, and the JSON value at ``at``, read until it is whole. Raises ValueError."""
    more = _CHUNK
    while True:
        try:
            item, end = _DECODER.raw_decode(text, at)
            return text, end, item
        except json.JSONDecodeError as error:
            chunk = file.read(more) if len(text) - at < _LARGEST else ""
            if not chunk:
                raise ValueError(error.msg) from None
            # Doubling keeps a damaged row from being parsed over and over for each chunk that follows it.
            text, at, more = text[at:] + chunk, 0, more * 2
