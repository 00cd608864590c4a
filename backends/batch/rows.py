"""The rows of a batch as tokens: each is looked at before any engine sees it, because an engine that a row
fails in may take others with it (Ray Data LLM goes on after a failure in its engine stage alone)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

#: What ``max_tokens`` is where a row of text does not say: OpenAI's default for completions. A chat may take
#: what is left of the context.
TEXT_TOKENS = 16


@dataclass(frozen=True)
class Work:
    """A row that an engine can take. ``sampling`` are arguments of vLLM's SamplingParams: every row has the
    same keys, because Ray Data keeps rows in one Arrow table and fills what is missing with None."""

    key: int
    token_ids: list[int]
    sampling: dict[str, Any]

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Work:
        return cls(**json.loads(text))


class Refused(Exception):
    """A row that no engine can take; ``str()`` says why."""


def prepare(
    path: Path,
    tokenizer: Any,
    max_model_len: int,
    check: Callable[[Mapping[str, Any]], None],
    refused: Callable[[int, str], None],
    looked_at: Callable[[int], None],
) -> Iterator[Work]:
    """The rows of a work file. ``check`` raises ValueError for sampling parameters that vLLM refuses,
    ``refused`` is told the key of each row that is not given, and why, ``looked_at`` how many were read."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            row = json.loads(line)
            try:
                yield _work(row, tokenizer, max_model_len, check)
            except Refused as error:
                refused(int(row["key"]), str(error))
            looked_at(number)


def _work(
    row: Mapping[str, Any], tokenizer: Any, max_model_len: int, check: Callable[[Mapping[str, Any]], None]
) -> Work:
    tokens = _tokens(row, tokenizer)
    if not tokens:
        raise Refused("the prompt has no tokens")
    room = max_model_len - len(tokens)
    asked = row["max_tokens"]
    if room < 1 or (asked or 1) > room:
        wanted = f" and {asked} of output" if asked else ""
        raise Refused(f"too long: {len(tokens)} tokens of prompt{wanted}, the model takes {max_model_len}")
    most = asked or (room if "messages" in row else min(room, TEXT_TOKENS))
    sampling = {**row["sampling"], "max_tokens": most}
    sampling["min_tokens"] = min(sampling["min_tokens"], most)
    try:
        check(sampling)
    except ValueError as error:
        raise Refused(" ".join(str(error).split())[:300]) from error
    return Work(int(row["key"]), tokens, sampling)


def _tokens(row: Mapping[str, Any], tokenizer: Any) -> list[int]:
    if "messages" not in row:
        return _encoded(tokenizer, row["prompt"])
    try:
        text = tokenizer.apply_chat_template(row["messages"], add_generation_prompt=True, tokenize=False)
    except Exception as error:  # a template is a program of the model's: it may raise anything
        raise Refused(
            f"the model's chat template refuses it: {' '.join(str(error).split())[:200]}"
        ) from error
    return _encoded(tokenizer, text, add_special_tokens=False)


def _encoded(tokenizer: Any, text: str, **how: bool) -> list[int]:
    try:
        return list(tokenizer(text, **how).input_ids)
    except Exception as error:  # halves of surrogate pairs; a tokenizer may be a program of the model's, too
        reason = " ".join(str(error).split())[:200]
        raise Refused(f"the model's tokenizer refuses it: {reason}") from error
