"""The folder of a way: what is done, row by row, as it is known. Append only; a last line that was cut off by
a kill is dropped when it is opened again.

``results.jsonl`` has the shape of OpenAI's batch output; ``choices[0].token_ids`` is ours. ``errors.jsonl``
the same, with ``error`` in place of ``response``, and ``line``, the row's line in the input.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from rvtop.batch.rows import BadRow, Row
from rvtop.errors import UserError
from rvtop.system.files import unwritable
from rvtop.text import told

T = TypeVar("T")

RESULTS = "results.jsonl"
ERRORS = "errors.jsonl"
#: The rows that the engines' process is given.
WORK = "work.jsonl"
LOG = "batch.log"
_REASON_LIMIT = 500


class Folder:
    """Results and errors of one way. ``good`` and ``bad`` are the ids, and the lines, that are there. Raises
    UserError where it can't be written."""

    def __init__(self, path: Path, model: str) -> None:
        self.path, self._model = path, model
        self.good: set[str] = set()
        self.bad: set[int] = set()
        self.twice = 0  # rows that came again, and were not written again
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._results, self._errors = (_opened(path / name) for name in (RESULTS, ERRORS))
        except OSError as error:
            raise unwritable(path, error) from error
        self.good.update(_lines(path / RESULTS, _id))
        self.bad.update(_lines(path / ERRORS, lambda line: int(line["line"])))

    @property
    def count(self) -> int:
        """Rows that are done, in either way."""
        return len(self.good) + len(self.bad)

    def holds(self, row: Row) -> bool:
        """Whether the row is done."""
        return row.id in self.good or row.key in self.bad

    def good_row(self, row: Row, found: Mapping[str, Any]) -> bool:
        """Writes the answer of a row, unless there is one; returns whether it did."""
        if self.holds(row):
            self.twice += 1
            return False
        self.good.add(row.id)
        self._write(self._results, RESULTS, result_line(row, found, self._model))
        return True

    def bad_row(self, key: int, id_: str, reason: str) -> bool:
        """Writes why a row has no answer, unless that is there; returns whether it did."""
        if key in self.bad or (id_ and id_ in self.good and not reason.startswith("the id ")):
            self.twice += key not in self.bad
            return False
        self.bad.add(key)
        self._write(self._errors, ERRORS, error_line(key, id_, reason))
        return True

    def close(self) -> None:
        os.close(self._results)
        os.close(self._errors)

    def _write(self, fd: int, name: str, line: Mapping[str, Any]) -> None:
        # What a model or a file says may hold half of a surrogate pair: JSON's own escapes keep it.
        data = (json.dumps(line) + "\n").encode()
        try:
            while data:
                data = data[os.write(fd, data) :]
        except OSError as error:
            raise unwritable(self.path / name, error) from error


def result_line(row: Row, found: Mapping[str, Any], model: str) -> dict[str, Any]:
    """A line of ``results.jsonl``. ``found`` is the ``row`` event of an engine."""
    choice: dict[str, Any] = {"index": 0, "finish_reason": found["finish_reason"], "logprobs": None}
    if row.chat:
        choice["message"] = {"role": "assistant", "content": found["text"]}
    else:
        choice["text"] = found["text"]
    tokens_in, tokens_out = int(found["prompt_tokens"]), len(found["token_ids"])
    body = {
        "id": f"{'chatcmpl' if row.chat else 'cmpl'}-batch-{row.key}",
        "object": "chat.completion" if row.chat else "text_completion",
        "model": row.model or model,
        "choices": [{**choice, "token_ids": found["token_ids"]}],
        "usage": {
            "prompt_tokens": tokens_in,
            "completion_tokens": tokens_out,
            "total_tokens": tokens_in + tokens_out,
        },
    }
    response = {"status_code": 200, "request_id": f"batch-{row.key}", "body": body}
    return {"id": f"batch_req_{row.key}", "custom_id": row.id, "response": response, "error": None}


def error_line(key: int, id_: str, reason: str) -> dict[str, Any]:
    """A line of ``errors.jsonl``."""
    error = {"code": "invalid_request", "message": told(reason, _REASON_LIMIT)}
    return {"id": f"batch_req_{key}", "custom_id": id_, "line": key, "response": None, "error": error}


def write_work(path: Path, rows: Iterable[Row]) -> int:
    """Writes what the engines' process reads; returns how many rows that are. Raises UserError."""
    count = 0
    try:
        with path.open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row.work) + "\n")
                count += 1
    except OSError as error:
        raise unwritable(path, error) from error
    return count


def write_bad(folder: Folder, rows: Iterable[BadRow]) -> int:
    """Writes rows that are bad as they stand in the file, unless they are there; returns how many are new."""
    return sum(folder.bad_row(row.key, row.id, row.reason) for row in rows)


def tokens_of(path: Path) -> dict[str, tuple[int, ...]]:
    """The output tokens of each row of a way, by its id."""
    return dict(_lines(path / RESULTS, lambda line: (_id(line), _tokens(line))))


def _id(line: Mapping[str, Any]) -> str:
    return str(line["custom_id"])


def _tokens(line: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(line["response"]["body"]["choices"][0]["token_ids"])


def _opened(path: Path) -> int:
    """A descriptor that appends behind the last whole line."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    end = size = os.fstat(fd).st_size
    while end and os.pread(fd, 1, end - 1) != b"\n":
        start = max(0, end - 4096)
        end = start + os.pread(fd, end - start, start).rfind(b"\n") + 1 or start
    if end != size:
        os.ftruncate(fd, end)
    return fd


def _lines(path: Path, read: Callable[[Mapping[str, Any]], T]) -> Iterator[T]:
    """What ``read`` makes of each line. Raises UserError for one that is none of a batch's."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    found = read(json.loads(line))
                except (ValueError, KeyError, TypeError, IndexError, RecursionError):
                    raise UserError(
                        f"{path}:{number}: is no line of a batch's; restore it, or give another --out"
                    ) from None
                yield found
    except FileNotFoundError:
        return
