"""What a model's folder says of its size: ``config.json``, and the headers of its safetensors files. No
weight is read."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rvtop.errors import UserError
from rvtop.system.files import check_regular, read_regular
from rvtop.text import printable

#: Bytes of a number, by the names of safetensors and of Hugging Face's ``dtype``.
BYTES = {
    **{"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1},
    **{"F8_E4M3": 1, "F8_E5M2": 1},
    **{"float32": 4, "float16": 2, "bfloat16": 2, "fp8": 1},
}
_MOST_HEADER = 100_000_000  # safetensors' own limit


@dataclass(frozen=True, slots=True)
class ModelSize:
    """``parameters`` and ``weights`` (bytes as they lie on the disk); the shape of its keys and values; its
    ``dtype`` by Hugging Face's name, and the longest ``context`` in tokens (None: not told)."""

    parameters: int
    weights: int
    layers: int
    kv_heads: int
    head_dim: int
    hidden: int
    vocabulary: int
    dtype: str
    context: int | None = None

    def kv_bytes(self, dtype: str) -> int:
        """Keys and values of one token: 2 × layers × KV heads × head dimension × bytes of a number (Kwon et
        al., Efficient memory management for large language model serving with PagedAttention, SOSP 2023)."""
        return 2 * self.layers * self.kv_heads * self.head_dim * BYTES[dtype]


def read_model(folder: Path) -> ModelSize:
    """The size of the model in ``folder``. Raises UserError, one line that names the file."""
    config = _config(folder / "config.json")
    text = config.get("text_config")
    shape: dict[str, Any] = text if isinstance(text, dict) else config
    heads = _whole(folder, shape, "num_attention_heads")
    hidden = _whole(folder, shape, "hidden_size")
    parameters, weights = _weights(folder)
    dtype = str(shape.get("dtype") or shape.get("torch_dtype") or config.get("dtype") or "float32")
    if dtype not in BYTES:
        raise UserError(f"{folder / 'config.json'}: dtype {dtype}: must be one of float32, float16, bfloat16")
    return ModelSize(
        parameters,
        weights,
        _whole(folder, shape, "num_hidden_layers"),
        _whole(folder, shape, "num_key_value_heads", heads),
        _whole(folder, shape, "head_dim", hidden // heads),
        hidden,
        _whole(folder, shape, "vocab_size"),
        dtype,
        shape.get("max_position_embeddings"),
    )


def _config(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_regular(path))
    except OSError as error:
        raise UserError(
            f"--model: {printable(str(path))}: {error.strerror}; give a folder of a Hugging Face model"
        ) from None
    except (ValueError, RecursionError):
        raise UserError(f"--model: {printable(str(path))}: is not JSON; fetch the model again") from None
    if not isinstance(found, dict):
        raise UserError(f"--model: {printable(str(path))}: is no object; fetch the model again")
    return found


def _whole(folder: Path, config: dict[str, Any], key: str, default: int | None = None) -> int:
    value = config.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 10**9:
        raise UserError(f"--model: {folder / 'config.json'}: {key} must be a whole number above 0")
    return value


def _weights(folder: Path) -> tuple[int, int]:
    """(parameters, bytes) of all safetensors files of a folder."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UserError(
            f"--model: {printable(str(folder))}: has no *.safetensors; other formats say their size nowhere"
        )
    parameters = size = 0
    for path in files:
        for tensor in _header(path).values():
            count = math.prod(tensor["shape"])
            parameters += count
            size += count * BYTES[tensor["dtype"]]
    return parameters, size


def _header(path: Path) -> dict[str, Any]:
    """The tensors of a safetensors file: eight bytes of length, then JSON. A file that is shorter than its
    header says is one that was cut."""
    try:
        check_regular(path)
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= _MOST_HEADER:
                raise ValueError
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        end = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
        known = all(tensor["dtype"] in BYTES and tensor["shape"] is not None for tensor in header.values())
        if path.stat().st_size < 8 + length + end or not known:
            raise ValueError
    except OSError as error:
        raise UserError(f"--model: {printable(str(path))}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        raise UserError(
            f"--model: {printable(str(path))}: is no whole safetensors file; fetch the model again"
        ) from None
    return dict(header)
