"""LoRA adapters that are made for tests, as PEFT writes them, and what a model says with one in it."""

from __future__ import annotations

import copy
import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

RANK, ALPHA = 8, 16
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
#: What each answers to; with tokens that come again, so that n-grams are found in them.
PROMPTS = tuple(tuple(range(start, start + 6)) * 3 for start in (40, 300, 551))
TOKENS = 32
#: How far an adapter moves a weight, of the size of the weights themselves: its answers are others.
STRENGTH = 0.6


def tensors(model: Any, seed: int, rank: int = RANK) -> dict[str, Any]:
    """A's and B's of all linear layers of ``model``, drawn by ``seed``."""
    import torch

    draw = torch.Generator().manual_seed(seed)
    made = {}
    for name, layer in model.named_modules():
        if name.rpartition(".")[2] in MODULES:
            out, into = layer.weight.shape
            scale = STRENGTH * float(layer.weight.detach().std()) * rank / ALPHA / rank**0.5
            a, b = torch.randn(rank, into, generator=draw), torch.randn(out, rank, generator=draw)
            made[f"base_model.model.{name}.lora_A.weight"] = a
            made[f"base_model.model.{name}.lora_B.weight"] = b * scale
    return made


def write(folder: Path, weights: dict[str, Any], rank: int = RANK, **config: Any) -> Path:
    """An adapter as a folder, all of it there at once."""
    from safetensors.torch import save_file

    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix="."))
    save_file(weights, made / "adapter_model.safetensors")
    told = {"peft_type": "LORA", "r": rank, "lora_alpha": ALPHA, "target_modules": list(MODULES), **config}
    (made / "adapter_config.json").write_text(json.dumps(told))
    os.rename(made, folder)
    return folder


def merged(model: Any, weights: dict[str, Any], rank: int = RANK) -> Any:
    """A copy of ``model`` with W + B·A·α/r in place of W."""
    import torch

    made = copy.deepcopy(model)
    layers = dict(made.named_modules())
    with torch.no_grad():
        for name, a in weights.items():
            if name.endswith("lora_A.weight"):
                b = weights[name.replace("lora_A", "lora_B")]
                layer = layers[name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")]
                layer.weight += (b @ a) * (ALPHA / rank)
    return made


def greedy(model: Any, prompts: Iterable[Sequence[int]], tokens: int) -> list[list[int]]:
    """What ``model`` says to each prompt, the likeliest token each time, past end tokens."""
    import torch

    answers = []
    for prompt in prompts:
        ids = torch.tensor([list(prompt)])
        with torch.no_grad():
            out = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False
            )
        answers.append(out[0, ids.shape[1] :].tolist())
    return answers
