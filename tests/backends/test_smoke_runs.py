"""One command a topology: the shipped smoke run on two small models, with the servers' own live figures; and
the paper's rounds."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from backends.registry import REGISTRY
from tests.backends.whole_run import whole_run

LIMIT_S = 1200
PAPER_LIMIT_S = 1200
#: The last phase has no load: Ray hands on what the engines counted a second or two later.
EIGHT = """\
name: eight
seed: 1
workload: {kind: synthetic, prompt_tokens: 40, output_tokens: 32, ignore_eos: true}
phases:
  - {name: eight, concurrency: 8, duration: 20s, drain: 30s}
  - {name: over, rate: 0, duration: 15s}
"""
TWO = ("--model", "a=tiny", "--model", "b=tiny")


def run(scenario: str, topology: str, out: Path, limit_s: float) -> dict[str, Any]:
    """One run on the two models; its summary."""
    return whole_run(out, scenario, "--topology", topology, *TWO, limit_s=limit_s)[0]


@pytest.mark.timeout(LIMIT_S + 60)
@pytest.mark.parametrize("topology", REGISTRY)
def test_smoke(topology: str, tmp_path: Path) -> None:
    summary = run("smoke", topology, tmp_path / "run", LIMIT_S)
    requests, server = summary["requests"], summary["server"]
    assert summary["topology"] == topology
    assert requests["ok"] == requests["planned"] == 24
    assert requests["errors"] == {}
    assert {model: share["requests"]["ok"] for model, share in summary["by_model"].items()} == {
        "a": 12,
        "b": 12,
    }
    assert server["waiting_max"] is not None
    # Ray tells what runs once a second: two short answers a second may each fall between two of its looks.
    if topology != "rsv":
        assert server["running_max"] > 0
        assert 0 < server["kv_cache_usage"]["max"] <= 1
    if topology == "rvc":
        assert server["prefix_cache_hit_rate"] is not None
        assert server["preemptions"] is not None
    if topology != "baseline":
        (node,) = server["nodes"]
        assert 0 < node["cpu_mean"] <= 1
        assert 0 < node["memory_used_max"] <= node["memory_total"]
    if topology == "rsc":
        assert [row["replicas_max"] > 0 for row in server["deployments"]] == [True, True]
    if topology == "rsv":
        rows = {row["deployment"].rpartition("/")[2]: row["replicas_max"] for row in server["deployments"]}
        assert rows == {"LLMServer:a": 1, "LLMServer:b": 1, "OpenAiIngress": 1}
    print(topology, json.dumps(summary["kpm"]), json.dumps(server))


@pytest.mark.timeout(LIMIT_S + 60)
def test_eight_at_once_on_ray_serve_llm_are_in_its_figures(tmp_path: Path) -> None:
    scenario = tmp_path / "eight.yaml"
    scenario.write_text(EIGHT)
    summary = run(str(scenario), "rsv", tmp_path / "run", LIMIT_S)
    server = summary["server"]
    assert summary["requests"]["errors"] == {}
    assert server["running_max"] > 0
    assert 0 < server["kv_cache_usage"]["max"] <= 1
    replicas = Counter(row["deployment"].rpartition("/")[2] for row in server["deployments"])
    assert replicas == {"LLMServer:a": 1, "LLMServer:b": 1, "OpenAiIngress": 2}  # an application a model
    assert [row["replicas_max"] for row in server["deployments"]] == [1, 1, 1, 1]
    last = json.loads((tmp_path / "run" / "timeline.jsonl").read_text().splitlines()[-1])
    told = summary["tokens"]["output"]
    assert last["totals"]["generation_tokens"] == told


@pytest.mark.timeout(PAPER_LIMIT_S + 60)
def test_the_papers_rounds_ask_both_models_once_for_n_1(tmp_path: Path) -> None:
    summary = run("paper-rounds", "rvc", tmp_path / "run", PAPER_LIMIT_S)
    rows = [json.loads(line) for line in (tmp_path / "run" / "requests.jsonl").read_text().splitlines()]
    sent = Counter((row["phase"], row["model"]) for row in rows)
    for number in range(1, 6):
        assert [sent[f"paper/n=1#{number}", model] for model in "ab"] == [1, 1]
        assert [sent[f"paper/n=48#{number}", model] for model in "ab"] == [24, 24]
    assert summary["requests"]["ok"] == summary["requests"]["planned"] == 5 * (2 + 6 + 12 + 24 + 48)
    assert summary["server"]["prefix_cache_hit_rate"] > 0  # the rounds repeat their questions
    shares = [share["requests"]["ok"] for share in summary["by_model"].values()]
    assert shares == [230, 230]
