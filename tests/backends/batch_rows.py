"""The rows that a batch is tried with, and what is known of them: how long each answer is, which can't be
had, and whether answers that differ between two ways differ by a tie."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: Two best logits this close (float32) are one number, added up in another order.
TIE = 1e-4
SHORTEST = 8
#: What is wrong with a poisoned row -> what its error says.
POISON = {
    "too long": "too long:",
    "empty": "messages: must be a list that is not empty",
    "bad role": "must be one of system",
    "NaN": "temperature: nan is not a finite number",
}


def write_rows(path: Path, count: int, longest: int, *, mean: float = 4.0) -> list[str]:
    """``count`` chats in OpenAI's batch format, four of them poisoned, spread over the file. Each has a fixed
    length, lognormal (``mean`` and 1 of the logarithm) within 8…``longest``; greedy. Returns the ids of those
    that are good."""
    random_ = random.Random(19)
    poisoned = {(2 * i + 1) * count // (2 * len(POISON)): kind for i, kind in enumerate(POISON)}
    lines = []
    for number in range(count):
        tokens = int(min(longest, max(SHORTEST, random_.lognormvariate(mean, 1.0))))
        words = " ".join(f"{random_.randrange(10_000)}" for _ in range(random_.randrange(4, 40)))
        body: dict[str, Any] = {
            "messages": [{"role": "user", "content": f"Question {number}: {words}?"}],
            "temperature": 0,
            "max_tokens": tokens,
            "min_tokens": tokens,
            "ignore_eos": True,
        }
        if kind := poisoned.get(number):
            body |= _poisoned(kind)
        row = {"custom_id": f"q{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        lines.append(json.dumps(row) + "\n")
    path.write_text("".join(lines), "utf-8")
    return [f"q{number}" for number in range(count) if number not in poisoned]


def _poisoned(kind: str) -> dict[str, Any]:
    if kind == "too long":
        return {"messages": [{"role": "user", "content": "word " * 20_000}]}
    if kind == "empty":
        return {"messages": []}
    if kind == "bad role":
        return {"messages": [{"role": "wizard", "content": "hello"}]}
    return {"temperature": float("nan")}


def answers(folder: Path) -> dict[str, list[int]]:
    """Tokens of each row of a way; raises AssertionError for an id that stands there twice."""
    found: dict[str, list[int]] = {}
    for line in (folder / "results.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        assert row["custom_id"] not in found, f"{row['custom_id']} stands in {folder} twice"
        found[row["custom_id"]] = row["response"]["body"]["choices"][0]["token_ids"]
    return found


def check_poison(folder: Path) -> None:
    """Raises AssertionError unless ``errors.jsonl`` holds the four, each with what is wrong with it."""
    errors = (folder / "errors.jsonl").read_text("utf-8").splitlines()
    messages = [json.loads(line)["error"]["message"] for line in errors]
    assert len(messages) == len(POISON), messages
    for text in POISON.values():
        assert any(text in message for message in messages), (text, messages)


def ties(
    file: Path, wanted: Mapping[str, Sequence[int]], got: Mapping[str, Sequence[int]], loaded: tuple[Any, Any]
) -> list[str]:
    """One line for each row that differs; raises AssertionError where its first other token is no tie.
    ``loaded``: (model, tokenizer) through Transformers. What follows a tie has another past."""
    import torch

    model, tokenizer = loaded
    rows = {row["custom_id"]: row for row in map(json.loads, file.read_text("utf-8").splitlines())}
    lines = []
    for id_, right in wanted.items():
        left = got[id_]
        assert len(right) == len(left) == rows[id_]["body"]["max_tokens"]
        if right == left:
            continue
        at = next(i for i, pair in enumerate(zip(right, left, strict=True)) if pair[0] != pair[1])
        text = tokenizer.apply_chat_template(
            rows[id_]["body"]["messages"], tokenize=False, add_generation_prompt=True
        )
        past = torch.tensor([[*tokenizer.encode(text, add_special_tokens=False), *right[:at]]])
        with torch.no_grad():
            best = torch.topk(model(past).logits[0, -1].float(), 2)
        gap = float(best.values[0] - best.values[1])
        line = f"{id_}, token {at}: {right[at]} or {left[at]}, the two best logits are {gap:.1e} apart"
        assert gap < TIE, f"no tie: {line}"
        assert set(best.indices.tolist()) == {right[at], left[at]}, line
        lines.append(line)
    return lines
