"""The panel of agents' tasks: what it says, and that it is drawn only where there are some."""

from __future__ import annotations

from dataclasses import replace

import made
import pytest
from driven import opened, screen_text, text_of

from rvtop.contract.tasks import Tasks, TaskStep
from rvtop.ui.app import RvtopApp
from rvtop.ui.widgets.tasks import TasksPanel, duration


async def test_it_says_where_the_time_of_a_task_goes_and_what_each_step_hits() -> None:
    app = RvtopApp(made.FakeHandle(made.agents()))
    async with opened(app, 156, 80):
        lines = text_of(app, TasksPanel).splitlines()
    assert "tasks  42 done  1 failed  2 cut  5 open" in lines[0]
    assert "12.3/min good 11.0  a task 8 310 ms p99 14.2 s  server's queue 412 ms" in lines[1]
    assert "= █ model 3 120 ms + ▒ tools 5 170 ms + ░ own wait 20.0 ms" in lines[2]
    width = len(lines[3].strip())
    assert lines[3].count("█") / width == pytest.approx(3120 / 8310, abs=0.02)
    assert lines[3].count("▒") / width == pytest.approx(5170 / 8310, abs=0.02)
    assert lines[4].split() == ["step", "requests", "TTFT", "ms", "prompt", "tokens", "prefix", "hits"]
    assert lines[6].split()[:7] == ["1", "47", "42.0", "1", "210", "62", "%"]
    assert lines[10].split()[:6] == ["5", "43", "46.0", "2", "450", "--"]


async def test_it_is_there_only_where_there_are_tasks_and_fits_every_size() -> None:
    many = tuple(TaskStep(k, 10**7, 1e6, 1e9, 1.0) for k in range(32))
    for s in (replace(made.live(), tasks=Tasks()), replace(made.live(), tasks=Tasks(steps=many))):
        app = RvtopApp(made.FakeHandle(s))
        async with opened(app):
            panel = app.screen.query_one(TasksPanel)
            for rows in (1, 2, 3, 30):
                for cells in (30, 60, 100, 140):
                    assert all(line.width <= cells for line in panel._lines(cells, rows))
    app = RvtopApp(made.FakeHandle(made.live()))
    async with opened(app, 200, 60):
        assert "tasks" not in screen_text(app)


def test_times_have_their_unit() -> None:
    assert [duration(ms) for ms in (None, 812.0, 9_990.0, 12_400.0)] == ["--", "812 ms", "9 990 ms", "12.4 s"]
