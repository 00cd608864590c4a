"""``requests.jsonl`` as columns: one NumPy array a field, one row a request.

A line that is cut (a run killed in the middle of a write) is left out; any other damage is an error.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from rvtop.errors import UserError
from rvtop.stats.histogram import BUCKETS

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: Stands for a time or a count that a line does not have.
NONE = -1
#: Of so many different error texts are the most frequent ones found; a server may say another one each time.
_MOST_TEXTS = 1000


class TableError(UserError):
    """A requests file that can't be read; the text names file and line."""


@dataclass(frozen=True)
class Requests:
    """All requests of a run. Arrays have shape (n,); times are ns from the run's start, NONE if absent."""

    phases: tuple[str, ...]  # names, indexed by ``phase``
    models: tuple[str, ...]
    errors: tuple[str, ...]  # error classes, indexed by ``error``; 0 is "" (ended well)
    phase: Int64s
    model: Int64s
    error: Int64s
    intended: Int64s
    sent: Int64s
    first: Int64s
    last: Int64s
    output_tokens: Int64s
    prompt_tokens: Int64s
    cached_tokens: Int64s
    chunks: Int64s
    from_usage: Bools
    gaps: dict[tuple[int, int], Int64s]  # (phase, model) -> counts of ok requests' gaps, shape (BUCKETS,)
    words: Mapping[tuple[str, str], int] = field(default_factory=dict)  # counts of (error class, text)

    @property
    def ok(self) -> Bools:
        """Requests that ended well."""
        return np.equal(self.error, 0)


class _Names(dict[str, int]):
    """Names to small numbers, in the order of appearance."""

    def __missing__(self, name: str) -> int:
        number = self[name] = len(self)
        return number


_FIELDS = (
    "intended_ns",
    "sent_ns",
    "first_token_ns",
    "last_token_ns",
    "output_tokens",
    "prompt_tokens",
    "cached_tokens",
    "chunks",
)
_NUMBERS = 3 + len(_FIELDS)  # of a row: phase, model, error class, and the fields


def read(path: Path) -> Requests:
    """Reads the file line by line; about 90 bytes a request are held. Raises TableError."""
    phases, models, errors = _Names(), _Names(), _Names({"": 0})
    numbers = array("q")  # _NUMBERS a row
    from_usage = array("b")
    gaps: dict[tuple[int, int], array[int]] = {}
    words: Counter[tuple[str, str]] = Counter()
    pick = itemgetter(*_FIELDS)
    try:
        lines = open(path, "rb")  # noqa: SIM115 - closed by the with below; an absent file is named here
    except OSError as error:
        raise TableError(f"{path}: {error.strerror}") from error
    with lines:
        for number, text in enumerate(lines, 1):
            if not text.endswith(b"\n"):
                break
            row = _row(path, number, text)
            try:
                phase, model, failed = phases[row["phase"]], models[row["model"]], row["error"]
                fields = [NONE if value is None else value for value in pick(row)]
                numbers.extend((phase, model, errors[failed or ""], *fields))
                from_usage.append(row["token_source"] == "usage")
                if failed:
                    said = (failed, str(row.get("error_text") or ""))
                    if said in words or len(words) < _MOST_TEXTS:
                        words[said] += 1
                else:
                    counts = gaps.get((phase, model))
                    if counts is None:
                        counts = gaps[phase, model] = array("q", bytes(8 * BUCKETS))
                    for bucket, count in row["itl_hist"]:
                        counts[bucket] += count
            except (KeyError, TypeError, IndexError, ValueError, OverflowError) as error:
                raise TableError(f"{path}:{number}: not a request of this version: {error!r}") from error
    columns = np.frombuffer(numbers, dtype=np.int64).reshape(-1, _NUMBERS).T
    phase_column, model_column, error_column, *times, output, prompt, cached, chunks = columns
    intended, sent, first, last = times
    return Requests(
        phases=tuple(phases),
        models=tuple(models),
        errors=tuple(errors),
        phase=phase_column,
        model=model_column,
        error=error_column,
        intended=intended,
        sent=sent,
        first=first,
        last=last,
        output_tokens=output,
        prompt_tokens=prompt,
        cached_tokens=cached,
        chunks=chunks,
        from_usage=np.frombuffer(from_usage, dtype=np.int8).astype(bool),
        gaps={key: np.frombuffer(counts, dtype=np.int64) for key, counts in gaps.items()},
        words=words,
    )


def _row(path: Path, number: int, text: bytes) -> dict[str, Any]:
    try:
        row = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise TableError(f"{path}:{number}: not JSON: {error}") from error
    if not isinstance(row, dict):
        raise TableError(f"{path}:{number}: not a JSON object")
    return row


def read_lines(path: Path) -> list[dict[str, Any]]:
    """A small JSONL file as a whole; absent is empty, a cut last line is left out. Raises TableError."""
    if not path.exists():
        return []
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    return [_row(path, number, line) for number, line in enumerate(whole.splitlines(), 1)]
