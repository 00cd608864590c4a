"""``requests.jsonl`` as columns: one NumPy array a field, one row a request.

A line that can't be read (a run killed in the middle of a write, a damaged disk) is left out and counted.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rvtop.errors import UserError
from rvtop.results.lines import Unread, json_lines
from rvtop.stats.histogram import BUCKETS

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: Stands for a time or a count that a line does not have.
NONE = -1


class TableError(UserError):
    """A requests file of which nothing can be read; the text names file and line."""


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

    @property
    def ok(self) -> Bools:
        """Requests that ended well."""
        return np.equal(self.error, 0)


class _Names(dict[str, int]):
    """Names to small numbers, in the order of appearance."""

    def __missing__(self, name: str) -> int:
        if not isinstance(name, str):
            raise TypeError
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
_FIRST, _LAST, _OUTPUT = (
    _FIELDS.index(name) for name in ("first_token_ns", "last_token_ns", "output_tokens")
)
#: No time (ns) and no count comes near: 104 days.
_LARGEST = 1 << 53


def read(path: Path, notes: list[str]) -> Requests:
    """Reads the file line by line; about 90 bytes a request are held. Lines that can't be read are left out,
    which ``notes`` is told. Raises TableError when there is no file, or no line of it can be read."""
    unread = Unread(path)
    phases, models, errors = _Names(), _Names(), _Names({"": 0})
    numbers = array("q")  # _NUMBERS a row
    from_usage = array("b")
    gaps: dict[tuple[int, int], array[int]] = {}
    pick = itemgetter(*_FIELDS)
    try:
        for row in json_lines(path, unread):
            try:
                phase, model, failed = phases[row["phase"]], models[row["model"]], row["error"]
                fields = [NONE if value is None else value for value in pick(row)]
                hist = () if failed else _hist(row["itl_hist"])
                _check(fields, ended_well=not failed)
                # Through an array of its own: what is no whole number adds nothing, not half a row.
                numbers.extend(array("q", (phase, model, errors[failed or ""], *fields)))
                from_usage.append(row["token_source"] == "usage")
            except (KeyError, TypeError, ValueError, OverflowError):
                del numbers[len(from_usage) * _NUMBERS :]
                unread.skip("not a request of this version")
                continue
            if not failed:
                counts = gaps.get((phase, model))
                if counts is None:
                    counts = gaps[phase, model] = array("q", bytes(8 * BUCKETS))
                for bucket, count in hist:
                    counts[bucket] += count
    except OSError as error:
        raise TableError(f"{path}: {error.strerror}") from error
    if unread.count:
        notes.append(str(unread))
    if unread.count and not from_usage:
        raise TableError(f"{path}: not a file of requests of this version ({unread})")
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
    )


def _check(fields: list[Any], *, ended_well: bool) -> None:
    """Raises ValueError or TypeError for numbers that no request can have."""
    if min(fields) < NONE or max(fields) > _LARGEST or fields[0] < 0:
        raise ValueError
    answered = ended_well and fields[_FIRST] != NONE
    if answered and (fields[_LAST] < fields[_FIRST] or fields[_OUTPUT] < 0):
        raise ValueError


def _hist(pairs: Any) -> list[tuple[int, int]]:
    """[bucket, count] pairs as they stand in a line. Raises ValueError or TypeError."""
    flat = array("q", chain.from_iterable(pairs))
    if not flat:
        return []
    buckets, counts = flat[::2], flat[1::2]
    if min(flat) < 0 or max(buckets) >= BUCKETS or max(counts, default=_LARGEST + 1) > _LARGEST:
        raise ValueError
    return list(zip(buckets, counts, strict=True))
