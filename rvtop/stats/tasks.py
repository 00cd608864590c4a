"""Where the time of an agent's task went. Pure.

A step follows the steps that it names, once the last of those has been answered and a tool has returned. So
a task's time is that of one path: from the step that ended last back through the one that it waited for, to
the first. Along it the time is the model's (from a step's sending to its last token), the tools' (as the
workload says) or neither: rvtop's own between the end of a step and the sending of the next. The three add up
to the whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan, nan
from typing import Any

from rvtop.stats.waterfall import TOLD, told_of

_QUEUE = TOLD.index("queue_ms")
#: No number of a request and no time (ns) comes near.
_LARGEST = 1 << 53


@dataclass(frozen=True, slots=True)
class StepEnd:
    """A step that was answered. Times are ns from the run's start; ``queue_ms`` is NaN where no server told
    it."""

    after: tuple[int, ...]
    intended_ns: int
    sent_ns: int
    last_ns: int
    tool_ns: int
    queue_ms: float = nan


@dataclass(frozen=True, slots=True)
class Waited:
    """Of a task that is done, ms. ``wall_ms`` is from the intended time of its first step to the last token
    of all; it is ``model_ms`` + ``tool_ms`` + ``own_ms`` (see above). ``queue_ms`` is the part of
    ``model_ms`` in which requests waited inside the server, where it tells that of every step on the path.
    ``work_ms`` is the model's time of all steps, more than ``model_ms`` where branches ran side by side."""

    wall_ms: float
    model_ms: float
    tool_ms: float
    own_ms: float
    queue_ms: float | None
    work_ms: float


def waited(steps: Mapping[int, StepEnd]) -> Waited:
    """``steps`` are all of the task, by number from 0."""
    here = max(steps, key=lambda k: steps[k].last_ns)
    end_ns, model_ns, tool_ns, queue_ms = steps[here].last_ns, 0, 0, 0.0
    while True:
        step = steps[here]
        model_ns += step.last_ns - step.sent_ns
        tool_ns += step.tool_ns
        queue_ms += step.queue_ms
        if not step.after:
            break
        here = max(step.after, key=lambda k: steps[k].last_ns)
    wall_ns = end_ns - step.intended_ns
    return Waited(
        wall_ms=wall_ns / 1e6,
        model_ms=model_ns / 1e6,
        tool_ms=tool_ns / 1e6,
        own_ms=(wall_ns - model_ns - tool_ns) / 1e6,
        queue_ms=None if isnan(queue_ms) else queue_ms,
        work_ms=sum(one.last_ns - one.sent_ns for one in steps.values()) / 1e6,
    )


def task_of(row: Mapping[str, Any]) -> tuple[int, int, int, tuple[int, ...], int] | None:
    """(task, step, steps of the task, what it follows, the tool's ns) of a line of ``requests.jsonl``; None
    where it is of no task, or not as this version writes it."""
    task = row.get("task")
    if not isinstance(task, Mapping):
        return None
    numbers: list[Any] = [task.get(key) for key in ("id", "step", "of", "tool_ns")]
    if not all(type(value) is int and 0 <= value <= _LARGEST for value in numbers):
        return None
    number, step, count, tool_ns = numbers
    after = task.get("after")
    if not isinstance(after, list) or not step < count or bool(after) != bool(step):
        return None
    if not all(type(one) is int and 0 <= one < step for one in after):
        return None
    return number, step, count, tuple(after), tool_ns


def step_end(row: Mapping[str, Any], after: tuple[int, ...], tool_ns: int) -> StepEnd:
    """A line of ``requests.jsonl`` that ended well."""
    queue_ms = told_of(row.get("server"))[_QUEUE]
    return StepEnd(after, row["intended_ns"], row["sent_ns"], row["last_token_ns"], tool_ns, queue_ms)
