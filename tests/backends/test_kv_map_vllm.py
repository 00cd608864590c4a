"""The KV map against vLLM's own block pool: stored less removed is exactly what the pool has cached, when
idle."""

from __future__ import annotations

import importlib.util
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from rvtop.telemetry.kv_stream import KvStream
from tests.backends import kv_engine, kv_pool

pytestmark = [
    pytest.mark.slow,  # each imports vLLM in a process of its own, which takes ten seconds and more
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]


def run(module: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True,
        text=True,
        timeout=800,
        env={**os.environ, "VLLM_LOGGING_LEVEL": "ERROR"},
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def batches(file: Path) -> Iterator[bytes]:
    raw, begin = file.read_bytes(), 0
    while begin < len(raw):
        (size,) = struct.unpack_from(">I", raw, begin)
        yield raw[begin + 4 : begin + 4 + size]
        begin += 4 + size


def test_the_map_is_the_block_pool_s_own_after_a_thousand_prompts(tmp_path: Path) -> None:
    run("tests.backends.kv_pool", str(tmp_path))
    told = json.loads((tmp_path / "pool.json").read_text())
    assert told["idle"]
    stream = KvStream("e", can_replay=False)
    for seq, payload in enumerate(batches(tmp_path / "batches.bin")):
        stream.live(seq, payload)
    assert {kv_pool.named(key): count for key, count in stream.map.copies().items()} == told["held"]
    picture = stream.picture(0.0)
    assert (picture.complete, stream.map.strays) == (True, 0)
    assert stream.map.evicted > 4 * kv_pool.BLOCKS
    assert 600 < picture.hits < picture.requests <= kv_pool.PROMPTS


def test_the_map_of_a_real_engine_is_its_pool_s_own(tiny_model: Path) -> None:
    with TemporaryDirectory(prefix="rvtop-kv-", dir="/tmp") as folder:
        told = json.loads(run("tests.backends.kv_engine", str(tiny_model), folder).splitlines()[-1])
    assert told["map"] == told["pool"]
    assert told["complete"]
    assert told["lost"] == 0
    assert told["used"] == 0.0  # no request uses a block, and all the same most are cached
    assert len(told["map"]) > kv_engine.BLOCKS / 2
    assert told["evicted"] > 2 * kv_engine.BLOCKS
    assert told["hits"] > 100
