"""Makes a Qwen2 model larger without changing its function, after Net2Net (Chen et al., 2016).

The small model's numbers sit in the first units of every layer. Further units, heads and layers compute on
random weights, and all that they would write to the residual stream is multiplied by zero: the arithmetic
of a large model, with the text of the small one.
"""

from __future__ import annotations

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

WIDER, LAYERS = 4, 8
_SCALE = 0.02


@torch.no_grad()
def widen(small: Qwen2ForCausalLM) -> Qwen2ForCausalLM:
    """A model ``WIDER`` times as wide (heads stay as they are, there are more of them) with ``LAYERS``
    layers and, rounding apart, the logits of ``small``."""
    old = small.config
    config = Qwen2Config(
        vocab_size=old.vocab_size,
        hidden_size=old.hidden_size * WIDER,
        intermediate_size=old.intermediate_size * WIDER,
        num_hidden_layers=LAYERS,
        num_attention_heads=old.num_attention_heads * WIDER,
        num_key_value_heads=old.num_key_value_heads * WIDER,
        max_position_embeddings=old.max_position_embeddings,
        tie_word_embeddings=False,
        # RMSNorm divides by the mean square over all units, most of them zero: see _norm.
        rms_norm_eps=old.rms_norm_eps / WIDER,
        eos_token_id=old.eos_token_id,
        pad_token_id=old.pad_token_id,
    )
    torch.manual_seed(0)
    big = Qwen2ForCausalLM(config).eval()
    _corner(big.model.embed_tokens.weight, small.model.embed_tokens.weight)
    _corner(big.lm_head.weight, small.lm_head.weight)
    _norm(big.model.norm.weight, small.model.norm.weight)
    for number, layer in enumerate(big.model.layers):
        attention, mlp = layer.self_attn, layer.mlp
        for inner in (attention.q_proj, attention.k_proj, attention.v_proj, mlp.gate_proj, mlp.up_proj):
            inner.weight.normal_(0, _SCALE)
        attention.o_proj.weight.zero_()
        mlp.down_proj.weight.zero_()
        if number >= len(small.model.layers):
            continue
        source = small.model.layers[number]
        for name in ("q_proj", "k_proj", "v_proj"):
            mine, theirs = getattr(attention, name), getattr(source.self_attn, name)
            _corner(mine.weight, theirs.weight, keep=True)
            mine.bias[: len(theirs.bias)] = theirs.bias
        for name in ("gate_proj", "up_proj"):
            _corner(getattr(mlp, name).weight, getattr(source.mlp, name).weight, keep=True)
        _corner(attention.o_proj.weight, source.self_attn.o_proj.weight)
        _corner(mlp.down_proj.weight, source.mlp.down_proj.weight)
        _norm(layer.input_layernorm.weight, source.input_layernorm.weight)
        _norm(layer.post_attention_layernorm.weight, source.post_attention_layernorm.weight)
    return big


def _corner(large: torch.Tensor, small: torch.Tensor, keep: bool = False) -> None:
    """``small`` into the upper left corner; the rest is kept or zeroed."""
    if not keep:
        large.zero_()
    large[: small.shape[0], : small.shape[1]] = small


def _norm(large: torch.Tensor, small: torch.Tensor) -> None:
    """The mean square over ``WIDER`` times the units, the new ones zero, is ``WIDER`` times smaller, so
    the norm's output would be its square root too large."""
    large.fill_(1.0)
    large[: len(small)] = small / WIDER**0.5
