"""A showdown of two real topologies, as the screen holds it: its table, its file, its knobs."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from rvtop.cli.showdown import SameForAll, check, prepared
from rvtop.contract.showdown import HEADS
from rvtop.session.client import RemoteSession
from rvtop.session.request import SessionRequest
from rvtop.study.live import LiveShowdown
from rvtop.study.showdown import SHOWDOWN
from tests import recompute

SCENARIO = """\
name: short
seed: 3
workload: {kind: synthetic, prompt_tokens: 24, output_tokens: 12, count: 8}
phases:
  - {name: warm, rate: 2, duration: 1s, warmup: true}
  - {name: hold, rate: 4, duration: 4s, drain: 60s}
"""
LIMIT_S = 400.0


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_baseline_and_rac_get_the_same_work_with_the_same_knobs(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    scenario = tmp_path / "short.yaml"
    scenario.write_text(SCENARIO)
    same = SameForAll(model=[f"tiny={tiny_model}"], threads=1)
    run = prepared(str(scenario), ["baseline", "rac"], tmp_path / "out", None, 1, same)

    async def opened(request: SessionRequest) -> RemoteSession:
        return await RemoteSession().start(request)

    live = LiveShowdown(run, opened, check).start()
    phases = set()
    try:
        for _ in range(round(LIMIT_S / 0.1)):
            snapshot = live.snapshot()
            if snapshot is not None and snapshot.phase is not None:
                phases.add((snapshot.target.topology, snapshot.phase.name))
            if run.picture().over:
                break
            await asyncio.sleep(0.1)
    finally:
        await live.close()
    assert run.exit_code == 0, run.results
    assert {("baseline", "hold"), ("rac", "hold")} <= phases
    found = json.loads((tmp_path / "out" / SHOWDOWN).read_text())
    assert found["reference"] == "rac"
    for score, row in zip(run.picture().scores, found["rows"], strict=True):
        assert {key: score.figures[key] for key in HEADS} == row["kpm"]
        assert score.figures["completed_pct"] == 100.0
        assert score.start_s == row["start_s"]
        assert score.start_s is not None
        assert score.ttft.count == 16, "all that was sent in the phase that is measured"
    baseline, rac = found["knobs"]["baseline"], found["knobs"]["rac"]
    assert baseline == rac, "the same threads, dtype, context, engines and requests at once"
    assert (baseline["threads"], baseline["dtype"], baseline["engines"]) == (1, "float32", 1)
    assert found["differs"] == {}
    tokens = [
        json.loads((tmp_path / "out" / name / "summary.json").read_text())["tokens"]
        for name in ("baseline", "rac")
    ]
    assert recompute.differences(tmp_path / "out") == []
    assert tokens[0]["output"] == tokens[1]["output"] == 16 * 12, "the work is the same"
