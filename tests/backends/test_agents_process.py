"""50 tasks of 6 steps against RVC: figures of tasks are those of its requests, and later steps hit the prefix
cache with what the earlier ones said."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backends.whole_run import whole_run
from tests.recompute import lines
from tests.recompute_tasks import differences

LIMIT_S = 1200
SCENARIO = """\
name: fifty
seed: 5
workload:
  kind: tasks
  count: 50
  steps: 6
  prefix_tokens: 96
  prompt_tokens: {dist: uniform, min: 16, max: 48}
  growth_tokens: {dist: uniform, min: 16, max: 32}
  output_tokens: 8
  tool_ms: {dist: lognormal, mean: 100, std: 60, min: 5, max: 500}
  fan_out: 2
  fan_share: 0.25
phases:
  - {name: warm, concurrency: 1, requests: 1, warmup: true, drain: 2m}
  - {name: tasks, concurrency: 6, requests: 50, drain: 5m}
slo: {ttft_ms: 60000}
"""


@pytest.mark.timeout(LIMIT_S + 60)
def test_fifty_tasks_against_rvc(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "fifty.yaml").write_text(SCENARIO)
    out = tmp_path / "run"
    summary, said = whole_run(
        *(out, str(tmp_path / "fifty.yaml"), "--topology", "rvc", "--model", f"tiny={tiny_model}"),
        *("--ui", "plain", "--backend-options", "--threads 1 --max-model-len 2048"),
        limit_s=LIMIT_S,
    )
    tasks = summary["tasks"]
    assert (tasks["begun"], tasks["done"], tasks["steps"]["done"]) == (50, 50, 300)
    assert differences(out) == []
    assert tasks["good"] == 50
    assert tasks["queue_ms"]["count"] == 50  # the server tells of each request how long it waited
    hits = [one["hit_share"] for one in tasks["by_step"]]
    assert hits[0] is not None
    assert hits[0] > 0.3  # the shared prefix
    assert min(hits[1:]) > hits[0]  # and all that the task said before
    rows = lines(out / "requests.jsonl")
    assert {row["task"]["branch"] for row in rows} == {"", "1", "2"}
    assert "tasks 50 of 50 done" in said
