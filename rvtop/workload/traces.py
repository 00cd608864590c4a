"""Reads recorded request traces: when each request came and how long its prompt and answer were.

- Mooncake (``.jsonl``): ``{"timestamp": ms, "input_length": n, "output_length": n, "hash_ids": [...]}``,
  a hash id for each block of 512 prompt tokens, the last one shorter.
- Bailian (``.jsonl``): the same with a ``timestamp`` in seconds, a ``chat_id`` and blocks of 16 tokens.
- BurstGPT (``.csv``): ``Timestamp`` (s), ``Request tokens``, ``Response tokens``; other columns are not used.
  A response of 0 tokens is a request that failed.
- Azure LLM inference (``.csv``): ``TIMESTAMP`` (date and time), ``ContextTokens``, ``GeneratedTokens``.
"""

from __future__ import annotations

import csv
import math
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson

from rvtop.scenario.trace_format import COLUMNS, column_names
from rvtop.workload.block_text import block_ids
from rvtop.workload.rows import WorkloadError

#: How often whoever waits is told how far the reading is.
PROGRESS_LINES = 1024
#: Tokens in a block of the traces that have some, and microseconds in the unit of their times.
BLOCKS = {"mooncake": 512, "bailian": 16}
_TO_US = {"mooncake": 1e3, "bailian": 1e6}
_MOST_TOKENS = 10_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
#: A trace of years is a slip in its times; this also keeps them within 64 bits.
_MOST_S = 1e11


@dataclass
class Trace:
    """Requests in the file's order. Row i's prompt blocks are ``blocks[ends[i - 1]:ends[i]]``, numbered from
    0 by first appearance (none: nothing is known of its text). ``silent`` counts the requests that were left
    out since they had no prompt or no answer."""

    at_us: array[int] = field(default_factory=lambda: array("q"))
    prompt: array[int] = field(default_factory=lambda: array("q"))
    output: array[int] = field(default_factory=lambda: array("q"))
    blocks: array[int] = field(default_factory=lambda: array("q"))
    ends: array[int] = field(default_factory=lambda: array("q"))
    silent: int = 0
    block_tokens: int = 512

    def __len__(self) -> int:
        return len(self.at_us)

    def add(self, at_us: int, prompt: int, output: int, blocks: Sequence[int] = ()) -> None:
        if not prompt or not output:
            self.silent += 1
            return
        self.at_us.append(at_us)
        self.prompt.append(prompt)
        self.output.append(output)
        self.blocks.extend(blocks)
        self.ends.append(len(self.blocks))

    def blocks_of(self, row: int) -> array[int]:
        return self.blocks[self.ends[row - 1] if row else 0 : self.ends[row]]

    def pick(self, start_s: float, limit: int | None) -> Sequence[int]:
        """Rows by time (rows of one time in the file's order), from ``start_s`` after the first on."""
        order: Sequence[int] = range(len(self))
        if any(a > b for a, b in zip(self.at_us, memoryview(self.at_us)[1:], strict=False)):
            order = sorted(order, key=self.at_us.__getitem__)
        if not len(order):
            return order
        first = self.at_us[order[0]] + round(start_s * 1e6)
        begin = bisect_left(order, first, key=self.at_us.__getitem__) if start_s else 0
        return order[begin : None if limit is None else begin + limit]


def read(path: Path, kind: str, block_tokens: int | None, on_progress: Callable[[int], None]) -> Trace:
    """The whole trace of ``kind`` (see ``trace_format.detect``). ``block_tokens``: the length of its blocks,
    None: as the format has them. ``on_progress`` is called with the number of each ``PROGRESS_LINES``-th
    line; what it raises goes through. Raises WorkloadError with file and line."""
    trace = Trace(block_tokens=block_tokens or BLOCKS.get(kind, 512))
    try:
        if kind in BLOCKS:
            _read_blocks(path, trace, _TO_US[kind], on_progress)
        else:
            _read_csv(path, kind, trace, on_progress)
    except (OSError, UnicodeDecodeError) as error:
        raise WorkloadError(f"{path}: can't be read: {error}") from error
    return trace


def _read_csv(path: Path, kind: str, trace: Trace, on_progress: Callable[[int], None]) -> None:
    when = _azure_us if kind == "azure" else _seconds_us
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file)
        header = column_names(next(lines))
        columns = COLUMNS[kind]
        at, prompt, output = (header.index(column) for column in columns)
        rows = _csv_rows(path, lines)
        for number, cells in rows:
            if not number % PROGRESS_LINES:
                on_progress(number)
            if len(cells) != len(header):
                raise WorkloadError(
                    f"{path}:{number}: has {len(cells)} columns where the first line has {len(header)}"
                )
            try:
                trace.add(when(cells[at]), _tokens(cells[prompt]), _tokens(cells[output]))
            except ValueError:
                problem = _bad_cell(columns, (at, prompt, output), cells, when)
                raise WorkloadError(f"{path}:{number}: {problem}") from None


def _csv_rows(path: Path, lines: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    number = 1
    try:
        for cells in lines:
            number = lines.line_num  # type: ignore[attr-defined]
            if cells:
                yield number, cells
    except csv.Error as error:
        raise WorkloadError(f"{path}:{number + 1}: not CSV: {error}") from error


def _bad_cell(
    columns: Sequence[str], places: Sequence[int], cells: Sequence[str], when: Callable[[str], int]
) -> str:
    """Says which of the three cells is at fault."""
    for column, place, parse in zip(columns, places, (when, _tokens, _tokens), strict=True):
        try:
            parse(cells[place])
        except ValueError as problem:
            return f"{column}: {problem}, got {cells[place]!r}"
    raise AssertionError("no cell is at fault")


def _tokens(text: str) -> int:
    if text.isdecimal() and len(text) < 8:  # nearly all
        return int(text)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value.is_integer() or not 0 <= value <= _MOST_TOKENS:
        raise ValueError(f"must be a whole number from 0 to {_MOST_TOKENS:,}")
    return int(value)


def _seconds_us(text: str) -> int:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= _MOST_S:
        raise ValueError("must be a number of seconds")
    return round(value * 1e6)


def _azure_us(text: str) -> int:
    try:
        value = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError("must be a date and time such as 2023-11-16 18:15:46.68") from None
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    return (value - _EPOCH) // _MICROSECOND


def _read_blocks(path: Path, trace: Trace, to_us: float, on_progress: Callable[[int], None]) -> None:
    numbers: dict[object, int] = {}
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not number % PROGRESS_LINES:
                on_progress(number)
            if not line.strip():
                continue
            try:
                row = orjson.loads(line.removeprefix(b"\xef\xbb\xbf"))
            except orjson.JSONDecodeError as error:
                raise WorkloadError(f"{path}:{number}: not JSON: {error}") from error
            try:
                at_us, prompt, output, ids = _blocks_row(row, trace.block_tokens, to_us)
            except ValueError as problem:
                raise WorkloadError(f"{path}:{number}: {problem}") from None
            trace.add(at_us, prompt, output, [numbers.setdefault(name, len(numbers)) for name in ids])


def _blocks_row(row: object, block_tokens: int, to_us: float) -> tuple[int, int, int, list[object]]:
    """``to_us``: microseconds in the unit of its timestamp."""
    if not isinstance(row, dict):
        raise ValueError('must be {"timestamp": …, "input_length": …, "output_length": …, "hash_ids": […]}')
    for key in ("timestamp", "input_length", "output_length"):
        if key not in row:
            raise ValueError(f"{key} is missing")
    at = row["timestamp"]
    if isinstance(at, bool) or not isinstance(at, int | float) or not abs(at) * to_us <= _MOST_S * 1e6:
        unit = "seconds" if to_us == 1e6 else "milliseconds"
        raise ValueError(f"timestamp: must be a number of {unit}, got {at!r}")
    for key in ("input_length", "output_length"):
        if type(row[key]) is not int or not 0 <= row[key] <= _MOST_TOKENS:
            raise ValueError(f"{key}: must be a whole number from 0 to {_MOST_TOKENS:,}, got {row[key]!r}")
    prompt = row["input_length"]
    return round(at * to_us), prompt, row["output_length"], block_ids(row, prompt, block_tokens)
