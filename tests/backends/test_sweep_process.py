"""A sweep over 2 × 2 arguments of a real engine, killed in its second combination, goes on where it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.processes import alive, children, wait_for

#: An engine that starts beside other work.
START_LIMIT_S = 600.0
SCENARIO = """\
name: short
seed: 3
workload: {kind: synthetic, prompt_tokens: 24, output_tokens: 8, count: 8}
phases: [{name: hold, rate: 4, duration: 3s, drain: 60s}]
"""


@pytest.mark.timeout(3000)
def test_each_combination_is_measured_exactly_once(tiny_model: Path, tmp_path: Path) -> None:
    scenario, out = tmp_path / "short.yaml", tmp_path / "out"
    scenario.write_text(SCENARIO)
    command = [
        *(sys.executable, "-m", "rvtop.cli", "sweep", str(scenario), "--topology", "rvc", "--out", str(out)),
        *("--vary", "max_num_seqs=4,8", "--vary", "max_num_batched_tokens=1024,2048"),
        *("--model", f"tiny={tiny_model}", "--backend-options", "--threads 1", "--ui", "plain"),
    ]
    environ = os.environ | {"XDG_STATE_HOME": str(tmp_path / "state")}

    def whole() -> set[Path]:
        return {path.parent for path in out.glob("*/summary.json") if ".cut" not in path.parent.name}

    def second_sends() -> bool:
        others = [path for path in out.glob("*/requests.jsonl") if path.parent not in whole()]
        return first.poll() is not None or (bool(whole()) and any(path.stat().st_size for path in others))

    with (tmp_path / "first.log").open("wb") as log:
        first = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
    try:
        wait_for(second_sends, "the load of the second combination", 2 * START_LIMIT_S)
        assert first.poll() is None, (tmp_path / "first.log").read_text()
        below = children(first.pid)
    finally:
        first.kill()
        first.wait()
    wait_for(lambda: not any(alive(pid) for pid in below), "the end of its processes")
    kept = {done: (done / "requests.jsonl").read_bytes() for done in whole()}
    assert 1 <= len(kept) < 4

    again = subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=4 * START_LIMIT_S, check=False
    )
    assert again.returncode == 0, again.stdout + again.stderr
    for done, lines in kept.items():
        assert (done / "requests.jsonl").read_bytes() == lines, "what was done is not run again"
    rows = json.loads((out / "sweep.json").read_text())["rows"]
    asked = {(seqs, tokens) for seqs in ("4", "8") for tokens in ("1024", "2048")}
    assert sorted(tuple(map(str, row["values"].values())) for row in rows) == sorted(asked)
    assert [row["repeats"] for row in rows] == [1] * 4
    assert all(row["figures"]["completed_pct"] == 100.0 for row in rows)
    assert len(whole()) == 4
    for folder in whole():
        assert len((folder / "requests.jsonl").read_text().splitlines()) == 12
