"""vLLM's own block pool under random prompts, in a process of its own: ``python -m tests.backends.kv_pool
FOLDER``.

It drives vLLM's `KVCacheManager` as its scheduler does: requests of random lengths, most of them with one of
a few beginnings, run side by side, decode, and end; the pool is small, so that blocks are evicted all the
time. What the pool publishes goes through vLLM's own encoder into ``batches.bin`` (length and bytes of
each), and what it then holds into ``pool.json``: how many blocks it has of each hash."""

from __future__ import annotations

import json
import random
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK = 16
BLOCKS = 400
PROMPTS = 1000
#: Requests that run at once, and the most tokens of each.
RUNNING = 8
MOST = 320


def main(folder: Path, blocks: int = BLOCKS, at_once: int = RUNNING) -> None:
    """Runs all prompts, ``at_once`` side by side in a pool of ``blocks``, and writes both files."""
    import msgspec
    from vllm.distributed.kv_events import KVEventBatch

    manager, pool = made_manager(blocks)
    encoder = msgspec.msgpack.Encoder()
    with open(folder / "batches.bin", "wb") as file:
        for step in steps(manager, at_once):
            if events := manager.take_events():
                payload = encoder.encode(KVEventBatch(ts=float(step), events=list(events)))
                file.write(struct.pack(">I", len(payload)) + payload)
    idle = pool.get_num_free_blocks() == blocks - 1  # but for the null block
    (folder / "pool.json").write_text(json.dumps({"idle": idle, "held": held_by(pool)}))


def held_by(pool: Any) -> dict[str, int]:
    """How many blocks a pool has of each hash, named as its events name it: its own map of what is cached."""
    from vllm.v1.core.kv_cache_utils import get_block_hash, maybe_convert_block_hash

    return {
        named(maybe_convert_block_hash(get_block_hash(key))): len(blocks) if isinstance(blocks, dict) else 1
        for key, blocks in pool.cached_block_hash_to_block._cache.items()
    }


def named(key: Any) -> str:
    """A hash as JSON has it; vLLM sends 64 bits of it as a number, or all of it as bytes."""
    return key.hex() if isinstance(key, bytes) else str(key)


def made_manager(blocks: int) -> tuple[Any, Any]:
    """A manager of a small pool that tells of its blocks, and the pool."""
    import torch
    from vllm.utils.hashing import sha256
    from vllm.v1.core.kv_cache_manager import KVCacheManager
    from vllm.v1.core.kv_cache_utils import init_none_hash
    from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec

    init_none_hash(sha256)
    spec = FullAttentionSpec(block_size=BLOCK, num_kv_heads=1, head_size=8, dtype=torch.float32)
    config = KVCacheConfig(
        num_blocks=blocks, kv_cache_tensors=[], kv_cache_groups=[KVCacheGroupSpec(["layer"], spec)]
    )
    manager = KVCacheManager(
        config,
        max_model_len=MOST + BLOCK,
        scheduler_block_size=BLOCK,
        hash_block_size=BLOCK,
        enable_kv_cache_events=True,
    )
    return manager, manager.block_pool


def steps(manager: Any, at_once: int) -> Iterator[int]:
    """Runs the prompts; yields after each step of the engine."""
    from vllm.sampling_params import SamplingParams
    from vllm.utils.hashing import sha256
    from vllm.v1.core.kv_cache_utils import get_request_block_hasher
    from vllm.v1.request import Request

    luck = random.Random(16)
    hasher = get_request_block_hasher(BLOCK, sha256)
    beginnings = [[luck.randrange(30_000) for _ in range(luck.randrange(20, 160))] for _ in range(12)]
    running: list[tuple[Any, int]] = []
    started = step = 0
    while started < PROMPTS or running:
        step += 1
        while started < PROMPTS and len(running) < at_once:
            first = luck.choice(beginnings) if luck.random() < 0.8 else []
            # Now and then a prompt that runs already, so that equal blocks are computed side by side.
            rest = [luck.randrange(30_000) for _ in range(luck.randrange(1, 120))]
            prompt = (
                list(running[-1][0].prompt_token_ids) if running and luck.random() < 0.1 else [*first, *rest]
            )
            params = SamplingParams(max_tokens=MOST)
            request = Request(f"r{started}", prompt, params, None, block_hasher=hasher)
            computed, count = manager.get_computed_blocks(request)[:2]
            new = request.num_tokens - count
            assert manager.allocate_slots(request, new, count, computed) is not None
            request.num_computed_tokens = request.num_tokens
            running.append((request, luck.randrange(1, 60)))
            started += 1
        yield step
        for request, _ in running:
            request.append_output_token_ids(luck.randrange(30_000))
            assert manager.allocate_slots(request, 1) is not None
            request.num_computed_tokens += 1
        ended = [request for request, tokens in running if request.num_output_tokens >= tokens]
        for request in ended:
            manager.free(request)
        running = [(request, tokens) for request, tokens in running if request not in ended]
    yield step + 1


if __name__ == "__main__":
    main(Path(sys.argv[1]))
