"""The waterfall on real engines: what they tell of each request against their own histograms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.backends.whole_run import whole_run

LIMIT_S = 600
#: More requests than places, so that their queue is a part that counts.
SCENARIO = """
name: parts
workload: {kind: synthetic, prompt_tokens: 300, output_tokens: 24}
phases:
  - {name: warm, concurrency: 5, duration: 3s, warmup: true}
  - {name: hold, concurrency: 5, duration: 20s, drain: 1m}
"""
PARTS = ("queue_ms", "prefill_ms", "decode_ms")
#: What tells the parts of each topology, and which of them it cannot know. (Of `rsv` there are no histograms
#: beside: its queue is Serve's, in front of vLLM.)
TOLD = {"rvc": ("usage.rvtop", ()), "vllm": ("metrics", ("router_ms",)), "rsv": ("metrics", ("router_ms",))}


def summed_up(topology: str, folder: Path) -> dict[str, Any]:
    scenario, out = folder / "parts.yaml", folder / "run"
    scenario.write_text(SCENARIO)
    words = ("--topology", topology, "--model", "tiny", "--engine-arg", "max_num_seqs=2")
    return whole_run(out, str(scenario), *words, limit_s=LIMIT_S)[0]


@pytest.mark.timeout(LIMIT_S + 60)
@pytest.mark.parametrize("topology", TOLD)
def test_each_part_is_what_the_engine_s_own_histograms_say(topology: str, tmp_path: Path) -> None:
    summary = summed_up(topology, tmp_path)
    source, unknown = TOLD[topology]
    told, server = summary["ttft_parts"], summary["server"]
    mean = told["mean"]
    print(topology, json.dumps(mean), {name: server[f"{name[:-3]}_time_ms_mean"] for name in PARTS})
    assert told["source"] == source
    assert told["told"] == told["requests"] == summary["requests"]["ok"] > 20
    for name in PARTS if topology != "rsv" else ():
        own = server[f"{name[:-3]}_time_ms_mean"]
        assert abs(mean[name] - own) <= max(1.0, 0.1 * own), name
    assert topology == "rsv" or mean["queue_ms"] > 1.0, "the load was to make a queue"
    assert all(mean[name] is None for name in unknown)
    if "router_ms" not in unknown:
        assert 0 <= mean["router_ms"] < mean["ttft_ms"]
    for rank in ("mean", "p50", "p99"):
        parts = told[rank]
        names = ("lag_ms", "network_ms", "router_ms", "queue_ms", "retrieve_ms", "prefill_ms")
        assert sum(parts[name] or 0.0 for name in names) == pytest.approx(parts["ttft_ms"], abs=1.0)
