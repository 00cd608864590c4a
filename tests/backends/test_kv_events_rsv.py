"""``rsv --kv-events``: an engine in a replica of Ray Serve tells what it caches, and a session draws it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rvtop.contract.command import Stop
from tests.backends.backend_process import BackendProcess
from tests.faults.sessions import Watched, request

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]

#: Prompts of several of its blocks, which are 128 tokens long on the CPU.
WORKLOAD = {"kind": "synthetic", "prompt_tokens": 300, "output_tokens": 8, "ignore_eos": True}


async def test_the_cache_of_serve_llm_s_engine_is_drawn(tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    pytest.importorskip("vllm")
    process = BackendProcess(
        *("rsv", "--lease", "--model", f"tiny={tiny_model}", "--dtype", "float32", "--threads", "1"),
        *("--max-model-len", "2048", "--gpu-memory-utilization", "0.2", "--kv-events"),
        log=tmp_path / "rsv.log",
    )
    try:
        phase = {"name": "hold", "rate": 2, "duration": "60m", "drain": "30s"}
        watched = Watched(request(process.url, tmp_path / "run", phase, workload=WORKLOAD))
        await watched.until(lambda s: s.load.ok >= 10, "ten answers")
        s = await watched.until(
            lambda s: s.kv_map and min(s.kv_map.engines[0].cached, s.kv_map.engines[0].requests) >= 10,
            "blocks of ten requests are cached",
        )
        watched.send(Stop())
        outcome = await watched.end()
        process.end_lease()
        assert process.wait() == 0
    finally:
        process.kill()
    assert s.kv_map is not None
    assert s.kv_map.note == ""
    (engine,) = s.kv_map.engines
    assert (engine.complete, engine.lost, engine.why) == (True, 0, "")
    assert engine.requests >= 10
    assert outcome.summary is not None
    assert outcome.summary["kv_map"]["engines"] == 1
    assert outcome.summary["kv_map"]["cached"]["max"] >= 10
