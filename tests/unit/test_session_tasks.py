"""Sessions with tasks of agents, end to end: what is sent when, what is told of a task, and that the figures
are those of its requests."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from rvtop.load.fleet.workers import Workers
from rvtop.plain import result_lines
from rvtop.results.html.page import run_page
from rvtop.results.summary import summarise
from rvtop.session.task_watch import TaskWatch
from tests import recompute_tasks
from tests.faults.sessions import Watched, request
from tests.mock.fast import any_mock
from tests.mock.faulty import FaultyServer
from tests.mock.process import MockProcess
from tests.unit.run_folder import make, phase

MADE = {
    "kind": "tasks", "count": 10, "steps": 6, "prompt_tokens": 20, "growth_tokens": 10, "output_tokens": 4,
    "tool_ms": {"dist": "uniform", "min": 5, "max": 40}, "fan_out": 2, "fan_share": 0.4,
}  # fmt: skip


@pytest.fixture(scope="module")
def mock() -> Iterator[MockProcess]:
    with any_mock(ttft_ms=10, step_ms=2, tokens=4) as running:
        yield running


@pytest.fixture
async def faulty() -> AsyncIterator[FaultyServer]:
    async with FaultyServer() as running:
        yield running


async def test_tasks_go_on_in_the_drain_and_their_figures_are_those_of_their_requests(
    mock: MockProcess, tmp_path: Path
) -> None:
    phases = (
        {"name": "warm", "rate": 20, "duration": "100ms", "warmup": True},
        {"name": "open", "rate": 40, "duration": "500ms", "arrivals": "poisson"},
        {"name": "closed", "concurrency": 4, "requests": 10},
    )
    slo = {"ttft_ms": 1000.0}
    watched = Watched(
        request(mock.url, tmp_path / "run", *phases, workload=MADE, slo=slo, workers=Workers(2))
    )
    outcome = await watched.end()
    assert outcome.exit_code == 0, outcome.message
    summary = outcome.summary
    assert summary is not None
    rows = watched.rows()
    by_task: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        by_task.setdefault(row["task"]["id"], []).append(row)
    for steps in by_task.values():
        ends = {row["task"]["step"]: row["last_token_ns"] for row in steps}
        assert sorted(ends) == list(range(6))
        assert {row["id"] - row["task"]["step"] for row in steps} == {steps[0]["task"]["id"]}
        for row in steps:
            if row["task"]["after"]:
                ready_ns = max(ends[one] for one in row["task"]["after"]) + row["task"]["tool_ns"]
                assert row["intended_ns"] >= ready_ns
    assert {row["task"]["branch"] for row in rows} == {"", "1", "2"}
    tasks = summary["tasks"]
    assert (tasks["done"], tasks["failed"], tasks["cut"]) == (tasks["begun"], 0, 0)
    assert tasks["begun"] > 20
    assert tasks["good"] == tasks["done"]
    assert recompute_tasks.differences(tmp_path / "run") == []
    assert tasks["wall_ms"]["mean"] == pytest.approx(
        sum(tasks[f"{part}_ms"]["mean"] for part in ("model", "tool", "own"))
    )
    assert tasks["work_ms"]["mean"] > tasks["model_ms"]["mean"]  # branches ran side by side
    shown = watched.now.tasks
    assert shown is not None
    assert (shown.done, shown.failed, shown.cut, shown.open) == (len(by_task), 0, 0, 0)
    assert shown.good_per_minute == shown.per_minute
    assert [step.step for step in shown.steps] == list(range(6))
    said = "\n".join(result_lines(summary, tmp_path / "run"))
    assert f"tasks {tasks['done']} of {tasks['begun']} done; " in said
    page = run_page(tmp_path / "run")
    assert "Where the time of a task went" in page
    assert "By step of a task" in page


async def test_a_step_that_fails_ends_its_task_and_the_next_one_begins(
    faulty: FaultyServer, tmp_path: Path
) -> None:
    workload = MADE | {"count": 3, "fan_share": 1.0, "steps": 5}
    closed = {"name": "closed", "concurrency": 1, "requests": 3}
    watched = Watched(request(faulty.url("http_500"), tmp_path / "run", closed, workload=workload))
    outcome = await watched.end()
    assert outcome.exit_code == 1
    assert [row["task"]["step"] for row in watched.rows()] == [0, 0, 0]
    assert outcome.summary is not None
    tasks = outcome.summary["tasks"]
    assert (tasks["begun"], tasks["done"], tasks["failed"], tasks["steps"]["planned"]) == (3, 0, 3, 15)
    assert tasks["wall_ms"]["mean"] is None
    assert recompute_tasks.differences(tmp_path / "run") == []


async def test_what_the_drain_cuts_is_no_failure_of_a_task(mock: MockProcess, tmp_path: Path) -> None:
    task = {"messages": [{"role": "user", "content": "go"}], "max_tokens": 4, "steps": []}
    slow = {"messages": [{"role": "user", "content": "on"}], "tool_s": 30}
    (tmp_path / "tasks.jsonl").write_text(
        json.dumps(task | {"steps": [slow]}) + "\n" + json.dumps(task) + "\n"
    )
    workload = {"kind": "tasks", "file": str(tmp_path / "tasks.jsonl")}
    phase = {"name": "p", "rate": 20, "duration": "200ms", "drain": "300ms"}
    watched = Watched(request(mock.url, tmp_path / "run", phase, workload=workload))
    outcome = await watched.end()
    assert outcome.exit_code == 0, outcome.message
    assert outcome.summary is not None
    tasks = outcome.summary["tasks"]
    assert (tasks["begun"], tasks["done"], tasks["failed"], tasks["cut"]) == (4, 2, 0, 2)
    assert recompute_tasks.differences(tmp_path / "run") == []


def line(task: int, step: int, of: int, *after: int, phase: str = "p", **more: Any) -> bytes:
    at = 1_000_000_000 * (1 + step)
    tool_ns = 600_000_000 if after else 0
    row = {
        "id": task + step, "phase": phase, "turn": step, "prompt": 0,
        "task": {"id": task, "step": step, "of": of, "branch": "", "after": list(after), "tool_ns": tool_ns},
        "intended_ns": at, "sent_ns": at + 1_000_000, "first_token_ns": at + 101_000_000,
        "last_token_ns": at + 301_000_000, "output_tokens": 5, "prompt_tokens": 100 * (step + 1),
        "cached_tokens": 80 * step, "server": {"queue_ms": 4.0}, "error": None, "error_text": None, **more,
    }  # fmt: skip
    return json.dumps(row, separators=(",", ":")).encode() + b"\n"


def test_the_watch_counts_tasks_and_what_their_steps_hit() -> None:
    other = TaskWatch({})
    other.take(b'{"id":1,"error_text":"\\"task\\":{"}\n')
    other.look(0)
    assert other.tasks is None
    watch = TaskWatch({"ttft": 150_000_000})
    watch.take(line(0, 0, 2) + line(10, 0, 3) + line(20, 0, 2))
    watch.take(line(0, 1, 2, 0) + line(10, 1, 3, 0, error="http_500"))
    watch.take(line(10, 2, 3, 0, first_token_ns=None, error="http_500"))  # another branch of it
    watch.look(watch._began_ns + 30_000_000_000)
    tasks = watch.tasks
    assert tasks is not None
    assert (tasks.done, tasks.failed, tasks.open, tasks.cut) == (1, 1, 1, 0)
    assert (tasks.per_minute, tasks.good_per_minute) == (2.0, 2.0)
    assert (tasks.wall_ms, tasks.model_ms, tasks.tool_ms, tasks.own_ms) == pytest.approx(
        (1301, 600, 600, 101)
    )
    assert tasks.queue_ms == 8.0
    assert [(step.count, step.prompt_tokens, step.hit_share) for step in tasks.steps] == [
        (3, 100, 0),
        (1, 200, 0.4),
    ]
    watch.take(line(30, 0, 2, phase="q", first_token_ns=1_200_000_000) + line(30, 1, 2, 0, phase="q"))
    watch.look(watch._began_ns + 30_000_000_000)
    assert watch.tasks is not None
    assert (watch.tasks.done, watch.tasks.cut, watch.tasks.open) == (2, 1, 0)
    assert watch.tasks.good_per_minute == 2.0
    watch.take(line(40, 0, 2, phase="q"))
    watch.take(line(20, 1, 2, 0) + line(50, 0, 2) + line(60, 0, 1, phase="q"))  # p's last ones are late
    watch.look(watch._began_ns + 30_000_000_000)
    assert (watch.tasks.done, watch.tasks.cut, watch.tasks.open) == (3, 1, 1)
    watch.take(line(40, 1, 2, 0, phase="q"))
    watch.look(watch._began_ns + 30_000_000_000)
    assert (watch.tasks.done, watch.tasks.cut, watch.tasks.open) == (4, 1, 0)


def test_a_step_answered_in_one_piece_is_answered(tmp_path: Path) -> None:
    """``stream: false``: there is no first token, only the answer's end."""
    whole: dict[str, Any] = {"first_token_ns": None}
    watch = TaskWatch({"e2e": 400_000_000, "ttft": 1})
    watch.take(line(0, 0, 2, **whole) + line(0, 1, 2, 0, **whole))
    watch.look(watch._began_ns + 30_000_000_000)
    shown = watch.tasks
    assert shown is not None
    assert (shown.done, shown.failed, shown.open, shown.good_per_minute) == (1, 0, 0, 2.0)
    assert [(step.count, step.ttft_ms) for step in shown.steps] == [(1, None), (1, None)]
    rows = [json.loads(line(0, 0, 2, **whole)), json.loads(line(0, 1, 2, 0, **whole))]
    more = {"phase": "p", "model": "a", "worker": 0, "engine": None, "headers_ns": None, "itl_hist": []}
    more |= {"chunks": 0, "token_source": "usage", "finish": "stop"}
    made = summarise(make(tmp_path, [row | more for row in rows], [phase("p", 0, 5)]))["tasks"]
    assert (made["begun"], made["done"], made["cut"], made["steps"]["done"]) == (1, 1, 0, 2)
    assert made["wall_ms"]["mean"] == pytest.approx(1301)
    assert [(one["count"], one["ttft_ms"], one["e2e_ms"]) for one in made["by_step"]] == [
        (1, None, pytest.approx(301)),
        (1, None, pytest.approx(301)),
    ]
