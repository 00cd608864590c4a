"""A run as a trace in Mooncake's format, which a scenario replays (``kind: trace``)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rvtop.contract import run_files
from rvtop.errors import UserError
from rvtop.results.export import request_rows
from rvtop.results.lines import Unread, read_lines
from rvtop.results.rows import check_command


@dataclass(slots=True)
class RunTrace:
    """The measured requests of a run by intended time; ``guessed`` of them had no lengths of their own."""

    rows: list[tuple[int, int, int]] = field(default_factory=list)  # (µs from the first, tokens in, out)
    guessed: int = 0

    def lines(self) -> Iterator[str]:
        """A line of JSON a request; ``timestamp`` is in ms with three digits behind the point."""
        for at_us, prompt, output in self.rows:
            row = {"timestamp": at_us / 1000, "input_length": prompt, "output_length": output}
            yield json.dumps(row) + "\n"


def trace_of(folder: Path, unread: Unread) -> RunTrace:
    """The trace of a run, warm-up left out.

    A request that failed has the lengths that its prompt had at another time, or else the run's medians, so
    that it is sent again at its time. Raises UserError where there is no run, or nothing in it that was
    answered.
    """
    commands = read_lines(folder / run_files.COMMANDS, [], check_command)
    warm = {entry["name"] for entry in commands if entry["cmd"] == "phase" and entry["warmup"]}
    rows = [
        row
        for row in request_rows(folder, unread)
        if row["phase"] not in warm and row["intended_ns"] is not None
    ]
    known = {_prompt(row): lengths for row in rows if (lengths := _lengths(row)) is not None}
    if not known:
        raise UserError(f"{folder}: holds no measured request with an answer: nothing to replay")
    inputs, outputs = zip(*known.values(), strict=True)
    usual = round(median(inputs)), round(median(outputs))
    rows.sort(key=lambda row: (row["intended_ns"], row["id"] or 0))
    first_ns, made = rows[0]["intended_ns"], RunTrace()
    for row in rows:
        own = _lengths(row)
        made.guessed += own is None
        prompt, output = own or known.get(_prompt(row), usual)
        made.rows.append((round((row["intended_ns"] - first_ns) / 1000), prompt, output))
    return made


def _prompt(row: Mapping[str, Any]) -> tuple[Any, Any]:
    return row["prompt"], row["turn"]


def _lengths(row: Mapping[str, Any]) -> tuple[int, int] | None:
    prompt, output = row["prompt_tokens"], row["output_tokens"]
    return (prompt, output) if prompt and output and not row["error"] else None
