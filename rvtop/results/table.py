"""``requests.jsonl`` as columns: one NumPy array a field, one row a request.

A line that can't be read (a run killed in the middle of a write, a damaged disk) is left out and counted.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rvtop.errors import UserError
from rvtop.results.gaps import GapColumns, Gaps
from rvtop.results.lines import Unread, json_lines
from rvtop.results.task_lines import TaskLines
from rvtop.stats.distribution import BUCKETS
from rvtop.stats.waterfall import NOTHING, told_of

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating[Any]]

#: Stands for a time or a count that a line does not have.
NONE = -1
#: Of so many different error texts are the most frequent ones found; a server may say another one each time.
_MOST_TEXTS = 1000


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
    told: Floats  # what servers told of each request's TTFT, shape (n, 5): rows of stats.waterfall.told_of
    gaps: dict[tuple[int, int], Int64s]  # (phase, model) -> counts of ok requests' gaps, shape (BUCKETS,)
    each_gaps: Sequence[Gaps] = ()  # the same by request, in parts
    error_texts: Mapping[tuple[str, str], int] = field(default_factory=dict)  # counts of (error class, text)
    arms: tuple[str, ...] = ()  # names, indexed by ``arm``; none where no response named one
    arm: Int64s = field(default_factory=lambda: np.empty(0, dtype=np.int64))  # NONE where none was named
    tasks: TaskLines = field(default_factory=TaskLines)  # of the requests that are steps of tasks

    @property
    def ok(self) -> Bools:
        """Requests that ended well."""
        return np.equal(self.error, 0)

    @property
    def answered(self) -> Bools:
        """Those of them whose answer has a time; of one in one piece that is its end alone."""
        answered: Bools = self.ok & np.not_equal(self.last, NONE)
        return answered

    @property
    def begun(self) -> Int64s:
        """When each answer began to come: its first token, or an answer in one piece."""
        return np.where(np.equal(self.first, NONE), self.last, self.first)


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
LARGEST = 1 << 53
#: What a row that is no request makes of the attempt to add it.
_WRONG = (KeyError, TypeError, IndexError, ValueError, OverflowError)


def read(path: Path, notes: list[str]) -> Requests:
    """Reads the file line by line; about 120 bytes a request are held, and 4 for each bucket of its gaps.
    Lines that can't be read are left out, and noted in ``notes``. Raises TableError when there is no file, or
    no line of it can be read."""
    unread = Unread(path)
    columns = _Columns()
    try:
        try:
            for row in json_lines(path, unread):
                columns.add(row)
            table = columns.checked()
        except _WRONG:  # read again, at a third of the speed: each row is looked at before it is added
            unread, columns = Unread(path), _Columns()
            for row in json_lines(path, unread):
                if _is_request(row):
                    columns.add(row)
                else:
                    unread.skip("not a request of this version")
            table = columns.requests()
    except OSError as error:
        raise TableError(f"{path}: {error.strerror}") from error
    if unread.count and not columns.from_usage:
        raise TableError(f"{path}: not a file of requests of this version ({unread})")
    if unread.count:
        notes.append(str(unread))
    return table


class _Columns:
    """Grows by a row at a time. ``add`` trusts the row, as nearly every one may be; what it does not notice
    ``checked`` does."""

    def __init__(self) -> None:
        self._names = _Names(), _Names(), _Names({"": 0})
        self._numbers = array("q")  # _NUMBERS a row
        self._told = array("f")
        self._gaps = GapColumns(LARGEST)
        self._error_texts: Counter[tuple[str, str]] = Counter()
        self._arms, self._arm = _Names(), array("q")
        self._tasks = TaskLines()
        self._pick = itemgetter(*_FIELDS)
        self.from_usage = array("b")

    def add(self, row: Mapping[str, Any]) -> None:
        """Adds a request; after an exception of _WRONG nothing that was added can be used."""
        phases, models, errors = self._names
        phase, model, failed = phases[row["phase"]], models[row["model"]], row["error"]
        fields = [NONE if value is None else value for value in self._pick(row)]
        self._numbers.extend((phase, model, errors[failed or ""], *fields))
        self._told.extend(told_of(row.get("server")))
        arm = row.get("arm")
        self._arm.append(NONE if arm is None else self._arms[arm])
        if "task" in row:
            self._tasks.add(len(self.from_usage), row)
        self.from_usage.append(row["token_source"] == "usage")
        if failed:
            text = (failed, str(row.get("error_text") or ""))
            if text in self._error_texts or len(self._error_texts) < _MOST_TEXTS:
                self._error_texts[text] += 1
        else:
            self._gaps.add(len(self.from_usage) - 1, row["itl_hist"])

    def checked(self) -> Requests:
        """As ``requests``. Raises ValueError if a row was added that ``_is_request`` would not take."""
        table = self.requests()
        numbers = np.frombuffer(self._numbers, dtype=np.int64)
        good = table.ok & (table.first != NONE)
        wrong = (table.last[good] < table.first[good]) | (table.output_tokens[good] < 0)
        if (
            (numbers.size and (numbers.min() < NONE or numbers.max() > LARGEST or table.intended.min() < 0))
            or wrong.any()
            or not self._gaps.sound
        ):
            raise ValueError
        return table

    def requests(self) -> Requests:
        """The columns as arrays."""
        phases, models, errors = self._names
        columns = np.frombuffer(self._numbers, dtype=np.int64).reshape(-1, _NUMBERS).T
        phase, model, error, *times, output, prompt, cached, chunks = columns
        intended, sent, first, last = times
        each = self._gaps.chunks()
        return Requests(
            phases=tuple(phases),
            models=tuple(models),
            errors=tuple(errors),
            phase=phase,
            model=model,
            error=error,
            intended=intended,
            sent=sent,
            first=first,
            last=last,
            output_tokens=output,
            prompt_tokens=prompt,
            cached_tokens=cached,
            chunks=chunks,
            from_usage=np.frombuffer(self.from_usage, dtype=np.int8).astype(bool),
            gaps=_by_phase_and_model(each, phase, model, len(models)),
            each_gaps=each,
            error_texts=self._error_texts,
            arms=tuple(self._arms),
            arm=np.frombuffer(self._arm, dtype=np.int64),
            tasks=self._tasks,
            told=np.frombuffer(self._told, dtype=np.float32).reshape(-1, len(NOTHING)),
        )


def _by_phase_and_model(
    each: Sequence[Gaps], phase: Int64s, model: Int64s, models: int
) -> dict[tuple[int, int], Int64s]:
    found: dict[tuple[int, int], Int64s] = {}
    for some in each:
        keys, group = np.unique(phase[some.row] * models + model[some.row], return_inverse=True)
        for key, counts in zip(keys.tolist(), some.counts(group, keys.size, LARGEST), strict=True):
            before = found.get(divmod(key, models))
            found[divmod(key, models)] = np.minimum(counts if before is None else before + counts, LARGEST)
    return found


def _is_request(row: Mapping[str, Any]) -> bool:
    """Whether a row has all that a table needs, of the right type and of a size that can be."""
    try:
        names = (row["phase"], row["model"], row["error"] or "", row.get("arm") or "")
        fields = [NONE if row[name] is None else row[name] for name in _FIELDS]
        hist = [] if row["error"] else [(bucket, count) for bucket, count in row["itl_hist"]]
        row["token_source"]
    except (KeyError, TypeError, ValueError):
        return False
    intended, _, first, last, output, *_ = fields
    return (
        all(isinstance(name, str) for name in names)
        and all(type(value) is int and NONE <= value <= LARGEST for value in fields)
        and intended >= 0
        and (first == NONE or bool(row["error"]) or (last >= first and output >= 0))
        and all(type(b) is type(n) is int and 0 <= b < BUCKETS and 0 <= n <= LARGEST for b, n in hist)
    )
