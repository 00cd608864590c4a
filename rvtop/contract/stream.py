"""A run of snapshots as messages for one reader: history and events go once, not with each snapshot.

The charts' history is a ``Series`` as a whole at first and then a ``Point`` a second; events come one by one,
and of the listed requests only the new ones; a ``Snapshot`` without any of these ends each group.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from rvtop.contract.requests import LISTED, NO_REQUESTS, RequestRow, Requests
from rvtop.contract.snapshot import Event, Series, Snapshot
from rvtop.stats.typical import Typical

#: Points that a Series has at most, one a second.
SERIES_POINTS = 600
#: Events that a snapshot has at most, the newest ones.
EVENTS = 200

_NAMES = tuple(f.name for f in fields(Series))


@dataclass(frozen=True, slots=True)
class Point:
    """One second more of a Series: its figures by name."""

    values: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RequestList:
    """The listed requests by id, with the rows of those that are ``new`` in it."""

    new: tuple[RequestRow, ...] = ()
    slowest: tuple[int, ...] = ()
    errors: tuple[int, ...] = ()
    typical: tuple[Typical, ...] = ()
    count: int = 0
    told: int = 0


class SnapshotWriter:
    """The messages that one reader, which has had all those before, needs for each snapshot."""

    def __init__(self) -> None:
        self._series = Series()
        self._event: Event | None = None  # the newest that was told
        self._requests = NO_REQUESTS

    def messages(self, snapshot: Snapshot) -> Iterator[Series | Point | Event | RequestList | Snapshot]:
        """The messages for ``snapshot``, which come before those for a later one."""
        series, before = snapshot.series, self._series
        if series is not before:
            self._series = series
            yield from _growth(before, series)
        for event in events_after(snapshot.events, self._event):
            self._event = event
            yield event
        requests = snapshot.requests
        if requests is not self._requests:
            yield _changed(self._requests, requests)
            self._requests = requests
        yield replace(snapshot, series=Series(), events=(), requests=NO_REQUESTS)


class SnapshotReader:
    """Snapshots out of a SnapshotWriter's messages; any others are left alone."""

    def __init__(self) -> None:
        self._series = Series()
        self._events: tuple[Event, ...] = ()
        self._requests = NO_REQUESTS

    def take(self, message: Any) -> Snapshot | None:
        """The snapshot that ``message`` completes, if it does."""
        if isinstance(message, Snapshot):
            return replace(message, series=self._series, events=self._events, requests=self._requests)
        if isinstance(message, Point):
            self._series = _appended(self._series, message)
        elif isinstance(message, Series):
            self._series = _sound(message)
        elif isinstance(message, Event):
            self._events = (*self._events, message)[-EVENTS:]
        elif isinstance(message, RequestList):
            self._requests = _listed(self._requests, message)
        return None


def events_after(events: Sequence[Event], last: Event | None) -> Sequence[Event]:
    """The events after ``last``. It is found by identity, since the list holds the newest ones only."""
    for index in range(len(events) - 1, -1, -1):
        if events[index] is last:
            return events[index + 1 :]
    return events


def _growth(before: Series, now: Series) -> Iterator[Series | Point]:
    """What turns ``before`` into ``now``: its new points, or all of it where it does not follow."""
    last = before.t_s[-1] if before.t_s else None
    new = [index for index, t in enumerate(now.t_s) if last is None or t > last]
    first = new[0] if new else len(now.t_s)
    if last is None or not first or now.t_s[first - 1] != last:
        yield now
        return
    for index in new:
        yield Point({name: getattr(now, name)[index] for name in _NAMES})


def _appended(series: Series, point: Point) -> Series:
    if point.values.get("t_s") is None:  # no time, no place in a chart
        return series
    columns: dict[str, Any] = {
        name: (*getattr(series, name), point.values.get(name))[-SERIES_POINTS:] for name in _NAMES
    }
    return Series(**columns)


def _sound(series: Series) -> Series:
    """The newest points of it, in columns of one length: what an older rvtop did not have is a gap."""
    most = len(series.t_s)
    columns: dict[str, Any] = {}
    for name in _NAMES:
        column = getattr(series, name)[:most]
        columns[name] = (*column, *(None,) * (most - len(column)))[-SERIES_POINTS:]
    return Series(**columns)


def _rows(requests: Requests) -> dict[int, RequestRow]:
    return {row.id: row for row in (*requests.slowest, *requests.errors)}


def _changed(before: Requests, now: Requests) -> RequestList:
    known = _rows(before)
    return RequestList(
        new=tuple(row for row in _rows(now).values() if row.id not in known),
        slowest=tuple(row.id for row in now.slowest),
        errors=tuple(row.id for row in now.errors),
        typical=now.typical,
        count=now.count,
        told=now.told,
    )


def _listed(before: Requests, message: RequestList) -> Requests:
    """The lists after ``message``; a row that was lost on the way is left out."""
    rows = _rows(before) | {row.id: row for row in message.new}

    def known(ids: Sequence[int]) -> tuple[RequestRow, ...]:
        return tuple(rows[id] for id in ids[:LISTED] if id in rows)

    typical = message.typical[:LISTED]
    return Requests(known(message.slowest), known(message.errors), typical, message.count, message.told)
