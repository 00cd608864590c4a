"""The mocks' log: what a server saw and wrote, on the clock of ``time.perf_counter_ns``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tests.mock.wire import COLUMNS

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Log:
    """One entry a request, in the order in which they ended; arrays of shape (requests,).

    Times are CLOCK_MONOTONIC nanoseconds, 0 where it did not come to that. ``late_*`` is how far the
    server's own writes were behind their deadlines, so a busy machine is not blamed on the client;
    writes that the client's full window held up count in ``blocked`` instead.
    """

    id: list[str]  #: the request's ``x-request-id``, else a number in 16 hex digits
    end: list[str]  #: "done", "cut" (the client went away) or "open" (under way when the server ended)
    arrival_ns: Int64s  #: the request's last byte was read
    first_ns: Int64s  #: the first token was written
    last_ns: Int64s  #: the newest token was written
    tokens: Int64s  #: tokens written
    asked: Int64s  #: tokens asked for
    late_first_ns: Int64s
    late_max_ns: Int64s
    late_sum_ns: Int64s  #: summed over tokens
    blocked: Int64s

    def __len__(self) -> int:
        return len(self.id)

    @property
    def done(self) -> npt.NDArray[np.bool_]:
        """Which requests were answered to the end."""
        return np.array([end == "done" for end in self.end], dtype=bool)

    @property
    def ttft_ns(self) -> Int64s:
        """True time to first token of the requests in ``done``, nanoseconds."""
        return (self.first_ns - self.arrival_ns)[self.done]

    @property
    def late_mean_ms(self) -> float:
        """Mean lateness of a token, milliseconds; NaN without tokens."""
        total = int(self.tokens.sum())
        return float(self.late_sum_ns.sum()) / total / 1e6 if total else float("nan")


def parse_log(text: str) -> Log:
    """Reads the mocks' tab-separated log. Raises ValueError when the head or a row is not theirs."""
    lines = text.splitlines()
    head = ("id", *COLUMNS, "end")
    if not lines or tuple(lines[0].split("\t")) != head:
        raise ValueError(f"not a mock's log: its first line is {lines[:1]}")
    rows = [line.split("\t") for line in lines[1:]]
    for number, row in enumerate(rows, 2):
        if len(row) != len(head):
            raise ValueError(f"the mock's log, line {number}: {len(row)} columns instead of {len(head)}")
    columns = {
        name: np.array([int(row[i]) for row in rows], dtype=np.int64) for i, name in enumerate(COLUMNS, 1)
    }
    return Log(id=[row[0] for row in rows], end=[row[-1] for row in rows], **columns)
