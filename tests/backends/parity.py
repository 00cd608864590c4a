"""Parity: greedy decoding says the same on every topology, or differs by a tie that is shown to be one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.backends.conformance import CHAT

PROMPTS = Path(__file__).parents[2] / "scenarios" / "smoke.prompts.jsonl"
COUNT, TOKENS = 20, 64
# Two logits this close (float32, sums of some hundred products) are one number, added up in another order.
TIE = 1e-3


@dataclass(frozen=True)
class Sequence:
    """A prompt's token ids, and those of the answer."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


def rag_prompts() -> list[list[dict[str, str]]]:
    """Messages of the shipped scenario: questions with what was retrieved for them."""
    lines = PROMPTS.read_text("utf-8").splitlines()[:COUNT]
    prompts = [json.loads(line)["messages"] for line in lines]
    assert len(prompts) == COUNT
    return prompts


async def asked(client: httpx.AsyncClient, at_once: int) -> list[Sequence]:
    """What a server answers to them, so many requests at a time."""
    gate = asyncio.Semaphore(at_once)

    async def one(messages: list[dict[str, str]]) -> Sequence:
        body = {"messages": messages, "temperature": 0, "max_tokens": TOKENS, "ignore_eos": True}
        async with gate:
            answer = await client.post(CHAT, json={**body, "return_token_ids": True}, timeout=120)
        assert answer.status_code == 200, answer.text
        data = answer.json()
        return Sequence(tuple(data["prompt_token_ids"]), tuple(data["choices"][0]["token_ids"]))

    return list(await asyncio.gather(*(one(messages) for messages in rag_prompts())))


def generated(model: Any, tokenizer: Any) -> list[Sequence]:
    """What Transformers alone generates (which the baseline's answers are, token by token)."""
    import torch

    sequences = []
    for messages in rag_prompts():
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        prompt = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
        with torch.no_grad():
            ids = model.generate(
                prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=TOKENS, do_sample=False
            )
        ids = ids[0].tolist()
        sequences.append(Sequence(tuple(ids[: prompt.shape[1]]), tuple(ids[prompt.shape[1] :])))
    return sequences


def differences(
    model: Callable[[], tuple[Any, Any]], wanted: list[Sequence], got: list[Sequence]
) -> list[str]:
    """One line for each answer that is another: where, which tokens, and how far apart their logits are.

    ``model`` gives (model, tokenizer), and is asked where an answer differs.
    Raises AssertionError for a difference that is no tie. What follows a tie has another past, and is not
    compared.
    """
    lines = []
    for number, (right, left) in enumerate(zip(wanted, got, strict=True)):
        assert left.prompt == right.prompt, f"prompt {number} was rendered otherwise"
        assert len(left.answer) == len(right.answer) == TOKENS
        if left.answer == right.answer:
            continue
        at = next(i for i in range(TOKENS) if left.answer[i] != right.answer[i])
        import torch

        past = torch.tensor([[*right.prompt, *right.answer[:at]]])
        with torch.no_grad():
            logits = model()[0](past).logits[0, -1]
        gap = float(logits[right.answer[at]] - logits[left.answer[at]])
        line = f"prompt {number}, token {at}: {right.answer[at]} or {left.answer[at]}, logits {gap:.2e} apart"
        assert abs(gap) < TIE, f"no tie: {line}"
        lines.append(line)
    return lines
