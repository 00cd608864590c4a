"""A stored run as its screen showed it, any second at once."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from rvtop.contract.run_files import SCREEN
from rvtop.contract.snapshot import Event, Series, Snapshot
from rvtop.contract.stream import EVENTS, SERIES_POINTS
from rvtop.errors import UserError
from rvtop.results.screen_log import read_screen

_NAMES = tuple(f.name for f in fields(Series))


@dataclass(slots=True)
class _Columns:
    """A history that grows, as long as each snapshot's follows the one before it."""

    series: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in _NAMES})

    def upto(self, count: int) -> Series:
        begin = max(0, count - SERIES_POINTS)
        return Series(**{name: tuple(column[begin:count]) for name, column in self.series.items()})


@dataclass(frozen=True, slots=True)
class _Second:
    snapshot: Snapshot  # without its history and events
    columns: _Columns
    points: int
    events: int


class Recording:
    """The snapshots of a run, one a second, oldest first. Their histories and events are held once.

    ``t_s``: the seconds since the run's start of each; ``notes``: what of the file could not be read.
    """

    def __init__(self) -> None:
        self.t_s: list[float] = []
        self.notes: list[str] = []
        self._seconds: list[_Second] = []
        self._events: list[Event] = []
        self._columns = _Columns()

    def __len__(self) -> int:
        return len(self._seconds)

    def add(self, snapshot: Snapshot) -> None:
        """One second more. One that is no later than the one before it is left out."""
        if self.t_s and snapshot.t_s <= self.t_s[-1]:
            return
        self._grow(snapshot.series)
        known = self._events[-1] if self._events else None
        new = len(snapshot.events)
        while new and snapshot.events[new - 1] != known:
            new -= 1
        self._events.extend(snapshot.events[new:])
        bare = replace(snapshot, series=Series(), events=())
        points = len(self._columns.series["t_s"])
        self._seconds.append(_Second(bare, self._columns, points, len(self._events)))
        self.t_s.append(snapshot.t_s)

    def _grow(self, series: Series) -> None:
        times = self._columns.series["t_s"]
        new = bisect_right(series.t_s, times[-1]) if times else 0
        if times and (not new or series.t_s[new - 1] != times[-1]):  # it does not follow
            self._columns, new = _Columns(), 0
        for name, column in self._columns.series.items():
            column.extend(getattr(series, name)[new:])

    def at(self, index: int) -> Snapshot:
        """The snapshot number ``index`` (from 0). Raises IndexError."""
        second = self._seconds[index]
        events = self._events[max(0, second.events - EVENTS) : second.events]
        return replace(second.snapshot, series=second.columns.upto(second.points), events=tuple(events))

    def index_at(self, t_s: float) -> int:
        """The number of the snapshot that the screen showed at ``t_s``; the first one before its time."""
        return max(0, bisect_right(self.t_s, t_s) - 1)

    @property
    def phases(self) -> tuple[tuple[float, str], ...]:
        """When each phase was first seen, seconds since the run's start, and its name."""
        found: list[tuple[float, str]] = []
        before: object = None
        for second in self._seconds:
            phase = second.snapshot.phase
            if phase is not None and (phase.name, phase.index) != before:
                found.append((second.snapshot.t_s, phase.name))
                before = (phase.name, phase.index)
        return tuple(found)

    @property
    def events(self) -> tuple[Event, ...]:
        """All events of the run."""
        return tuple(self._events)

    @property
    def series(self) -> Series:
        """The history of all of the run that follows on itself, to its end."""
        return Series(**{name: tuple(column) for name, column in self._columns.series.items()})


def read_recording(folder: Path) -> Recording:
    """The recording in a run folder. Raises UserError: what is missing, and how runs get one."""
    path = folder / SCREEN
    recording = Recording()
    try:
        for snapshot in read_screen(path, recording.notes):
            recording.add(snapshot)
    except FileNotFoundError:
        what = "no such folder" if not folder.is_dir() else f"holds no {SCREEN}"
        raise UserError(
            f"{folder}: {what}: give the folder of a run, as rvtop run leaves one in runs/"
        ) from None
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror or error}") from None
    if not len(recording):
        why = f" ({recording.notes[0]})" if recording.notes else ""
        raise UserError(f"{path}: holds no second of a run{why}")
    return recording
