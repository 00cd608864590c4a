"""The figures of tasks of agents, of a part of a run: per task and by step.

``stats.tasks`` says where a task's time went. A task belongs to the part that its first step belongs to.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from rvtop.contract.tasks import MOST_STEPS
from rvtop.results.part import Part, dist
from rvtop.results.table import NONE, Bools, Requests
from rvtop.stats.slo import good
from rvtop.stats.tasks import StepEnd, Waited, waited
from rvtop.stats.waterfall import TOLD

_QUEUE = TOLD.index("queue_ms")
_TIMES = tuple(name.removesuffix("_ms") for name in Waited.__dataclass_fields__)


@dataclass
class _Task:
    steps: int  # that it has
    rows: dict[int, int] = field(default_factory=dict)  # of the table, by step
    ends: dict[int, StepEnd] = field(default_factory=dict)  # of those that were answered


def task_figures(part: Part) -> dict[str, Any] | None:
    """None where no request of the part is a step of a task.

    Of the tasks that were ``begun`` some are ``done`` (every step was answered), ``failed`` (one was not) or
    ``cut`` (by the end of the run or of the drain). Rates are of done tasks over the part's time, ``good``
    those of which every step met the SLO. Times are of done tasks; ``queue_ms`` only of those of which the
    server told it.
    """
    table = part.run.table
    tasks = _by_task(table, part.mask)
    if not tasks:
        return None
    met = _good_rows(part)
    done = [task for task in tasks if len(task.ends) == task.steps]
    errors = table.errors
    failed = sum(
        any(errors[table.error[row]] not in ("", "unfinished") for row in task.rows.values())
        for task in tasks
    )
    fine = None if met is None else sum(all(met[row] for row in task.rows.values()) for task in done)
    minutes = part.elapsed_s / 60
    times = [waited(task.ends) for task in done]
    return {
        "begun": len(tasks),
        "done": len(done),
        "failed": failed,
        "cut": len(tasks) - len(done) - failed,
        "steps": {"planned": sum(task.steps for task in tasks), "done": sum(len(t.ends) for t in tasks)},
        "per_minute": len(done) / minutes if minutes else None,
        "good_per_minute": fine / minutes if fine is not None and minutes else None,
        "good": fine,
        **{f"{name}_ms": _dist(getattr(one, f"{name}_ms") for one in times) for name in _TIMES},
        "by_step": _by_step(part, tasks),
    }


def _dist(values: Iterable[float | None]) -> dict[str, float | int | None]:
    return dist(np.array([value for value in values if value is not None], np.float64))


def _by_task(table: Requests, mask: Bools) -> list[_Task]:
    """The tasks whose first step is in ``mask``."""
    found: dict[int, _Task] = {}
    answered = table.answered
    for row, number, step, count, tool_ns, after in table.tasks:
        task = found.setdefault(number, _Task(count))
        if step >= task.steps:  # of a damaged file
            continue
        task.rows[step] = row
        if answered[row]:
            times = (int(table.intended[row]), int(table.sent[row]), int(table.last[row]))
            task.ends[step] = StepEnd(after, *times, tool_ns, float(table.told[row, _QUEUE]))
    return [task for task in found.values() if 0 in task.rows and mask[task.rows[0]]]


def _good_rows(part: Part) -> Bools | None:
    """Which rows met the SLO; None without one."""
    run, table = part.run, part.run.table
    if not any(limits for _, limits in run.slos):
        return None
    met = np.zeros(table.intended.shape, dtype=bool)
    rows = np.flatnonzero(part.good)
    met[rows] = good(run.slos, table.intended[rows], part.ttft, part.e2e, part.tokens)
    return met


@dataclass
class _Sums:
    """Over a step of all tasks, of the requests that were answered."""

    step: int
    count: int
    failed: int
    ttft_ms: float | None
    e2e_ms: float | None
    prompt_tokens: float | None
    hit_share: float | None  # of the prompts' tokens, those from the prefix cache


def _by_step(part: Part, tasks: list[_Task]) -> list[dict[str, Any]]:
    """The first ``MOST_STEPS`` steps."""
    table = part.run.table
    rows: dict[int, list[int]] = {}
    for task in tasks:
        for step, row in task.rows.items():
            rows.setdefault(step, []).append(row)
    made = []
    for step in sorted(rows)[:MOST_STEPS]:
        all_of_them = np.array(rows[step])
        those = all_of_them[table.answered[all_of_them]]
        streamed = those[table.first[those] != NONE]  # an answer in one piece has no first token
        began, prompt, cached = table.intended[those], table.prompt_tokens[those], table.cached_tokens[those]
        known = (prompt != NONE) & (cached != NONE)
        looked_up = int(prompt[known].sum())
        sums = _Sums(
            step=step,
            count=int(those.size),
            failed=int(all_of_them.size - those.size),
            ttft_ms=(
                float((table.first[streamed] - table.intended[streamed]).mean()) / 1e6
                if streamed.size
                else None
            ),
            e2e_ms=float((table.last[those] - began).mean()) / 1e6 if those.size else None,
            prompt_tokens=float(prompt[prompt != NONE].mean()) if (prompt != NONE).any() else None,
            hit_share=int(cached[known].sum()) / looked_up if looked_up else None,
        )
        made.append(asdict(sums))
    return made
