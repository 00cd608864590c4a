"""Whether a folder's weights can be whole, from the files' headers alone: milliseconds, where loading them
takes minutes and fails with a text that names no file.

The format is safetensors': eight bytes with the length of a JSON header, the header with the place of each
tensor, the tensors. (https://github.com/huggingface/safetensors, "Format")
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

INDEX = "model.safetensors.index.json"
_LENGTH = struct.Struct("<Q")
_MOST_HEADER = 100 << 20  # safetensors' own limit


def damage(source: Path | str) -> str | None:
    """What is wrong with the weights in a folder, naming the file; None where nothing shows, where there are
    none of this format, and for what is no folder."""
    folder = Path(source)
    if not folder.is_dir():
        return None
    try:
        for path in _files(folder):
            if wrong := file_damage(path):
                return f"{path}: {wrong}"
    except OSError as error:
        return f"{error.filename or folder}: cannot be read ({error.strerror})"
    return None


def _files(folder: Path) -> Iterator[Path]:
    """The files that the index names, without one those that are there."""
    index = folder / INDEX
    if index.is_file():
        try:
            named = set(json.loads(index.read_bytes())["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError):
            named = set()
        if named:
            yield from (folder / str(name) for name in sorted(named, key=str))
            return
    yield from sorted(folder.glob("*.safetensors"))


def file_damage(path: Path) -> str | None:
    """What is wrong with one file; None where nothing shows. Raises OSError where it can't be read."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(_LENGTH.size)
            if len(head) < _LENGTH.size:
                return f"cut short: it has {size} bytes"
            (length,) = _LENGTH.unpack(head)
            if length > _MOST_HEADER:
                return "damaged: it does not begin as safetensors do"
            header = file.read(length)
    except FileNotFoundError:
        return "missing"
    if len(header) < length:
        return f"cut short: it has {size} bytes of {_LENGTH.size + length} and more"
    try:
        end = _LENGTH.size + length + _last(json.loads(header))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "damaged: its header is not safetensors'"
    if size < end:
        return f"cut short: it has {size} bytes of {end}"
    return None if size == end else f"damaged: it has {size} bytes, and its header tells of {end}"


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors of a file that :func:`file_damage` finds nothing wrong with, by name. Raises
    ValueError for one that has none."""
    with path.open("rb") as file:
        (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
        header = json.loads(file.read(length))
    found: dict[str, tuple[int, ...]] = {}
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        shape = tensor.get("shape")
        if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
            raise ValueError(f"damaged: its header has no shape of {name[:120]!r}")
        found[name] = tuple(shape)
    return found


def folder_shapes(source: Path | str) -> dict[str, tuple[int, ...]]:
    """The same of all files of a model's folder; empty where that is none of this format."""
    folder, found = Path(source), dict[str, tuple[int, ...]]()
    if folder.is_dir() and damage(folder) is None:
        for path in _files(folder):
            found |= shapes(path)
    return found


def _last(header: dict[str, Any]) -> int:
    """Where the last tensor ends, from the first one's beginning."""
    ends = (tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__")
    return max((int(end) for end in ends), default=0)
