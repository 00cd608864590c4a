"""Which rows of ``requests.jsonl`` are steps of tasks, and of which."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from typing import Any

from rvtop.stats.tasks import task_of


class TaskLines:
    """Grows by a row at a time; 48 bytes and what it follows for each."""

    def __init__(self) -> None:
        self._numbers = array("q")  # row, task, step, steps of the task, the tool's ns
        self._after: list[tuple[int, ...]] = []

    def add(self, row: int, line: Mapping[str, Any]) -> None:
        """``line`` is the request in ``row`` of the table; one that is no step of a task is not added."""
        found = task_of(line)
        if found is not None:
            task, step, count, after, tool_ns = found
            self._numbers.extend((row, task, step, count, tool_ns))
            self._after.append(after)

    def __len__(self) -> int:
        return len(self._after)

    def __iter__(self) -> Iterator[tuple[int, int, int, int, int, tuple[int, ...]]]:
        """(row, task, step, steps of the task, the tool's ns, what it follows) of each."""
        numbers = iter(self._numbers)
        for row, after in zip(numbers, self._after, strict=False):
            yield row, next(numbers), next(numbers), next(numbers), next(numbers), after
