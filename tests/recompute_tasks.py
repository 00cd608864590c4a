"""The figures of a run's tasks worked out once more from its lines, with nothing of rvtop's: plain Python.

``python -m tests.recompute_tasks RUN``: whether ``tasks`` of its summary are what its requests say."""

from __future__ import annotations

import json
import math
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.recompute import lines


def task(steps: dict[int, dict[str, Any]]) -> dict[str, float | None]:
    """A task that is done: its times in ms. The path is walked from the first step on: to each step leads the
    longest way, that of the predecessor that ended last."""
    paths: dict[int, list[int]] = {}
    for number in sorted(steps):
        after = steps[number]["task"]["after"]
        latest = max(after, key=lambda one: steps[one]["last_token_ns"]) if after else None
        paths[number] = ([] if latest is None else paths[latest]) + [number]
    last = max(steps, key=lambda one: steps[one]["last_token_ns"])
    path = [steps[number] for number in paths[last]]
    wall = steps[last]["last_token_ns"] - steps[0]["intended_ns"]
    model = sum(row["last_token_ns"] - row["sent_ns"] for row in path)
    tool = sum(row["task"]["tool_ns"] for row in path)
    own = path[0]["sent_ns"] - path[0]["intended_ns"]
    for before, row in pairwise(path):
        own += row["sent_ns"] - before["last_token_ns"] - row["task"]["tool_ns"]
    queues = [(row["server"] or {}).get("queue_ms") for row in path]
    return {
        "wall_ms": wall / 1e6,
        "model_ms": model / 1e6,
        "tool_ms": tool / 1e6,
        "own_ms": own / 1e6,
        "queue_ms": None if None in queues else sum(queues),
        "work_ms": sum(row["last_token_ns"] - row["sent_ns"] for row in steps.values()) / 1e6,
    }


def good(row: dict[str, Any], slo: dict[str, Any]) -> bool:
    ttft, e2e = (row[key] - row["intended_ns"] for key in ("first_token_ns", "last_token_ns"))
    count = row["output_tokens"]
    found = {"ttft": ttft, "e2e": e2e, "tpot": (e2e - ttft) / (count - 1) if count > 1 else 0}
    return all(found[name] / 1e6 <= slo[f"{name}_ms"] for name in found if slo.get(f"{name}_ms") is not None)


def figures(folder: Path) -> dict[str, Any]:
    """As ``tasks`` of the summary has them."""
    begun = [row for row in lines(folder / "commands.jsonl") if row["cmd"] == "phase" and not row["warmup"]]
    names = {row["name"] for row in begun}
    slo = json.loads((folder / "environment.json").read_text())["slo"]
    rows = [row for row in lines(folder / "requests.jsonl") if row["phase"] in names]
    tasks: dict[int, dict[int, dict[str, Any]]] = {}
    for row in rows:
        tasks.setdefault(row["task"]["id"], {})[row["task"]["step"]] = row
    done = [one for one in tasks.values() if len(ok(one)) == one[0]["task"]["of"]]
    failed = [
        one for one in tasks.values() if any(r["error"] not in (None, "unfinished") for r in one.values())
    ]
    times = [task(one) for one in done]
    met = [all(good(row, slo) for row in one.values()) for one in done]
    made: dict[str, Any] = {
        "begun": len(tasks),
        "done": len(done),
        "failed": len(failed),
        "cut": len(tasks) - len(done) - len(failed),
        "steps planned": sum(one[0]["task"]["of"] for one in tasks.values()),
        "steps done": sum(len(ok(one)) for one in tasks.values()),
        "good": sum(met) if any(value is not None for value in slo.values()) else None,
    }
    for name in ("wall_ms", "model_ms", "tool_ms", "own_ms", "queue_ms", "work_ms"):
        values = sorted(one[name] for one in times if one[name] is not None)
        made[f"{name} mean"] = sum(values) / len(values) if values else None
        made[f"{name} max"] = values[-1] if values else None
    for step in sorted({number for one in tasks.values() for number in one}):
        those = [one[step] for one in tasks.values() if step in ok(one)]
        known = [
            row for row in those if row["cached_tokens"] is not None and row["prompt_tokens"] is not None
        ]
        prompt = sum(row["prompt_tokens"] for row in known)
        made[f"step {step} count"] = len(those)
        made[f"step {step} ttft_ms"] = mean(
            [row["first_token_ns"] - row["intended_ns"] for row in those], 1e6
        )
        made[f"step {step} prompt_tokens"] = mean([row["prompt_tokens"] for row in those], 1)
        made[f"step {step} hit_share"] = sum(r["cached_tokens"] for r in known) / prompt if prompt else None
    return made


def ok(steps: dict[int, dict[str, Any]]) -> list[int]:
    return [number for number, row in steps.items() if row["error"] is None]


def mean(values: list[Any], unit: float) -> float | None:
    return sum(values) / len(values) / unit if values and None not in values else None


def told(summary: dict[str, Any]) -> dict[str, Any]:
    """The same of the summary."""
    tasks = summary["tasks"]
    made = {key: tasks[key] for key in ("begun", "done", "failed", "cut", "good")}
    made |= {f"steps {key}": tasks["steps"][key] for key in ("planned", "done")}
    for name in ("wall_ms", "model_ms", "tool_ms", "own_ms", "queue_ms", "work_ms"):
        made |= {f"{name} {key}": tasks[name][key] for key in ("mean", "max")}
    for one in tasks["by_step"]:
        for key in ("count", "ttft_ms", "prompt_tokens", "hit_share"):
            made[f"step {one['step']} {key}"] = one[key]
    return made


def differences(folder: Path) -> list[str]:
    """What of a run's summary is not what its requests say."""
    said, own = told(json.loads((folder / "summary.json").read_text())), figures(folder)
    return [
        f"{key}: {said.get(key)}, by its requests {own.get(key)}"
        for key in sorted({*said, *own})
        if not same(said.get(key), own.get(key))
    ]


def same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-6)  # what servers tell is kept as 32 bits


if __name__ == "__main__":
    wrong = differences(Path(sys.argv[1]))
    print("\n".join(wrong) or "the tasks are what the requests say")
    sys.exit(bool(wrong))
