"""Tasks of agents as rows of ``prompts.jsonl``: made up from a seed, or of a file that holds such rows."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from rvtop.scenario.workload import TasksWorkload
from rvtop.workload import aiperf, files, otel, sessions, weka
from rvtop.workload.lengths import draw
from rvtop.workload.rows import WorkloadError, encode, user, user_row
from rvtop.workload.synthetic import Phrases


def lines(workload: TasksWorkload, seed: int) -> Iterator[bytes]:
    """Lines of ``prompts.jsonl``; the same seed gives the same ones. Raises WorkloadError."""
    if workload.file is None:
        return map(encode, _rows(workload, seed))
    path = Path(workload.file)
    if workload.format is None and path.suffix == ".jsonl":
        return _checked(path, workload.limit)
    return map(encode, _recorded(workload.format or "otel", path, workload.limit, seed))


def _recorded(kind: str, path: Path, limit: int | None, seed: int) -> Iterator[dict[str, Any]]:
    """Sessions that were recorded elsewhere, in the file's order and without their times."""
    if kind == "aiperf":
        for row in aiperf.rows(path, seed, timed=False, limit=limit):
            yield row if "steps" in row else row | {"steps": []}
        return
    try:
        found = otel.read(path) if kind == "otel" else weka.read(path)
        yield from sessions.rows(islice(found, limit), seed, str(path), timed=False)
    except OSError as error:
        raise WorkloadError(f"{path}: can't be read: {error.strerror}") from error


def _checked(path: Path, limit: int | None) -> Iterator[bytes]:
    for number, line in enumerate(files.lines(path, limit), 1):
        if "steps" not in orjson.loads(line):
            raise WorkloadError(
                f'{path}: row {number} has no "steps": give it the list of them, [] for none; '
                "kind: prompts sends rows without"
            )
        yield line


def _rows(workload: TasksWorkload, seed: int) -> Iterator[dict[str, Any]]:
    """Each property has random numbers of its own: other tools or branches leave the texts as they were."""
    assert workload.prompt_tokens is not None and workload.growth_tokens is not None
    phrases = Phrases(seed)
    sources = {
        name: random.Random(f"{seed}/tasks/{name}")
        for name in ("words", "steps", "prompt", "growth", "output", "tool", "fork", "prefix")
    }
    words, output = sources["words"], workload.output_tokens

    def limits() -> dict[str, int]:
        """A request's own output length; a fixed one stands once in the body of all requests."""
        fixed = output is None or isinstance(output, int)
        return {} if fixed or output is None else {"max_tokens": draw(output, sources["output"])}

    prefix = ""
    if workload.prefix_tokens is not None:
        prefix = phrases.text(workload.prefix_tokens, sources["prefix"]) + " "
    for i in range(workload.count):
        own = phrases.text(draw(workload.prompt_tokens, sources["prompt"]), words)
        row = user_row(f"task-{i}", prefix + own) | limits()
        row["steps"] = []
        for after in graph(workload, draw(workload.steps, sources["steps"]), sources["fork"]):
            grown = phrases.text(draw(workload.growth_tokens, sources["growth"]), words)
            step: dict[str, Any] = {"messages": [user(grown)], **limits(), "after": after}
            if workload.tool_ms is not None:
                step["tool_s"] = draw(workload.tool_ms, sources["tool"]) / 1e3
            row["steps"].append(step)
        yield row


def graph(workload: TasksWorkload, steps: int, source: random.Random) -> list[list[int]]:
    """What each of the steps 1 … ``steps`` - 1 follows. A fork that no longer fits is left out: a task has
    exactly its steps."""
    made: list[list[int]] = []
    last = 0
    while (left := steps - 1 - len(made)) > 0:
        wide = 1
        if workload.fan_share is not None and source.random() < workload.fan_share:
            wide = draw(workload.fan_out, source)
        if wide > 1 and left > wide:
            made += [[last]] * wide
            made.append(list(range(len(made) - wide + 1, len(made) + 1)))
        else:
            made.append([last])
        last = len(made)
    return made
