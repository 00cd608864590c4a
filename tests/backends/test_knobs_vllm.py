"""What a phase asks of a real vLLM server: an empty prefix cache, and its profiler."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.backends.conftest import Launch
from tests.faults.sessions import Watched, request

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]

LITTLE = ("--threads", "1", "--dtype", "float32", "--max-model-len", "512", "--gpu-memory-utilization", "0.2")
WORKLOAD = {"kind": "synthetic", "prompt_tokens": 200, "output_tokens": 8, "ignore_eos": True}
PHASES = (
    {"name": "warm", "rate": 2, "duration": "3s"},
    {"name": "cold", "rate": 2, "duration": "3s", "reset_prefix_cache": True},
    {"name": "traced", "rate": 2, "duration": "2s", "profile": True},
    {"name": "after", "rate": 2, "duration": "2s"},
)
ACTS = ("reset_prefix_cache", "start_profile", "stop_profile")


@pytest.mark.parametrize("offered", [True, False])
async def test_the_cache_is_reset_and_the_profiler_runs_for_its_phase(
    launch: Launch, tiny_model: Path, tmp_path: Path, *, offered: bool
) -> None:
    """``offered``: vLLM was started so that it can; else each refusal is told, and the load goes on."""
    pytest.importorskip("vllm")
    traces = tmp_path / "traces"
    config = json.dumps({"profiler": "torch", "torch_profiler_dir": str(traces)})
    more = ("--engine-arg", f"profiler_config={config}") if offered else ()
    env = {"VLLM_SERVER_DEV_MODE": "1"} if offered else {}
    backend = launch(
        "vllm", "--lease", "--model", f"tiny={tiny_model}", *LITTLE, "--kv-events", *more, env=env
    )
    watched = Watched(request(backend.url, tmp_path / "run", *PHASES, workload=WORKLOAD))
    s = await watched.until(lambda s: s.phase is not None and s.phase.name == "after", "the last phase")
    outcome = await watched.end()
    assert outcome.exit_code == 0
    assert outcome.summary is not None
    assert outcome.summary["requests"]["ok"] == outcome.summary["requests"]["sent"] > 10
    done = {row["cmd"]: row["refused"] for row in watched.rows("commands.jsonl") if row["cmd"] in ACTS}
    print(done, sorted(one.name for one in traces.glob("*")) if traces.exists() else "no traces")
    facts = json.loads((tmp_path / "run" / "environment.json").read_text())["server"]
    if offered:
        assert done == dict.fromkeys(ACTS)
        assert [one for one in traces.rglob("*") if one.stat().st_size > 1000], "no trace was written"
        assert "tiny" in facts["vllm_config"]
        assert s.kv_map is not None
        assert s.kv_map.engines[0].complete
    else:
        assert "VLLM_SERVER_DEV_MODE=1" in str(done["reset_prefix_cache"])
        assert "--profiler-config" in str(done["start_profile"])
        assert "stop_profile" not in done
        assert "vllm_config" not in facts
        assert facts["version"]
