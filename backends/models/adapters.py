"""LoRA adapters in a folder, each in a folder of its own named like the adapter: which there are, and if one
can be used. What an engine finds wrong with an adapter only while it computes would end the engine, so all
that can be known before is known from here. Stdlib only.

The format is PEFT's: ``adapter_config.json`` and ``adapter_model.safetensors``, whose tensors are
``base_model.model.MODULE.lora_A.weight`` (r × in) and ``….lora_B.weight`` (out × r); the layer's weight
becomes W + B·A·α/r (https://arxiv.org/abs/2106.09685, 4.1).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.models.weights import file_damage, folder_shapes, shapes
from backends.settings.lora import LoraOptions

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
#: Other formats of the same, which run code or can't be checked.
_PICKLED = ("adapter_model.bin", "adapter_model.pt")
_TENSOR = re.compile(r"(?:base_model\.model\.)?(.+)\.lora_([AB])\.weight")
_MOST_NAME = 255

#: What tells a changed adapter from the one before: of each file its time (ns), size and number.
Version = tuple[tuple[int, int, int], ...]
Shapes = Mapping[str, tuple[int, ...]]


class AdapterError(Exception):
    """An adapter that can't be used: ``str(error)`` is one line that names the file."""


@dataclass(frozen=True)
class AdapterFolder:
    """``path`` holds the adapters of the model ``parent``."""

    path: Path
    parent: str

    def names(self) -> list[str]:
        """The adapters that are there now, sorted; what has no :data:`CONFIG` is none."""
        try:
            found = [entry.name for entry in self.path.iterdir() if (entry / CONFIG).is_file()]
        except OSError:
            return []
        return sorted(name for name in found if _is_name(name))

    def has(self, name: str) -> bool:
        """Whether there is a folder of that name."""
        try:
            return _is_name(name) and (self.path / name).is_dir()
        except (OSError, ValueError):
            return False

    def version(self, name: str) -> Version:
        """Raises AdapterError where one of its files is missing."""
        return tuple(_stat(self.path / name, file) for file in (CONFIG, WEIGHTS))


def adapter_folder(options: LoraOptions) -> AdapterFolder | None:
    """The local folder that was asked for, if any."""
    folder = options.folder_of(options.model)
    return None if folder is None else AdapterFolder(folder, options.model)


def check(folder: Path, shown: Path, most_rank: int, base: Shapes) -> None:
    """Raises AdapterError unless the adapter in ``folder`` is whole and fits the model. ``shown``: the folder
    that a message names; ``most_rank``: the server's; ``base``: shapes of the model's weights by name, empty
    where they are not known."""
    config = _config(folder, shown)
    rank = config.get("r")
    if type(rank) is not int or rank < 1:
        raise AdapterError(f"{shown / CONFIG}: r must be a whole number, 1 or more, not {repr(rank)[:80]}")
    if rank > most_rank:
        raise AdapterError(
            f"{shown / CONFIG}: its rank {str(rank)[:80]} is above this server's {most_rank}; start it with "
            f"--engine-arg max_lora_rank=N"
        )
    alpha = config.get("lora_alpha")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not abs(alpha) < 1e6:
        raise AdapterError(f"{shown / CONFIG}: lora_alpha must be a number, not {repr(alpha)[:80]}")
    for key, good in (("use_dora", (False, None)), ("bias", ("none", None)), ("modules_to_save", (None, []))):
        if config.get(key) not in good:
            raise AdapterError(
                f"{shown / CONFIG}: {key} is {repr(config[key])[:80]}, which vLLM does not serve"
            )
    if config.get("rank_pattern") or config.get("alpha_pattern"):
        raise AdapterError(f"{shown / CONFIG}: rank_pattern and alpha_pattern are not served by vLLM")
    if not isinstance(config.get("target_modules"), str | list):
        raise AdapterError(f"{shown / CONFIG}: no target_modules")
    try:
        if wrong := file_damage(folder / WEIGHTS):
            raise AdapterError(f"{shown / WEIGHTS}: {wrong}")
        tensors = shapes(folder / WEIGHTS)
    except OSError as error:
        raise AdapterError(f"{shown / WEIGHTS}: {_reason(error)}") from None
    except ValueError as error:
        raise AdapterError(f"{shown / WEIGHTS}: {error}") from None
    _check_tensors(tensors, shown / WEIGHTS, rank, base)


def base_shapes(model: Path | str) -> Shapes:
    """The shapes of a model's weights by name; empty where they are not those of its layers (quantised), or
    can't be read from files."""
    try:
        config = json.loads(Path(model, "config.json").read_bytes())
        return {} if "quantization_config" in config else folder_shapes(model)
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _check_tensors(tensors: Shapes, shown: Path, rank: int, base: Shapes) -> None:
    pairs: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in tensors.items():
        match = _TENSOR.fullmatch(name)
        if match is None or len(shape) != 2:
            raise AdapterError(f"{shown}: its tensor {name[:120]!r} is none of a LoRA adapter")
        pairs.setdefault(match[1], {})[match[2]] = shape
    if not pairs:
        raise AdapterError(f"{shown}: holds no tensor")
    for module, pair in pairs.items():
        if set(pair) != {"A", "B"}:
            raise AdapterError(f"{shown}: {module} has only one of lora_A and lora_B")
        down, up = pair["A"], pair["B"]
        if down[0] != rank or up[1] != rank:
            raise AdapterError(f"{shown}: {module} is not of the rank {rank} that {CONFIG} tells")
        weight = base.get(f"{module}.weight")
        if weight is not None and weight != (up[0], down[1]):
            raise AdapterError(
                f"{shown}: {module} is for a weight of {up[0]} × {down[1]}, and the model's is "
                f"{' × '.join(map(str, weight))}: it is another model's adapter"
            )
    strange = [module for module in pairs if f"{module}.weight" not in base]
    if strange and len(strange) < len(pairs):  # none at all: the model's file has other names for them
        raise AdapterError(f"{shown}: the model has no {strange[0]}: it is another model's adapter")


def _config(folder: Path, shown: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_bytes())
    except OSError as error:
        raise AdapterError(f"{shown / CONFIG}: {_reason(error)}") from None
    except (ValueError, RecursionError):
        raise AdapterError(f"{shown / CONFIG}: is no JSON") from None
    if not isinstance(config, dict):
        raise AdapterError(f"{shown / CONFIG}: is no JSON object")
    if str(config.get("peft_type", "LORA")).upper() != "LORA":
        raise AdapterError(
            f"{shown / CONFIG}: peft_type is {repr(config['peft_type'])[:80]}; only LORA is served"
        )
    return config


def _stat(folder: Path, file: str) -> tuple[int, int, int]:
    try:
        told = (folder / file).stat()
    except OSError as error:
        why = _reason(error)
        if file == WEIGHTS and any((folder / other).exists() for other in _PICKLED):
            why += "; only safetensors are served: save it again with safe_serialization"
        raise AdapterError(f"{folder / file}: {why}") from None
    return told.st_mtime_ns, told.st_size, told.st_ino


def _reason(error: OSError) -> str:
    return (
        "missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror or error})"
    )


def _is_name(name: str) -> bool:
    return (
        0 < len(name.encode(errors="replace")) <= _MOST_NAME
        and not name.startswith(".")
        and not any(char in "/\\," or ord(char) < 32 for char in name)
    )
