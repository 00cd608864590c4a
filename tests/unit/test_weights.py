"""Weights that are damaged are named by their file, before anything loads them."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from backends.models.load import ModelError, check_weights
from backends.models.weights import INDEX, damage


def write(path: Path, values: int = 100) -> bytes:
    """A file of one tensor, as safetensors writes it."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [values], "data_offsets": [0, 4 * values]}}).encode()
    whole = struct.pack("<Q", len(header)) + header + bytes(4 * values)
    path.write_bytes(whole)
    return whole


def test_whole_weights_have_no_damage(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors")
    assert damage(tmp_path) is None
    assert damage(tmp_path / "model.safetensors") is None  # no folder
    assert damage("owner/name") is None  # of the Hub


def test_the_real_tiny_model_is_whole() -> None:
    from backends.models.tiny.tiny import ensure_model

    assert damage(ensure_model("tiny")) is None


@pytest.mark.parametrize("kept", [0, 7, 8, 20, 300, -1])
def test_a_file_that_is_cut_short_is_named_with_its_sizes(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "model.safetensors"
    whole = write(path)
    path.write_bytes(whole[:kept])
    found = damage(tmp_path)
    assert found is not None
    assert found.startswith(f"{path}: cut short: it has {len(whole[:kept])} bytes")
    path.write_bytes(whole)
    assert damage(tmp_path) is None


@pytest.mark.parametrize("content", [b"\xff" * 400, struct.pack("<Q", 4) + b"[1]]" + bytes(9)])
def test_what_is_no_safetensors_is_damaged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    assert (damage(tmp_path) or "").startswith(f"{path}: damaged")


def test_more_than_its_header_tells_is_damage_too(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(write(path) + b"more")
    assert "its header tells of" in (damage(tmp_path) or "")


def test_a_shard_that_the_index_names_is_missed(tmp_path: Path) -> None:
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": shards[0], "b": shards[1]}}))
    write(tmp_path / shards[0])
    assert damage(tmp_path) == f"{tmp_path / shards[1]}: missing"
    with pytest.raises(ModelError, match=r"00002-of-00002\.safetensors: missing; copy that file here again"):
        check_weights(tmp_path)
    write(tmp_path / shards[1])
    assert damage(tmp_path) is None
