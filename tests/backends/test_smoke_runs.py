"""One command a topology: the shipped smoke run on the small model, with the servers' own live figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from backends.topology import REGISTRY

LIMIT_S = 300


@pytest.mark.parametrize("topology", REGISTRY)
def test_smoke(topology: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run = subprocess.Popen(
        [
            *(sys.executable, "-P", "-m", "rvtop.cli", "run", "smoke", "--topology", topology),
            *("--model", "tiny=tiny", "--out", str(out)),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said, _ = run.communicate(timeout=LIMIT_S)
    finally:
        run.kill()
    assert run.returncode == 0, said
    summary = json.loads((out / "summary.json").read_text())
    requests, server = summary["requests"], summary["server"]
    assert summary["topology"] == topology
    assert requests["ok"] == requests["planned"] == 24
    assert requests["errors"] == {}
    assert server["running_max"] > 0
    assert server["waiting_max"] is not None
    assert 0 < server["kv_cache_usage"]["max"] <= 1
    if topology == "rvc":
        assert server["prefix_cache_hit_rate"] > 0  # the questions repeat their passages
        assert server["preemptions"] is not None
    if topology != "baseline":
        (node,) = server["nodes"]
        assert 0 < node["cpu_mean"] <= 1
        assert 0 < node["memory_used_max"] <= node["memory_total"]
    if topology == "rsc":
        assert [row["replicas_max"] > 0 for row in server["deployments"]] == [True]
    print(topology, json.dumps(summary["kpm"]), json.dumps(server))
