"""The tasks of a summary in words, for the plain lines and the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rvtop.text import digits

#: The parts of a task's time, in the order in which they are told.
PARTS = (("model", "model_ms"), ("tools", "tool_ms"), ("own wait", "own_ms"))


def task_lines(tasks: Mapping[str, Any] | None) -> list[str]:
    """Two lines, or three where the server tells of its prefix cache; none without tasks."""
    if not tasks:
        return []
    rest = "".join(f", {tasks[name]} {name}" for name in ("failed", "cut") if tasks[name])
    good = tasks["good_per_minute"]
    within = "" if good is None else f", {digits(good)} of them within the SLO"
    wall = tasks["wall_ms"]
    parts = " + ".join(f"{name} {digits(tasks[key]['mean'])}" for name, key in PARTS)
    queue = tasks["queue_ms"]["mean"]
    waits = "" if queue is None else f" (of the model's: in the server's queue {digits(queue)})"
    lines = [
        f"tasks {tasks['done']} of {tasks['begun']} done{rest}; {digits(tasks['per_minute'])} a minute"
        f"{within}; steps {tasks['steps']['done']} of {tasks['steps']['planned']}",
        f"a task p50 {digits(wall['p50'])} p99 {digits(wall['p99'])} ms; "
        f"mean {digits(wall['mean'])} = {parts}{waits}",
    ]
    hits = [(one["step"], one["hit_share"]) for one in tasks["by_step"] if one["hit_share"] is not None]
    if hits:
        shown = " ".join(f"{step}: {100 * share:.0f}" for step, share in hits)
        lines.append(f"prefix hits by step, %: {shown}")
    return lines
