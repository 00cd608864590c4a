"""The shipped scenarios: each is explained, listed in the docs, and runs (shortened) against a mock."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rvtop.load.wire.timeouts import Timeouts
from rvtop.scenario.explain import explain
from rvtop.scenario.load import find_scenario, load_scenario, scenario_from, shipped_scenarios
from rvtop.scenario.schema import Scenario, to_data
from rvtop.session.request import SessionRequest
from tests.faults.sessions import Watched
from tests.mock.fast import any_mock
from tests.mock.process import MockProcess

NAMES = {
    *("agent", "autoscale", "batch", "canary", "chat", "demo", "gateway"),
    *("paper-rounds", "paper-rps", "prefix-share", "rag-long"),
    *("ramp", "showdown", "showdown-gpu", "smoke", "soak", "spike", "steady", "tasks"),
}


def test_all_are_there_and_in_the_docs() -> None:
    assert set(shipped_scenarios()) == NAMES
    text = (Path(__file__).parents[2] / "docs" / "scenarios.md").read_text("utf-8")
    table = text.partition("## The shipped ones")[2].splitlines()
    listed = [line.split("`")[1] for line in table if line.startswith("| `")]
    assert sorted(listed) == sorted(NAMES)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_its_chart_fits_into_80_columns(name: str) -> None:
    scenario = load_scenario(find_scenario(name))
    said = explain(scenario).splitlines()
    drawn = [line for line in said if set(line) & set("▁▂▃▄▅▆▇█│")]
    timed = [phase for phase in scenario.phases if phase.rate is not None]
    assert bool(drawn) == bool(timed)
    assert all(len(line) <= 80 for line in drawn)
    if timed:
        peak = max(phase.peak_rps for phase in timed)
        assert f"  {peak:.3g} rps" in "\n".join(drawn)
        assert "│" + timed[-1].name[:1] in drawn[-1]


def shortened(scenario: Scenario) -> Scenario:
    """The same phases in about a second each, rounds and rates small; what would be retrieved is smoke's."""
    data = to_data(scenario)
    if scenario.workload.kind == "rag":
        more = {key: data["workload"][key] for key in ("ignore_eos",) if key in data["workload"]}
        file = str(find_scenario("smoke").with_name("smoke.prompts.jsonl"))
        data["workload"] = {"kind": "prompts", "file": file, "max_tokens": 4, **more}
    elif scenario.workload.kind == "synthetic":
        data["workload"] |= {"count": 16, "output_tokens": 4}
        if "think" in data["workload"]:
            data["workload"]["think"] = "10ms"
    elif scenario.workload.kind == "tasks":
        data["workload"] |= {"count": 8, "output_tokens": 4, "tool_ms": 10}
    for phase in data["phases"]:
        _shorten(phase)
    return scenario_from(data | {"thresholds": {}}, scenario.name)


def _shorten(phase: dict[str, Any]) -> None:
    if "rounds" in phase:
        phase["rounds"] = {"sizes": [min(size, 6) for size in phase["rounds"]["sizes"]], "repeat": 1}
        return
    phase["duration"] = "1s"
    if "concurrency" in phase:
        phase["concurrency"] = 4
    elif isinstance(phase["rate"], dict):
        ends = {key: min(phase["rate"][key], 20) for key in ("from", "to")}
        spike = {"at": "200ms", "for": "300ms"} if phase["rate"].get("shape") == "spike" else {}
        phase["rate"] |= ends | spike
    else:
        phase["rate"] = min(max(phase["rate"], 4), 20)


@pytest.fixture(scope="module")
def mock() -> Iterator[MockProcess]:
    with any_mock(ttft_ms=2, step_ms=1, tokens=4, models=("a",)) as running:
        yield running


@pytest.mark.parametrize("name", sorted(NAMES))
async def test_it_runs(name: str, mock: MockProcess, tmp_path: Path) -> None:
    scenario = shortened(load_scenario(find_scenario(name)))
    patient = Timeouts(connect_s=240.0)  # a busy machine is not what this is about
    request = SessionRequest(scenario=scenario, out=tmp_path / "run", url=mock.url, timeouts=patient)
    watched = Watched(request)
    outcome = await watched.end()
    assert outcome.exit_code == 0, outcome.message
    rows = watched.rows()
    assert rows
    assert [row for row in rows if row["error"] is not None] == []
    sent = {row["phase"].partition("/")[0] for row in rows}
    assert sent == {phase.name for phase in scenario.phases}
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["requests"]["ok"] == sum(row["phase"].partition("/")[0] != "warm" for row in rows)
