"""Follows the tasks of agents by the lines of their steps, for the screen."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any

import numpy as np
import orjson

from rvtop.contract.tasks import MOST_STEPS, Tasks, TaskStep
from rvtop.stats.slo import NO_TTFT, meets
from rvtop.stats.tasks import StepEnd, Waited, step_end, task_of, waited

WINDOW_S = 60
_MARK = b'"task":{'  # in a text the quotes are escaped


@dataclass(slots=True)
class _Open:
    """A task that is not over."""

    ends: dict[int, StepEnd] = field(default_factory=dict)
    good: bool = True
    failed: bool = False


@dataclass(slots=True)
class _Step:
    """Sums over a step of all tasks."""

    count: int = 0
    streamed: int = 0  # with a first token
    ttft_ms: float = 0.0
    prompts: int = 0  # that the server counted
    prompt_tokens: int = 0
    looked_up: int = 0  # prompt tokens of those whose cached ones are told
    cached: int = 0


class TaskWatch:
    """``tasks`` is what there is to draw, None until a line is of a task. ``slo_ns``: the limits now."""

    def __init__(self, slo_ns: Mapping[str, int]) -> None:
        self.tasks: Tasks | None = None
        self.slo_ns = slo_ns
        self._seen = False
        self._phase = ""
        self._past: set[str] = set()  # phases before it
        self._open: dict[int, _Open] = {}
        self._steps: dict[int, _Step] = {}
        self._done: deque[tuple[int, Waited, bool]] = deque()  # (when, …, good) of the last minute
        self._counts = {"done": 0, "failed": 0, "cut": 0}
        self._began_ns = 0

    def take(self, lines: bytes) -> None:
        """Takes in lines of ``requests.jsonl``."""
        if _MARK not in lines:
            return
        now_ns = perf_counter_ns()
        if not self._seen:
            self._seen, self._began_ns = True, now_ns
        for line in lines.splitlines():
            if _MARK in line:
                self._add(orjson.loads(line), now_ns)

    def look(self, now_ns: int) -> None:
        """Once a second: makes ``tasks`` anew."""
        if not self._seen:
            return
        while self._done and self._done[0][0] < now_ns - WINDOW_S * 1_000_000_000:
            self._done.popleft()
        minutes = max(1.0, min(float(WINDOW_S), (now_ns - self._began_ns) / 1e9)) / 60
        recent = [one for _, one, _ in self._done]
        queues = [one.queue_ms for one in recent if one.queue_ms is not None]
        walls = np.array([one.wall_ms for one in recent])

        def mean(values: list[float]) -> float | None:
            return float(np.mean(values)) if values else None

        self.tasks = Tasks(
            **self._counts,
            open=sum(not one.failed for one in self._open.values()),
            per_minute=len(recent) / minutes,
            good_per_minute=sum(good for *_, good in self._done) / minutes if self.slo_ns else None,
            wall_ms=mean([one.wall_ms for one in recent]),
            wall_p99_ms=float(np.percentile(walls, 99)) if recent else None,
            model_ms=mean([one.model_ms for one in recent]),
            tool_ms=mean([one.tool_ms for one in recent]),
            own_ms=mean([one.own_ms for one in recent]),
            queue_ms=mean(queues),
            steps=tuple(_shown(step, self._steps[step]) for step in sorted(self._steps)[:MOST_STEPS]),
        )

    def _add(self, row: Mapping[str, Any], now_ns: int) -> None:
        found = task_of(row)
        if found is None:
            return
        if row["phase"] in self._past:  # after a retarget, or from another worker: its task was counted
            return
        if row["phase"] != self._phase:  # the one before has drained, or was cut
            self._past.add(self._phase)
            self._counts["cut"] += sum(not one.failed for one in self._open.values())
            self._open.clear()
            self._steps.clear()
            self._phase = row["phase"]
        number, step, count, after, tool_ns = found
        task = self._open.setdefault(number, _Open())
        if row["error"] is not None or row["last_token_ns"] is None:
            if not task.failed and row["error"] != "unfinished":
                self._counts["failed"] += 1
                task.failed = True  # it stays: other branches of it may still end …
                task.ends.clear()
            return
        self._count(step, row)
        if task.failed:  # … and count for their step alone
            return
        task.ends[step] = step_end(row, after, tool_ns)
        task.good &= self._is_good(row)
        if len(task.ends) == count:
            del self._open[number]
            self._counts["done"] += 1
            self._done.append((now_ns, waited(task.ends), task.good))

    def _is_good(self, row: Mapping[str, Any]) -> bool:
        began, first = row["intended_ns"], row["first_token_ns"]
        ttft, e2e = (
            np.array([NO_TTFT if first is None else first - began]),
            np.array([row["last_token_ns"] - began]),
        )
        return bool(meets(ttft, e2e, np.array([row["output_tokens"] or 0]), self.slo_ns)[0])

    def _count(self, step: int, row: Mapping[str, Any]) -> None:
        sums = self._steps.setdefault(step, _Step())
        sums.count += 1
        if row["first_token_ns"] is not None:
            sums.streamed += 1
            sums.ttft_ms += (row["first_token_ns"] - row["intended_ns"]) / 1e6
        prompt, cached = row["prompt_tokens"], row["cached_tokens"]
        if prompt is not None:
            sums.prompts += 1
            sums.prompt_tokens += prompt
            if cached is not None:
                sums.looked_up += prompt
                sums.cached += cached


def _shown(step: int, sums: _Step) -> TaskStep:
    return TaskStep(
        step,
        sums.count,
        sums.ttft_ms / sums.streamed if sums.streamed else None,
        sums.prompt_tokens / sums.prompts if sums.prompts else None,
        sums.cached / sums.looked_up if sums.looked_up else None,
    )
