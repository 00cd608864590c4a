"""The tasks of a report, as HTML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rvtop.results.html.tables import table, text
from rvtop.results.tasks_text import PARTS, task_lines

_TIMES = (("all of it", "wall_ms"), *PARTS, ("of the model's: server queue", "queue_ms"))
_STEPS = (
    ("requests", "count"),
    ("failed", "failed"),
    ("TTFT mean ms", "ttft_ms"),
    ("E2E mean ms", "e2e_ms"),
    ("prompt tokens", "prompt_tokens"),
)


def tasks_html(tasks: Mapping[str, Any] | None) -> str:
    """What a task's time was spent on, and its steps; empty without tasks."""
    if not tasks:
        return ""
    said = "".join(f"<p>{text(line)}</p>" for line in task_lines(tasks)[:1])
    times = (
        (name, *(tasks[key][column] for column in ("mean", "p50", "p90", "p99", "max")))
        for name, key in _TIMES
    )
    steps = (
        (one["step"], *(one[key] for _, key in _STEPS), _percent(one["hit_share"]))
        for one in tasks["by_step"]
    )
    what = "Where the time of a task went, ms: model, tools and own wait add up to all of it"
    return (
        said
        + table(("", "mean", "p50", "p90", "p99", "max"), times, what)
        + table(("step", *(name for name, _ in _STEPS), "prefix hits %"), steps, "By step of a task")
    )


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
