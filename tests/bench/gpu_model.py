"""Model folders of real shapes, for hosts where no weights can be had."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

#: hidden, intermediate, layers, heads, KV heads
SHAPES = {"1.5b": (1536, 8960, 28, 12, 2), "3b": (2048, 11008, 36, 16, 2)}
VOCABULARY = 151936


def dummy_model(folder: Path, shape: str) -> Path:
    """A folder with configuration and tokenizer only, for ``--load-format dummy``; ``tiny`` is the small
    model with its weights. Made once. Its name says nothing of the model's family: vLLM's Rust front end
    would look for that family's way to reason."""
    from backends.models.tiny.tiny import ensure_model

    if shape == "tiny":
        return ensure_model()
    path = folder / f"dummy-{shape}"
    if not (path / "config.json").exists():
        path.mkdir(parents=True, exist_ok=True)
        _tokenizer(ensure_model(), path)
        config = _config(shape) | {
            "model_type": "qwen2",
            "architectures": ["Qwen2ForCausalLM"],
            "hidden_act": "silu",
            "torch_dtype": "bfloat16",
        }
        (path / "config.json").write_text(json.dumps(config))
    return path


def build_model(folder: Path, shape: str) -> Path:
    """A model folder of a real shape with random weights, or the small model (``tiny``); made once."""
    from backends.models.tiny.tiny import ensure_model

    if shape == "tiny":
        return ensure_model()
    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config

    path = folder / f"qwen2.5-{shape}"
    if (path / "config.json").exists():
        return path
    config = Qwen2Config(**_config(shape))
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    path.mkdir(parents=True)
    _tokenizer(ensure_model(), path)
    model.save_pretrained(path)
    return path


def _config(shape: str) -> dict[str, Any]:
    hidden, inner, layers, heads, kv_heads = SHAPES[shape]
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": 32768,
        "rope_theta": 1e6,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
    }


def _tokenizer(source: Path, path: Path) -> None:
    """The small model's tokenizer with its vocabulary filled up, so that any sampled id has a text."""
    for name in ("tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        if (source / name).exists():
            (path / name).write_bytes((source / name).read_bytes())
    data = json.loads((source / "tokenizer.json").read_text("utf-8"))
    vocabulary = data["model"]["vocab"]
    taken = set(vocabulary.values()) | {token["id"] for token in data["added_tokens"]}
    for number in range(VOCABULARY):
        if number not in taken:
            vocabulary[f"w{number}"] = number
    (path / "tokenizer.json").write_text(json.dumps(data, ensure_ascii=False), "utf-8")
