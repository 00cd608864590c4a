"""vLLM's operations with adapters on the CPU, mended.

vLLM gives a token of a request without an adapter the index -1, and its operations for the CPU take that for
the last adapter of the batch: requests for the model itself get an adapter's answers while both are in one
batch (0.29; vllm-project/vllm pulls 48421 and 49656, open). Here they leave out such tokens, as those for
GPUs do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

OPERATIONS = ("bgmv_shrink", "bgmv_expand", "bgmv_expand_slice")
_MARK = "_leaves_out_the_model"


def with_adapter_only(operation: Callable[..., None]) -> Callable[..., None]:
    """An operation on (inputs, weights of all adapters, outputs, index of each row's adapter, …) that leaves
    rows whose index is -1 as they are."""

    @wraps(operation)
    def left_out(inputs: Any, weights: Any, outputs: Any, indices: Any, *more: Any, **named: Any) -> None:
        has_one = indices >= 0
        if bool(has_one.all()):
            operation(inputs, weights, outputs, indices, *more, **named)
        elif bool(has_one.any()):
            some = outputs[has_one]
            operation(inputs[has_one], weights, some, indices[has_one], *more, **named)
            outputs[has_one] = some

    setattr(left_out, _MARK, True)
    return left_out


def mend() -> None:
    """Has vLLM's operations in this process do so."""
    from vllm.lora.ops import torch_ops
    from vllm.lora.ops.torch_ops import lora_ops
    from vllm.lora.punica_wrapper import punica_cpu

    for name in OPERATIONS:
        operation = getattr(lora_ops, name)
        if not hasattr(operation, _MARK):
            operation = with_adapter_only(operation)
        for module in (lora_ops, torch_ops, punica_cpu):
            setattr(module, name, operation)
