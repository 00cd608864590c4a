"""The local Qwen2 models: a real tokenizer, varied text, the same bytes every time."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.corpus import sample
from backends.models.load import load_model
from backends.models.tiny.tiny import ensure_model
from tests.deferred import Deferred

if TYPE_CHECKING:
    from tokenizers import Tokenizer

torch = Deferred("torch")
safetensors = Deferred("safetensors.torch")
tokenizers = Deferred("tokenizers")
transformers = Deferred("transformers")
bpe = Deferred("backends.models.tiny.bpe")
qwen2 = Deferred("backends.models.tiny.qwen2")
school = Deferred("backends.models.tiny.school")


@pytest.fixture(scope="module")
def large_model(tiny_model: Path) -> Path:
    return ensure_model("large")


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Tokenizer:
    return tokenizers.Tokenizer.from_file(str(tiny_model / "tokenizer.json"))


def _prompts(folder: Path) -> list[list[int]]:
    """A RAG prompt for each sample question, with contexts other than those of the training."""
    chat = transformers.AutoTokenizer.from_pretrained(folder)

    def render(messages: list[dict[str, str]]) -> str:
        return chat.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    rng = random.Random("test")
    return [chat(x.prompt(render, rng, contexts=4, sure=1.0)).input_ids for x in school.lessons()]


def test_greedy_text_is_varied_also_past_its_end(tiny_model: Path) -> None:
    model, tokenizer = load_model(tiny_model, "float32")
    prompts = _prompts(tiny_model)
    rows = qwen2.greedy(model, prompts, qwen2.WINDOW)
    assert len(rows) == 24
    distinct = [len(set(row)) for row in rows]
    print(f"distinct tokens in {qwen2.WINDOW}: {sorted(distinct)}")
    assert min(distinct) >= qwen2.MIN_DISTINCT
    further = qwen2.greedy(model, [p + r for p, r in zip(prompts[:4], rows[:4], strict=True)], qwen2.WINDOW)
    assert min(len(set(row)) for row in further) >= qwen2.MIN_DISTINCT
    assert len({tuple(row) for row in rows}) > 12, "answers depend on what is asked"
    assert any(tokenizer.decode(row).isascii() for row in rows)
    assert any("다." in tokenizer.decode(row) for row in rows)


def test_answers_end_by_themselves(tiny_model: Path) -> None:
    model, _ = load_model(tiny_model, "float32")
    prompts = [torch.tensor([ids]) for ids in _prompts(tiny_model)[:6]]
    # The model's own generation config, as every server uses it.
    assert any(model.generate(p, max_new_tokens=256)[0, -1].item() == qwen2.IM_END for p in prompts)


def test_every_id_of_the_output_layer_is_a_token(tiny_model: Path, tokenizer: Tokenizer) -> None:
    model, loaded = load_model(tiny_model, "float32")
    assert model.lm_head.out_features == model.config.vocab_size == len(loaded) == qwen2.VOCAB
    tokens = [tokenizer.id_to_token(i) for i in range(qwen2.VOCAB)]
    assert None not in tokens
    assert len(set(tokens)) == qwen2.VOCAB
    assert tokens[-3:] == ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    assert all(tokenizer.decode([i], skip_special_tokens=False) for i in range(qwen2.VOCAB))
    assert loaded.eos_token == "<|im_end|>"
    assert loaded.pad_token == "<|endoftext|>"
    assert model.config.max_position_embeddings == loaded.model_max_length == qwen2.CONTEXT
    assert set(transformers.GenerationConfig.from_pretrained(tiny_model).eos_token_id) == {
        qwen2.VOCAB - 1,
        qwen2.VOCAB - 3,
    }


@given(text=st.text(max_size=40))
def test_any_text_survives_the_tokenizer(text: str) -> None:
    folder = ensure_model("tiny")
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    special = any(mark in text for mark in bpe.SPECIAL)
    ids = tokenizer.encode(text).ids
    normal = tokenizer.normalizer.normalize_str(text)
    assert special or tokenizer.decode(ids, skip_special_tokens=False) == normal


def test_auto_tokenizer_reads_the_same_ids_as_the_file(tiny_model: Path, tokenizer: Tokenizer) -> None:
    loaded = transformers.AutoTokenizer.from_pretrained(tiny_model)
    for text in [
        "1,500원과 7304번, don't",
        "<|im_start|>user\nGaon 2:40\n\n<|im_end|>",
        sample.documents()[1].text,
    ]:
        assert loaded(text).input_ids == tokenizer.encode(text).ids


def test_chat_template_is_chatml(tiny_model: Path) -> None:
    chat = transformers.AutoTokenizer.from_pretrained(tiny_model)
    asked = [{"role": "user", "content": "안녕?"}]
    told = [{"role": "system", "content": "S"}, *asked, {"role": "assistant", "content": "A"}, *asked]

    def render(messages: list[dict[str, str]], generate: bool) -> str:
        return chat.apply_chat_template(messages, tokenize=False, add_generation_prompt=generate)

    user = "<|im_start|>user\n안녕?<|im_end|>\n"
    default = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    assert render(asked, True) == f"{default}{user}<|im_start|>assistant\n"
    assert render(asked, False) == default + user
    assert render(told, True) == (
        f"<|im_start|>system\nS<|im_end|>\n{user}<|im_start|>assistant\nA<|im_end|>\n{user}<|im_start|>assistant\n"
    )
    ids = chat.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
    assert ids == chat(render(asked, True)).input_ids


def test_large_says_what_tiny_says(tiny_model: Path, large_model: Path) -> None:
    tiny, _ = load_model(tiny_model, "float32")
    large, _ = load_model(large_model, "float32")
    shape = large.config
    assert (shape.num_hidden_layers, shape.hidden_size, shape.intermediate_size) == (8, 512, 1536)
    assert sum(p.numel() for p in large.parameters()) > 25 * sum(p.numel() for p in tiny.parameters())
    prompts = _prompts(tiny_model)[:4]
    with torch.no_grad():
        for ids in prompts:
            row = torch.tensor([ids])
            torch.testing.assert_close(large(row).logits, tiny(row).logits, atol=2e-3, rtol=1e-3)
    assert qwen2.greedy(large, prompts, 32) == qwen2.greedy(tiny, prompts, 32)


def test_training_is_repeatable_to_the_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backends.models.tiny.school.SHORT_STEPS", 8)
    monkeypatch.setattr("backends.models.tiny.school.FULL_STEPS", 4)
    lines = [line for d in sample.documents() for line in d.text.splitlines(True)]

    def build() -> tuple[str, bytes]:
        tokenizer = bpe.train(lines, qwen2.VOCAB)
        done: list[float] = []
        model = school.train(qwen2.tiny_config(), tokenizer, lambda ms: ms[1]["content"], 7, done.append)
        assert done == sorted(done)
        return tokenizer.to_str(), safetensors.save(model.state_dict())

    assert build() == build()


def test_too_little_text_for_the_vocabulary() -> None:
    with pytest.raises(ValueError, match="too little text"):
        bpe.train(["short"], qwen2.VOCAB)


def test_unknown_size() -> None:
    with pytest.raises(ValueError, match="no local model of size 'huge'"):
        ensure_model("huge")
