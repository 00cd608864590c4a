"""What the screen remembers of rates: means since the last command, and how the SLO fared at each rate.

Both are fed by snapshots alone. Pure: the time is the snapshot's.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import Flag

from rvtop.contract.snapshot import Snapshot

#: The shortest and the longest time that a mean rate covers, seconds.
LEAST_S, MOST_S = 1.0, 10.0
#: Rates this close to each other are one rate: a ramp has no commands, and yet must not be averaged over.
SAME_SHARE, SAME_RPS = 0.05, 0.5
#: A rate is judged after it has stood for so long, seconds, or for so many answers.
STAND_S, STAND_REQUESTS = 10.0, 100
#: Of the requests, how many may miss the SLO: it is held at its 99th percentile.
MISSES = 0.01
#: Remembered rates lie in buckets of this ratio: finer than any screen's columns.
RATIO = 1.02


@dataclass(frozen=True, slots=True)
class Means:
    """Requests a second over the last ``span_s``; ``noise`` is what Poisson arrivals vary by: sqrt(n) / t."""

    span_s: float
    due: float
    served: float
    noise: float


@dataclass(frozen=True, slots=True)
class _Point:
    t_s: float
    target: float | None
    due: int
    ok: int


class RecentRates:
    """Means since the last command, over 1 to 10 s."""

    def __init__(self) -> None:
        self._points: deque[_Point] = deque()
        self._commanded_at = -math.inf

    def observe(self, s: Snapshot) -> None:
        """Takes in a snapshot."""
        points, load = self._points, s.load
        if points and (s.t_s < points[-1].t_s or load.due < points[-1].due):
            points.clear()  # another session
            self._commanded_at = -math.inf
        point = _Point(s.t_s, load.target_rps, load.due, load.ok)
        if points and points[-1].target != point.target and self._stood_still():
            self._commanded_at = s.t_s
        points.append(point)
        while len(points) > 2 and points[1].t_s <= s.t_s - MOST_S:
            points.popleft()

    def _stood_still(self) -> bool:
        """Whether the target had one value for a second: a change then is a command, and no ramp."""
        newest = self._points[-1]
        for point in reversed(self._points):
            if newest.t_s - point.t_s >= LEAST_S:
                return True
            if point.target != newest.target:
                return False
        return len(self._points) > 1

    @property
    def means(self) -> Means | None:
        """The means; None before there is a second to take them over, and where nothing was due."""
        if not self._points:
            return None
        newest = self._points[-1]
        begin = newest.t_s
        for point in reversed(self._points):
            if point.t_s < self._commanded_at or not _same(point.target, newest.target):
                break
            begin = point.t_s
        begin = min(begin, newest.t_s - LEAST_S)
        first = next((p for p in reversed(self._points) if p.t_s <= begin + 1e-6), self._points[0])
        if newest.t_s - first.t_s < LEAST_S - 1e-6 or not newest.due:
            return None
        span = newest.t_s - first.t_s
        due = newest.due - first.due
        return Means(span, due / span, (newest.ok - first.ok) / span, math.sqrt(due) / span)


def _same(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    return abs(a - b) <= max(SAME_RPS, SAME_SHARE * max(a, b))


class Fared(Flag):
    """How the SLO fared at a rate."""

    UNTRIED = 0
    HELD = 1
    MISSED = 2
    BOTH = 3


@dataclass(slots=True)
class _Stand:
    """Since when a rate stands, and the counts at its begin."""

    rate: float
    target: str
    phase: tuple[int, str] | None
    t_s: float
    first_tokens: int
    late: float
    errors: int
    ok: int


class RateMemory:
    """Remembers for each rate whether the SLO was held when it last stood there for STAND_S or
    STAND_REQUESTS, apart for each target."""

    def __init__(self) -> None:
        self._by_target: dict[str, dict[int, tuple[float, Fared]]] = {}
        self.version = 0  # changes with what is remembered
        self._stand: _Stand | None = None
        self.target = ""
        self.highest = 0.0  # rate that was commanded so far

    def observe(self, s: Snapshot) -> None:
        """Takes in a snapshot."""
        self.target = _name(s)
        rate = s.load.target_rps
        if rate is not None:
            self.highest = max(self.highest, rate)
        if s.state != "running" or not rate or s.slo_ttft_ms is None:
            self._stand = None
            return
        now = self._now(s, rate, s.slo_ttft_ms)
        before = self._stand
        if (
            before is None
            or (before.rate, before.target, before.phase) != (now.rate, now.target, now.phase)
            or now.first_tokens < before.first_tokens
        ):
            self._stand = now
            return
        answers = now.ok + now.errors - before.ok - before.errors
        if now.t_s - before.t_s < STAND_S and answers < STAND_REQUESTS:
            return
        errors = now.errors - before.errors
        tried = now.first_tokens - before.first_tokens + errors
        if tried <= 0:
            return  # nothing has come back: neither held nor missed can be said
        missed = now.late - before.late + errors
        self._remember(rate, Fared.HELD if missed <= MISSES * tried else Fared.MISSED)
        self._stand = now

    @staticmethod
    def _now(s: Snapshot, rate: float, slo_ms: float) -> _Stand:
        seen = s.latency.ttft_phase
        late = sum(seen.rebin([slo_ms * 1e6, math.inf])) if seen.count else 0.0
        return _Stand(
            rate=rate,
            target=_name(s),
            phase=(s.phase.index, s.phase.name) if s.phase else None,
            t_s=s.t_s,
            first_tokens=seen.count,
            late=late,
            errors=sum(n for _, n in s.load.errors),
            ok=s.load.ok,
        )

    def _remember(self, rate: float, fared: Fared) -> None:
        self._by_target.setdefault(self.target, {})[_bucket(rate)] = (rate, fared)
        self.version += 1

    @property
    def missed(self) -> tuple[float, ...]:
        """The rates at which this target last missed the SLO."""
        own = self._by_target.get(self.target, {})
        return tuple(rate for rate, fared in own.values() if fared is Fared.MISSED)

    def seen(self) -> list[tuple[float, Fared, bool]]:
        """All that is remembered: (rate, how the SLO fared, with this target or not), this target's last."""
        others = [held for target, held in self._by_target.items() if target != self.target]
        own = self._by_target.get(self.target, {})
        found = [(rate, fared, False) for held in others for rate, fared in held.values()]
        return found + [(rate, fared, True) for rate, fared in own.values()]


def _name(s: Snapshot) -> str:
    return f"{s.target.topology} {s.target.url}"


def _bucket(rate: float) -> int:
    return round(math.log(rate) / math.log(RATIO))


class Rates:
    """Both, as one session's screens share them."""

    def __init__(self) -> None:
        self.recent, self.memory = RecentRates(), RateMemory()

    def observe(self, s: Snapshot) -> None:
        """Takes in a snapshot."""
        self.recent.observe(s)
        self.memory.observe(s)


class RateScale:
    """A log scale of rates over ``width`` columns: from 1 to the session's maximum, else to four times the
    highest rate that was tried, at least 10."""

    def __init__(self, width: int, highest: float, max_rate: float | None) -> None:
        self.width = max(1, width)
        self.top = max_rate if max_rate is not None and max_rate > 1 else _above(max(10.0, 4 * highest))

    def column(self, rate: float) -> int:
        """The column of a rate; those that lie outside are in the first or the last one."""
        if rate <= 1:
            return 0
        return min(self.width - 1, math.floor(math.log(rate) / math.log(self.top) * self.width + 1e-9))

    def rate(self, column: int) -> float:
        """The rate in the middle of a column."""
        return float(self.top ** ((column + 0.5) / self.width))

    def columns(self, memory: RateMemory) -> list[tuple[Fared, bool]]:
        """How the SLO fared in each column, and whether with this target: what another one left stands until
        it is overwritten."""
        made = [(Fared.UNTRIED, True)] * self.width
        for rate, fared, own in memory.seen():
            x = self.column(rate)
            before, of_own = made[x]
            made[x] = (before | fared if of_own == own or before is Fared.UNTRIED else fared, own)
        return made

    def labels(self) -> list[tuple[int, str]]:
        """Columns and texts of 1, 2, 5, 10, … that fit without touching, the rounder ones first."""
        decades = range(math.floor(math.log10(self.top)) + 1)
        rates = [m * 10.0**d for m in (1, 5, 2) for d in decades if m * 10.0**d <= self.top * (1 + 1e-9)]
        taken: list[tuple[int, str]] = []
        for rate in rates:
            text = f"{rate:.0f}" if rate < 1000 else f"{rate / 1000:g}k"
            x = min(self.column(rate), self.width - len(text))
            if x >= 0 and all(x >= a + len(b) + 1 or x + len(text) + 1 <= a for a, b in taken):
                taken.append((x, text))
        return sorted(taken)


def _above(value: float) -> float:
    """The next of 1, 2, 5, 10, … that is not below ``value``."""
    decade = 10.0 ** math.floor(math.log10(value))
    return next(m * decade for m in (1.0, 2.0, 5.0, 10.0) if m * decade >= value * (1 - 1e-9))
