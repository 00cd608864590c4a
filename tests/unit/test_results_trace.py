"""A run as a trace: a scenario that replays it sends at the same times."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from rvtop.cli.app import app
from rvtop.errors import UserError
from rvtop.load.plan.schedule import PlanEvent, Schedule, mean_rate
from rvtop.results.lines import Unread
from rvtop.results.trace import trace_of
from rvtop.scenario.load import load_scenario
from rvtop.scenario.workload import TraceWorkload
from rvtop.session.player import plan
from rvtop.workload import replay
from tests.unit.run_folder import command, make, phase, request

S = 1_000_000_000
SCENARIO = "workload: {kind: trace, file: run.jsonl}\nphases:\n  - {name: replay, trace: {speed: 1}}\n"


def replayed_ns(folder: Path) -> list[int]:
    """Intended times of a replay of ``folder``/run.jsonl, from its first request on."""
    (folder / "again.yaml").write_text(SCENARIO, "utf-8")
    scenario = load_scenario(folder / "again.yaml")
    assert isinstance(scenario.workload, TraceWorkload)
    at_s = np.array([row["at_s"] for row in replay.load(scenario.workload, lambda count: None).rows(0)])
    schedule = Schedule(plan(scenario, 1, mean_rate(at_s)), 0, 0, 1, at_s)
    schedule.apply(PlanEvent(5 * S, "phase", 0))
    times = [due.intended_ns for due in schedule.due(10**6 * S)]
    return [at - times[0] for at in times]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 7200 * S), min_size=2, max_size=60))
def test_a_replay_has_the_intended_times_of_the_run(tmp_path: Path, times: list[int]) -> None:
    rows = [
        request(number, "hold", 0, first=1, last=2) | {"intended_ns": 3 * S + at}
        for number, at in enumerate(times)
    ]
    folder = tmp_path / "run"
    made = make(folder, rows, [phase("hold", 3.0, None), command(9000, "stop")], [])
    lines = list(trace_of(made, Unread(made / "requests.jsonl")).lines())
    (tmp_path / "run.jsonl").write_text("".join(lines), "utf-8")
    wanted = [at - min(times) for at in sorted(times)]
    found = replayed_ns(tmp_path)
    assert len(found) == len(wanted)
    assert max(abs(one - other) for one, other in zip(found, wanted, strict=True)) <= 1000


def test_the_command_leaves_out_warm_up_and_sends_failures_again(tmp_path: Path) -> None:
    rows = [
        request(0, "warm", 100, first=10, last=20),
        request(1, "hold", 2000.0005, first=10, last=20, tokens=7, prompt=1),
        request(3, "hold", 2010.25, error="http_500", prompt=1),
        request(2, "hold", 2005, first=10, last=20, tokens=9, prompt=2, prompt_tokens=30),
        request(4, "hold", 2020, error="refused", prompt=9),
    ]
    commands = [phase("warm", 0.0, 1.0, warmup=True), phase("hold", 2.0, 1.0), command(3.5, "stop")]
    folder = make(tmp_path / "run", rows, commands, [])
    out = tmp_path / "run.jsonl"
    done = CliRunner().invoke(app, ["export", str(folder), "--format", "trace", "--out", str(out)])
    assert done.exit_code == 0
    assert "warning: 2 requests failed; their lengths are those of others" in done.output
    assert [json.loads(line) for line in out.read_text("utf-8").splitlines()] == [
        {"timestamp": 0.0, "input_length": 10, "output_length": 7},
        {"timestamp": 5.0, "input_length": 30, "output_length": 9},
        {"timestamp": 10.25, "input_length": 10, "output_length": 7},
        {"timestamp": 20.0, "input_length": 20, "output_length": 8},
    ]
    assert replayed_ns(tmp_path) == [0, 5_000_000, 10_250_000, 20_000_000]


def test_a_run_without_an_answer_is_no_trace(tmp_path: Path) -> None:
    rows = [request(0, "hold", 100, error="refused")]
    folder = make(tmp_path / "run", rows, [phase("hold", 0.0, 1.0), command(1.5, "stop")], [])
    with pytest.raises(UserError, match="holds no measured request with an answer: nothing to replay"):
        trace_of(folder, Unread(folder / "requests.jsonl"))
