"""A real vLLM engine on the CPU with a small cache, and rvtop's KV map of it, in one process:
``python -m tests.backends.kv_engine MODEL FOLDER``.

The engine publishes at Unix sockets in FOLDER as ours do. 1 000 random prompts, most of them with one of a
few beginnings, go through a cache that holds a few dozen requests' blocks. Then, idle, the last line printed
is a JSON object: what the engine's block pool holds of each hash, what the map holds, and the map's figures.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path

BLOCKS = 96
PROMPTS = 1000
AT_ONCE = 50


def main(model: str, folder: Path) -> None:
    """Runs all prompts."""
    os.environ |= {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "TORCHDYNAMO_DISABLE": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    from vllm import LLM, SamplingParams
    from vllm.config import KVEventsConfig

    from backends.settings.kv_events import argument, sockets
    from rvtop.telemetry.kv_events import KvEvents, KvSource
    from tests.backends.kv_pool import held_by, named

    places = sockets(folder)
    engine = LLM(
        model,
        dtype="float32",
        enforce_eager=True,
        max_model_len=256,
        block_size=32,  # 128 by default on the CPU, where few prompts fill one
        max_num_seqs=8,
        num_gpu_blocks_override=BLOCKS,
        gpu_memory_utilization=0.1,
        kv_events_config=KVEventsConfig(**json.loads(argument(places)[1])),
        disable_log_stats=True,
    )
    events = KvEvents([KvSource("e", places["url"], places["replay"])], look_s=0.2)
    events.start()
    luck = random.Random(16)
    beginnings = [[luck.randrange(3, 300) for _ in range(luck.randrange(20, 120))] for _ in range(6)]
    prompts = []
    for _ in range(PROMPTS):
        first = luck.choice(beginnings) if luck.random() < 0.8 else []
        prompts.append([*first, *(luck.randrange(3, 300) for _ in range(luck.randrange(1, 90)))])
    params = SamplingParams(max_tokens=6, ignore_eos=True, temperature=0)
    for begin in range(0, PROMPTS, AT_ONCE):
        batch = [{"prompt_token_ids": prompt} for prompt in prompts[begin : begin + AT_ONCE]]
        engine.generate(batch, params, use_tqdm=False)
    scheduler = engine.llm_engine.engine_core.engine_core.scheduler
    publisher, end = scheduler.kv_event_publisher, time.monotonic() + 60
    while not publisher._event_queue.empty() and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(1.0)  # what is on its way: the engine is idle
    events.stop()
    (stream,) = events.streams
    pool = scheduler.kv_cache_manager.block_pool
    (cache,) = events.picture.engines
    told = {
        "pool": held_by(pool),
        "map": {named(key): count for key, count in stream.map.copies().items()},
        "evicted": stream.map.evicted,
        "hits": cache.hits,
        "lost": cache.lost,
        "complete": cache.complete,
        "used": pool.get_usage(),
        "cpu_s": events.cpu_s,
    }
    print(json.dumps(told), flush=True)
    os._exit(0)  # nothing of vLLM's has to be waited for


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
