"""Builds the small local Qwen2 models: real `Qwen2ForCausalLM`s, trained on the sample corpus.

Plain random weights repeat one token for ever, which would make every check of streamed text empty. So the
tiny model learns, in seconds, the articles that answer the sample questions. It speaks in their sentences
and now and then even answers what was asked; it is for measuring servers, not for its wisdom.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import AutoTokenizer, GenerationConfig, Qwen2Config, Qwen2ForCausalLM

from backends.corpus import sample
from backends.models import Progress
from backends.models.progress_bars import no_progress_bars
from backends.models.tiny import bpe
from backends.models.tiny.school import lessons, train
from backends.models.tiny.widen import widen

VOCAB = 2048
CONTEXT = 4096  # tokens that a prompt and its answer may hold together
END_OF_TEXT, IM_START, IM_END = range(VOCAB - len(bpe.SPECIAL), VOCAB)
MIN_DISTINCT, WINDOW = 16, 64  # distinct ids among the first greedy ones, for every sample question
ATTEMPTS = 3


def build_tiny(folder: Path, progress: Progress) -> None:
    """Trains and writes the model and its tokenizer. The same machine writes the same bytes each time."""
    progress("tokenizer", 0.0)
    tokenizer = bpe.train((line for d in sample.documents() for line in d.text.splitlines(True)), VOCAB)
    bpe.save(tokenizer, folder, CONTEXT)
    chat = AutoTokenizer.from_pretrained(folder)

    def render(messages: list[dict[str, str]]) -> str:
        return str(chat.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    with _own_torch_settings():
        for seed in range(ATTEMPTS):
            model = train(
                tiny_config(), tokenizer, render, seed, lambda done: progress("training", 0.01 + 0.94 * done)
            )
            progress("checking its text", 0.95)
            rng = random.Random(seed)
            prompts = [tokenizer.encode(x.prompt(render, rng, contexts=4, sure=1.0)).ids for x in lessons()]
            # Another processor rounds otherwise and may end in a model that repeats itself.
            if min(len(set(row)) for row in greedy(model, prompts, WINDOW)) >= MIN_DISTINCT:
                break
        else:
            raise RuntimeError(f"the local model repeats itself after {ATTEMPTS} trainings")
        _save(model, folder)
    progress("ready", 1.0)


def build_large(tiny: Path, folder: Path, progress: Progress) -> None:
    """Writes the tiny model made larger without changing what it says (see `widen`)."""
    progress("widening", 0.0)
    with _own_torch_settings():
        model = widen(Qwen2ForCausalLM.from_pretrained(tiny, dtype=torch.float32))
        _save(model, folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((tiny / name).read_bytes())
    progress("ready", 1.0)


@torch.no_grad()
def greedy(model: Qwen2ForCausalLM, prompts: list[list[int]], tokens: int) -> list[list[int]]:
    """The likeliest ``tokens`` ids after each prompt; end tokens do not end it."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[END_OF_TEXT] * (longest - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    settings = GenerationConfig(max_new_tokens=tokens, do_sample=False, pad_token_id=END_OF_TEXT)
    own, model.generation_config = model.generation_config, GenerationConfig()  # it would add its end tokens
    try:
        out = model.generate(ids, attention_mask=mask, generation_config=settings)
    finally:
        model.generation_config = own
    return [list(map(int, row)) for row in out[:, longest:]]


def tiny_config() -> Qwen2Config:
    """The tiny model's shape."""
    # rope_theta stays at 10000: a default that all releases of transformers read alike.
    return Qwen2Config(
        vocab_size=VOCAB,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        eos_token_id=IM_END,
        pad_token_id=END_OF_TEXT,
    )


def _save(model: Qwen2ForCausalLM, folder: Path) -> None:
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=[IM_END, END_OF_TEXT], pad_token_id=END_OF_TEXT
    )
    model.save_pretrained(folder)


@contextmanager
def _own_torch_settings() -> Iterator[None]:
    """One thread, so that sums are taken in the same order everywhere and a busy neighbour on the other
    core does not stall every step; the caller's threads and random state come back afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]), no_progress_bars():
            yield
    finally:
        torch.set_num_threads(threads)
