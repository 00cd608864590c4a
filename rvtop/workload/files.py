"""Prompt files: ``.txt`` with a prompt a line, and ``.jsonl`` with rows as ``prompts.jsonl`` has them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import orjson

from rvtop.load.plan.prompt_row import row_problem
from rvtop.workload.rows import WorkloadError, encode, user_row

_BOM = b"\xef\xbb\xbf"


def lines(path: Path, limit: int | None) -> Iterator[bytes]:
    """Lines of ``prompts.jsonl`` for the first ``limit`` prompts of a file. Raises WorkloadError."""
    found = _jsonl(path) if path.suffix == ".jsonl" else _text(path)
    try:
        yield from islice(found, limit)
    except (OSError, UnicodeDecodeError) as error:
        raise WorkloadError(f"{path}: can't be read: {error}") from error


def _text(path: Path) -> Iterator[bytes]:
    with path.open(encoding="utf-8-sig") as file:
        prompts = (line.rstrip("\n") for line in file if line.strip())
        for i, prompt in enumerate(prompts, 1):
            yield encode(user_row(f"p{i}", prompt))


def _jsonl(path: Path) -> Iterator[bytes]:
    """The file's own lines, each looked at: what a worker would trip over is told before the load starts."""
    kind = ""
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            line = raw.removeprefix(_BOM).strip()
            if not line:
                continue
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise WorkloadError(f"{path}:{number}: not JSON: {error}") from error
            problem = row_problem(row)
            if problem is None:
                here = "messages" if "messages" in row else "prompt"
                if kind and here != kind:
                    problem = f"has {here!r} where the lines before have {kind!r}"
                kind = here
            if problem is not None:
                raise WorkloadError(f"{path}:{number}: {problem}")
            if "at_s" in row:  # the prompts of a replayed trace, now sent in turn
                line = orjson.dumps({key: value for key, value in row.items() if key != "at_s"})
            yield line + b"\n"
