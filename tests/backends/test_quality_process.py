"""A quality check of two real topologies: the same model with the same engine gives the same answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rvtop.cli.quality import run_quality
from rvtop.cli.showdown import SameForAll, listed_entries
from rvtop.session.request import find
from rvtop.study.quality import QualityPlan, QualityRun


@pytest.mark.timeout(1800)
def test_baseline_and_rac_agree_on_every_answer(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    same = SameForAll(model=[f"tiny={tiny_model}"], threads=1)
    entries = listed_entries(("baseline", "rac"), same)
    run = QualityRun(QualityPlan(find("showdown"), entries, "rac", tmp_path / "out", same.models, 4, 24))
    said: list[str] = []
    assert run_quality(run, said.append) == 0, (run.reasons, said)
    found = json.loads((tmp_path / "out" / "quality.json").read_text())
    baseline, rac = found["rows"]
    assert found["retrieval"] == {"known": 4, "hit": 4}
    for row in (baseline, rac):
        assert (row["asked"], row["answered"], row["errors"], row["empty"]) == (4, 4, {}, 0)
        assert 0 < row["tokens_mean"] <= 24
    assert (baseline["compared"], baseline["identical"], baseline["overlap_mean"]) == (4, 4, 1.0)
    lines = (tmp_path / "out" / "answers.jsonl").read_text().splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["baseline"] * 4 + ["rac"] * 4
