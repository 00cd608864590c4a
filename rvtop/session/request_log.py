"""The requests worth a look while a run goes on: the slowest of the last minute and the last that failed.

It reads the lines that go into ``requests.jsonl`` anyway: of each only what decides whether it is kept, and
of those that are, at the end of their second, all. What is held is bounded.
"""

from __future__ import annotations

import heapq
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isnan
from random import Random
from typing import Any

import numpy as np
import orjson

from rvtop.contract.requests import LISTED, RequestRow, Requests
from rvtop.stats.typical import TtftParts, Typical, split_ttft
from rvtop.stats.waterfall import NOTHING, TOLD, told_of, typical

_SECOND_NS = 1_000_000_000
WINDOW_S = 60
TYPICAL_S = 10
#: Requests of a second that stand for all of it in the typical parts.
_SAMPLE = 128

#: The intended time and the first token's, by the order in which the keys are written.
_NUMBER = rb" ?(-?\d+|null), ?"
_TIMES = re.compile(
    rb'"intended_ns":' + _NUMBER + rb'"sent_ns":[^,]+, ?"headers_ns":[^,]+, ?"first_token_ns":' + _NUMBER
)
_NO_ERROR = re.compile(rb'"error": ?null')

#: Of a request, ms: its TTFT, how late it was sent, from the first token to the last, what its server told.
Times = tuple[float, ...]


@dataclass(slots=True)
class _Second:
    index: int
    slowest: list[tuple[int, int, bytes]] = field(default_factory=list)  # a heap: (TTFT ns, n, line)
    sample: list[tuple[int, bytes]] = field(default_factory=list)  # (TTFT ns, line)
    rows: list[tuple[int, int, RequestRow]] = field(default_factory=list)  # of ``slowest`` …
    times: list[Times] = field(default_factory=list)  # … and of ``sample``, when it was looked at
    counted: int = 0  # ``count`` at that time
    count: int = 0
    told: int = 0


class RequestLog:
    """``t0_ns`` is the run's start (perf_counter), ``t0_unix_s`` the same moment by the wall clock. ``add``
    lines as they come, ``end_second`` once a second, then read ``requests``."""

    def __init__(self, t0_ns: int, t0_unix_s: float) -> None:
        self._t0_ns = t0_ns
        self._t0_unix_s = t0_unix_s
        self._seconds: deque[_Second] = deque(maxlen=WINDOW_S + 1)
        self._errors: deque[RequestRow] = deque(maxlen=LISTED)
        self._random = Random(0)
        self._n = 0  # breaks ties in the heaps
        self.requests = Requests()

    def add(self, lines: bytes, now_ns: int) -> None:
        """Takes in the lines of requests that ended by ``now_ns``."""
        if not lines:
            return
        second = self._second((now_ns - self._t0_ns) // _SECOND_NS)
        for line in lines.splitlines():
            if failed(line):
                self._errors.append(self._row(orjson.loads(line)))
                continue
            times = _TIMES.search(line)
            if times is not None and times[2] != b"null":
                self._add_ok(second, line, int(times[2]) - int(times[1]), times.end())

    def end_second(self, now_ns: int) -> None:
        """Makes ``requests`` anew; it stays the same object while nothing has changed."""
        index = (now_ns - self._t0_ns) // _SECOND_NS
        for second in self._seconds:
            self._look(second)
        listed = [entry for s in self._seconds if s.index > index - WINDOW_S for entry in s.rows]
        recent = [s for s in self._seconds if s.index > index - TYPICAL_S]
        made = Requests(
            slowest=tuple(row for _, _, row in heapq.nlargest(LISTED, listed)),
            errors=tuple(reversed(self._errors)),
            typical=typical_of([times for s in recent for times in s.times]),
            count=sum(s.count for s in recent),
            told=sum(s.told for s in recent),
        )
        if made != self.requests:
            self.requests = made

    def _second(self, index: int) -> _Second:
        if not self._seconds or self._seconds[-1].index < index:
            self._seconds.append(_Second(index))
        return self._seconds[-1]

    def _add_ok(self, second: _Second, line: bytes, ttft_ns: int, behind: int) -> None:
        """``behind``: where the times end in the line."""
        second.count += 1
        second.told += told_of(_server(line, behind)) is not NOTHING
        self._n += 1
        heap = second.slowest
        if len(heap) < LISTED:
            heapq.heappush(heap, (ttft_ns, self._n, line))
        elif ttft_ns > heap[0][0]:
            heapq.heapreplace(heap, (ttft_ns, self._n, line))
        # Each request of the second has the same chance to stand for it.
        if len(second.sample) < _SAMPLE:
            second.sample.append((ttft_ns, line))
            return
        place = int(self._random.random() * second.count)
        if place < _SAMPLE:
            second.sample[place] = (ttft_ns, line)

    def _look(self, second: _Second) -> None:
        """Reads the lines that were kept of a second, if there are new ones."""
        if second.counted != second.count:
            second.counted = second.count
            second.rows = [(ttft, n, self._row(orjson.loads(line))) for ttft, n, line in second.slowest]
            second.times = [times_of(orjson.loads(line)) for _, line in second.sample]

    def _row(self, row: dict[str, Any]) -> RequestRow:
        intended, first, last = row["intended_ns"], row["first_token_ns"], row["last_token_ns"]
        return RequestRow(
            id=row["id"],
            unix_s=self._t0_unix_s + intended / 1e9,
            phase=row["phase"],
            model=row["model"],
            prompt=row["prompt"],
            turn=row.get("turn"),
            engine=row["engine"],
            prompt_tokens=row["prompt_tokens"],
            cached_tokens=row["cached_tokens"],
            output_tokens=row["output_tokens"],
            ttft_ms=None if first is None else (first - intended) / 1e6,
            e2e_ms=None if last is None else (last - intended) / 1e6,
            parts=None if first is None else parts_of(row),
            finish=row["finish"],
            error=row["error"],
            error_text=row["error_text"] or "",
        )


def failed(line: bytes) -> bool:
    """Whether a line is of a request that failed."""
    return not _NO_ERROR.match(line, line.rfind(b'"error":'))


def _server(line: bytes, behind: int) -> dict[str, Any] | None:
    """What a server told of a request, in the line's part behind its times. A text in it that looks like a
    key has its quotes escaped; a server's own keys stand between ours."""
    begin = line.find(b'"server":', behind) + len(b'"server":')
    told: dict[str, Any] | None = orjson.loads(line[begin : line.rfind(b'"finish":')].rstrip(b", "))
    return told


def times_of(row: dict[str, Any]) -> Times:
    """Of a request that has a TTFT, from its line."""
    intended, sent, first, last = (
        row[f"{name}_ns"] for name in ("intended", "sent", "first_token", "last_token")
    )
    late = max(0.0, (sent - intended) / 1e6) if sent is not None else 0.0
    decode = (last - first) / 1e6 if last is not None else 0.0
    return ((first - intended) / 1e6, late, decode, *told_of(row["server"]))


def parts_of(row: dict[str, Any]) -> TtftParts:
    """The parts of the TTFT of a request that has one, from its line."""
    ttft, late, _, *told = times_of(row)
    parts = (None if isnan(part) else part for part in told[: len(TOLD)])
    named = {name.removesuffix("_ms"): part for name, part in zip(TOLD, parts, strict=True)}
    return split_ttft(ttft, late, **named)


def typical_of(sample: Sequence[Times]) -> tuple[Typical, ...]:
    """The mean of all, and the means of the requests around p50 and p99; nothing of nothing."""
    columns = np.array(sample, np.float64).reshape(-1, 3 + len(NOTHING))
    return typical(columns[:, 0], columns[:, 1], columns[:, 2], columns[:, 3:])
