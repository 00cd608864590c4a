"""The time that charts beside each other share: which seconds stand in which column. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rvtop.contract.snapshot import Event, Series, Snapshot
from rvtop.ui.axis import bins

#: The windows that charts over time can show, seconds; a session keeps ten minutes.
WINDOWS_S = (60, 120, 300, 600)
#: A window that grows with the run by itself grows up to this.
GROWS_TO_S = 120

#: What an event is drawn as in the charts, by its kind; those of other kinds are not.
SIGNS = {"phase": "╎", "target": "╎", "mark": "◆"}
PREEMPTED = "▼"


def window_of(t_s: float) -> int:
    """The window that a run of ``t_s`` seconds has by itself, seconds."""
    return next((window for window in WINDOWS_S if window >= min(t_s, GROWS_TO_S)), GROWS_TO_S)


def point_at(series: Series, t_s: float) -> int | None:
    """The index of the newest point that is not later than ``t_s``."""
    for index in range(len(series.t_s) - 1, -1, -1):
        if series.t_s[index] <= t_s + 1e-6:
            return index
    return None


def now_of(s: Snapshot, name: str) -> float | None:
    """What the charts say of ``name`` at the snapshot's own second, which may be a gap."""
    index = point_at(s.series, s.t_s)
    values: tuple[float | None, ...] = getattr(s.series, name)
    return values[index] if index is not None and index < len(values) else None


@dataclass(frozen=True, slots=True)
class Span:
    """``columns`` cells that show ``bins`` bins of ``length_s`` seconds up to the bin ``last``.

    Bins lie at whole multiples of their length since the session's start, so that a column moves left but
    never changes its height while it does. A bin takes one cell or two.
    """

    columns: int
    length_s: int
    bins: int
    last: int

    @classmethod
    def of(cls, t_s: Sequence[float], columns: int, window_s: int) -> Span:
        """The newest ``window_s`` seconds of ``t_s`` in ``columns`` cells."""
        length = max(1, math.ceil(window_s / max(1, columns)))
        last = math.floor(t_s[-1] / length) if t_s else 0
        return cls(max(0, columns), length, max(1, window_s // length), last)

    @property
    def first(self) -> int:
        return self.last - self.bins + 1

    def bin_of(self, x: int) -> int:
        """The bin that column ``x`` shows."""
        return self.first + x * self.bins // max(1, self.columns)

    def begin_s(self, x: int) -> float:
        """The second at which what column ``x`` shows begins."""
        return float(self.bin_of(x) * self.length_s)

    def column(self, t_s: float) -> int | None:
        """The first column that shows ``t_s``; None where it is not in the window."""
        place = math.floor(t_s / self.length_s) - self.first
        if not 0 <= place < self.bins or not self.columns:
            return None
        return min(self.columns - 1, -(-place * self.columns // self.bins))

    def means(self, t_s: Sequence[float], values: Sequence[float | None]) -> list[float | None]:
        """Means of ``values`` for each column; None where there is no figure, or the series has none."""
        if len(values) < len(t_s):  # a session of an older rvtop does not tell it
            return [None] * self.columns
        made = bins(t_s, values, self.length_s, self.bins)
        return [made[x * self.bins // self.columns] for x in range(self.columns)]


def signs(events: Sequence[Event], series: Series, span: Span) -> dict[int, tuple[str, str]]:
    """What happened in which column: (sign, text). A mark comes before a phase, and that before preempted
    requests; of two equal ones the later stays."""
    made: dict[int, tuple[str, str]] = {}
    for t_s in preempted(series):
        x = span.column(t_s)
        if x is not None:
            made[x] = (PREEMPTED, "")
    for event in sorted(events, key=lambda event: event.kind == "mark"):
        x = span.column(event.t_s) if event.kind in SIGNS and event.t_s is not None else None
        if x is not None:
            made[x] = (SIGNS[event.kind], event.text)
    return made


def preempted(series: Series) -> list[float]:
    """The seconds in which engines preempted requests."""
    found: list[float] = []
    before: float | None = None
    for t_s, total in zip(series.t_s, series.preemptions, strict=False):
        if total is not None:
            if before is not None and total > before:
                found.append(t_s)
            before = total
    return found


def mark_times(s: Snapshot) -> list[float]:
    """When something happened that charts show, ascending, seconds."""
    times = {event.t_s for event in s.events if event.kind in SIGNS and event.t_s is not None}
    return sorted(times | set(preempted(s.series)))
