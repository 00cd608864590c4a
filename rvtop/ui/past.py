"""The seconds that a frozen screen can go back to. Pure: snapshots in, snapshots out."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace

from rvtop.contract.requests import NO_REQUESTS, Requests
from rvtop.contract.snapshot import Series, Snapshot
from rvtop.contract.stream import SERIES_POINTS
from rvtop.ui.span import mark_times


class Past:
    """The last snapshot of each second, as many as the charts have points. Series and events are those of the
    newest one: each snapshot has all of them, and ten minutes of copies would fill the memory. A request is
    kept once, however many seconds list it."""

    def __init__(self) -> None:
        self._kept: deque[Snapshot] = deque(maxlen=SERIES_POINTS)
        self._newest: Snapshot | None = None

    def observe(self, s: Snapshot) -> None:
        """Takes a snapshot in."""
        before = self._newest
        if before is not None and s.t_s < before.t_s:  # another session
            self._kept.clear()
        elif before is not None and math.floor(s.t_s) > math.floor(before.t_s):
            listed = self._kept[-1].requests if self._kept else NO_REQUESTS
            kept = _sharing_rows(before.requests, listed)
            self._kept.append(replace(before, series=Series(), events=(), requests=kept))
        self._newest = s

    def at(self, t_s: float, held: Snapshot) -> Snapshot | None:
        """The screen of the second that begins at ``t_s``, with the charts of ``held``; None if no snapshot
        came in that second."""
        if t_s >= math.floor(held.t_s):
            return held
        for s in reversed(self._kept):
            if math.floor(s.t_s) <= t_s:
                found = math.floor(s.t_s) == t_s
                return replace(s, series=held.series, events=held.events) if found else None
        return None


def _sharing_rows(requests: Requests, listed: Requests) -> Requests:
    """The same requests, with the rows of ``listed`` where they have them: a snapshot that came from another
    process has rows of its own."""
    known = {row.id: row for row in (*listed.slowest, *listed.errors)}
    slowest, errors = (
        tuple(known.get(row.id, row) for row in rows) for rows in (requests.slowest, requests.errors)
    )
    return replace(requests, slowest=slowest, errors=errors)


def moved(held: Snapshot, cursor_s: float | None, by_s: float, window_s: int) -> float:
    """The second that lies ``by_s`` from the cursor, or from the last second where there is none; inside the
    window."""
    last = math.floor(held.series.t_s[-1]) if held.series.t_s else math.floor(held.t_s)
    first = max(math.floor(held.series.t_s[0]) if held.series.t_s else last, last - window_s + 1)
    now = last if cursor_s is None else cursor_s
    return float(min(max(now + by_s, first), last))


def next_mark(held: Snapshot, cursor_s: float | None, window_s: int) -> float | None:
    """The second of the mark after the cursor, behind the last one the first; None without any in the
    window."""
    last = moved(held, None, 0, window_s)
    first = moved(held, None, -window_s, window_s)
    seconds = sorted({float(math.floor(t_s)) for t_s in mark_times(held) if first <= math.floor(t_s) <= last})
    later = [t_s for t_s in seconds if cursor_s is not None and t_s > cursor_s]
    return next(iter(later or seconds), None)
