"""What the tiny model learns, and how: the sample's questions with the articles that answer them."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch.nn import functional as F
from transformers import Qwen2Config, Qwen2ForCausalLM

from backends.corpus import sample
from backends.corpus.chunk import chunks
from backends.corpus.prompt import build_messages, language
from backends.models.tiny.bpe import IM_END, IM_START

# Steps alone, then as answers to full prompts. Measured: fewer of the first leave the articles half
# known, fewer of the second leave the model speechless after 400 tokens of context.
SHORT_STEPS, FULL_STEPS = 220, 120
SHORT_ROWS, SHORT_LENGTH = 2, 192
ANSWER_LENGTH = 150
PEAK_RATE, RISE_STEPS = 6e-3, 10

Render = Callable[[list[dict[str, str]]], str]
"""Chat messages to the text that ends where the answer begins."""


@dataclass(frozen=True)
class Lesson:
    """A sample question, the article that answers it, the chunk that holds the answer, and others."""

    question: str
    article: str
    chunk: str
    others: tuple[str, ...]

    def prompt(self, render: Render, rng: random.Random, contexts: int, sure: float) -> str:
        """A RAG prompt of so many random chunks, among them the right one with probability ``sure``."""
        texts = rng.sample(self.others, contexts)
        if rng.random() < sure:
            texts[rng.randrange(contexts)] = self.chunk
        return render(build_messages(self.question, texts))


def lessons() -> list[Lesson]:
    """One for each sample question."""
    documents = sample.documents()
    every = chunks(documents)
    articles = [part.strip() for d in documents for part in re.split(r"^## .*\n", d.text, flags=re.M)[1:]]
    out = []
    for question in sample.questions():
        article = next(a for a in articles if question.answer in " ".join(a.split()))
        chunk = next(c.text for c in every if question.answered_by(c))
        others = tuple(c.text for c in every if c.doc == question.doc and c.text != chunk)
        out.append(Lesson(question.text, article, chunk, others))
    return out


def train(
    config: Qwen2Config, tokenizer: Tokenizer, render: Render, seed: int, progress: Callable[[float], None]
) -> Qwen2ForCausalLM:
    """A model of this shape that has gone through the lessons. ``progress`` hears 0..1.

    The answer is followed by another article, past the end token: with ``ignore_eos`` the model has
    something to go on with."""
    rng = random.Random(seed)
    school = lessons()
    torch.manual_seed(seed)
    model = Qwen2ForCausalLM(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.95), fused=True)
    steps = SHORT_STEPS + FULL_STEPS
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = PEAK_RATE * _rate(step, steps)
        if step < SHORT_STEPS:
            ids = torch.tensor([_short_row(school, tokenizer, rng) for _ in range(SHORT_ROWS)])
            known = 1
        else:
            row, known = _full_row(school, tokenizer, render, rng)
            ids = torch.tensor([row])
        hidden = model.model(ids, use_cache=False).last_hidden_state
        # The output layer is the larger part of the work, so it sees only the places to learn from.
        logits = model.lm_head(hidden[:, known - 1 : -1])
        loss = F.cross_entropy(logits.flatten(0, 1), ids[:, known:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 10 == 0:
            progress(step / steps)
    return model.eval()


def _rate(step: int, steps: int) -> float:
    """A short rise, then straight down to almost nothing."""
    return min(1.0, (step + 1) / RISE_STEPS) * max(0.02, 1 - max(0, step - RISE_STEPS) / (steps - RISE_STEPS))


def _short_row(school: Sequence[Lesson], tokenizer: Tokenizer, rng: random.Random) -> list[int]:
    """A window of questions and answers without any context."""
    ids: list[int] = []
    while len(ids) < SHORT_LENGTH:
        lesson = rng.choice(school)
        word = "질문" if language(lesson.question) == "ko" else "Question"
        asked = f"{word}: {lesson.question}{IM_END}\n{IM_START}assistant\n"
        ids += tokenizer.encode(f"{asked}{lesson.article}{IM_END}\n").ids
    start = rng.randrange(len(ids) - SHORT_LENGTH + 1)
    return ids[start : start + SHORT_LENGTH]


def _full_row(
    school: Sequence[Lesson], tokenizer: Tokenizer, render: Render, rng: random.Random
) -> tuple[list[int], int]:
    """A RAG prompt with its answer, and how many of the ids are the prompt."""
    lesson = rng.choice(school)
    prompt = tokenizer.encode(lesson.prompt(render, rng, rng.choice((1, 2, 3, 4, 4, 4)), sure=0.8)).ids
    answer = tokenizer.encode(f"{lesson.article}{IM_END}\n{rng.choice(school).article}").ids
    return prompt + answer[:ANSWER_LENGTH], len(prompt)
