"""What the model says through Transformers alone, and what is retrieved for a question: made once for all
processes and kept, because importing what makes it takes longer than all else here."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from backends.models import build_once
from tests.backends.conformance import QUESTIONS, messages
from tests.backends.parity import PROMPTS, Sequence, generated

ROOT = Path(__file__).parents[2]
#: A prompt that is given as text and as token ids.
ENCODED = "휴가는 며칠"
#: Tokens of a greedy answer, and passages that are retrieved for a question.
TOKENS, TOP_K = 48, 3


@dataclass(frozen=True)
class Reference:
    """Token ids of ``ENCODED``; (prompt, answer) of each of QUESTIONS; messages with what was retrieved for
    the first of them, and their prompt's token ids; the answers of the parity tests."""

    encoded: list[int]
    answers: list[Sequence]
    retrieved: list[dict[str, str]]
    retrieved_prompt: list[int]
    parity: list[Sequence]


def load(model: Path) -> tuple[Any, Any]:
    """(model, tokenizer) through Transformers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    loaded.generation_config.eos_token_id = None  # goes on past end tokens, as `ignore_eos` does
    return loaded, AutoTokenizer.from_pretrained(model)


def made(folder: Path, loaded: Callable[[], tuple[Any, Any]]) -> Reference:
    """The reference of the model in ``folder``; ``loaded`` gives it where nothing was kept."""

    def build(into: Path) -> None:
        (into / "reference.json").write_text(json.dumps(_asked(*loaded())))

    text = (build_once("reference", _recipe(folder), build) / "reference.json").read_text()
    stored = json.loads(text)
    for name in ("answers", "parity"):
        stored[name] = [Sequence(tuple(prompt), tuple(answer)) for prompt, answer in stored[name]]
    return Reference(**stored)


def _recipe(folder: Path) -> str:
    """Names all that it is made of."""
    code = [PROMPTS, *sorted((ROOT / "tests" / "backends").glob("*.py"))]
    for part in ("corpus", "rag", "models"):
        code += sorted(path for path in (ROOT / "backends" / part).rglob("*") if path.suffix != ".pyc")
    data = sha256(b"".join(path.read_bytes() for path in code if path.is_file())).hexdigest()[:12]
    return f"{folder.name}-{version('torch')}-{version('transformers')}-{data}"


def _asked(model: Any, tokenizer: Any) -> dict[str, Any]:
    import torch

    from backends.corpus.prompt import build_messages
    from backends.rag.retriever import Retriever

    def rendered(conversation: list[dict[str, str]]) -> list[int]:
        text = tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
        return list(tokenizer.encode(text, add_special_tokens=False))

    answers = []
    for question in QUESTIONS:
        ids = rendered(messages(question))
        prompt = torch.tensor([ids])
        with torch.no_grad():
            whole = model.generate(
                prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=TOKENS, do_sample=False
            )
        answers.append((ids, whole[0, len(ids) :].tolist()))
    (hits,) = Retriever.open("sample").search([QUESTIONS[0]], TOP_K)
    retrieved = build_messages(QUESTIONS[0], [hit.text for hit in hits])
    return {
        "encoded": tokenizer.encode(ENCODED),
        "answers": answers,
        "retrieved": retrieved,
        "retrieved_prompt": rendered(retrieved),
        "parity": [(each.prompt, each.answer) for each in generated(model, tokenizer)],
    }
