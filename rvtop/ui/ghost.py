"""The ghost: what was before, drawn behind what is. Pure: snapshots in, figures out."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.axis import bins
from rvtop.ui.format import wall
from rvtop.ui.leading import leading
from rvtop.ui.span import Span

#: Seconds that a ghost's level is the mean of, as percentiles are of the last 10 s.
LEVEL_S = 10
#: Shares of completed requests that differ by more than this make two latencies no comparison.
CENSORED = 0.01


def phase_begin_s(s: Snapshot) -> float:
    """When the phase of ``s`` began, seconds since the session's start."""
    return s.t_s - s.phase.elapsed_s if s.phase is not None else 0.0


def completion(s: Snapshot) -> float | None:
    """Of the requests that ended in the last 10 s, the share that was answered in full; None without any."""
    ended = s.latency.e2e.count + s.load.errors_recent
    return s.latency.e2e.count / ended if ended else None


@dataclass(frozen=True, slots=True)
class Ghost:
    """A snapshot that is kept, whole."""

    snapshot: Snapshot

    def name(self, now: Snapshot) -> str:
        """What it is called beside ``now``: its topology if that is another one, else when it was."""
        topology = self.snapshot.target.topology
        return topology if topology and topology != now.target.topology else wall(self.snapshot.unix_s)

    def level(self, figure: str) -> float | None:
        """The mean of a figure of the series over the ghost's last seconds."""
        values: tuple[float | None, ...] = getattr(self.snapshot.series, figure)
        known = [value for value in values[-LEVEL_S:] if value is not None]
        return sum(known) / len(known) if known else None

    def values(self, now: Snapshot, span: Span, figure: str) -> list[float | None]:
        """A figure of the ghost for each column of ``span``: as it was when its phase was as old as that of
        ``now`` is there, and after the ghost's end its level. Where the ghost is what the chart shows there
        anyhow there is nothing."""
        series = self.snapshot.series
        shift = round(phase_begin_s(now) - phase_begin_s(self.snapshot))
        end = (series.t_s[-1] if series.t_s else 0.0) + shift
        level, length = self.level(figure), span.length_s
        count = span.last - span.first + 1
        past: list[float | None] = [None] * count
        if shift and series.t_s:
            moved = [t_s + shift for t_s in series.t_s]
            newest = math.floor(moved[-1] / length)
            found = bins(moved, getattr(series, figure), length, count + max(0, newest - span.last))
            for index, value in enumerate(found):  # its last bin is ``newest``
                place = newest - len(found) + 1 + index - span.first
                if 0 <= place < count:
                    past[place] = value
        made: list[float | None] = []
        for x in range(span.columns):
            later = span.begin_s(x) > end
            made.append(level if later else past[span.bin_of(x) - span.first])
        return made


@dataclass(frozen=True, slots=True)
class Change:
    """How a figure changed: ``share`` 0.1 is 10 % more. None: it is not known on both sides."""

    name: str
    share: float | None


def changes(now: Snapshot, before: Snapshot) -> list[Change]:
    """The figures that compare two times, most telling first."""
    pairs = [
        (f"{name} {q}", getattr(getattr(now.latency, field), q), getattr(getattr(before.latency, field), q))
        for name, field, q in (("TTFT", "ttft", "p50"), ("TTFT", "ttft", "p99"), ("E2E", "e2e", "p50"))
    ]
    tokens = [Ghost(s).level("tokens_per_s") for s in (now, before)]
    pairs.insert(2, ("tokens/s", tokens[0], tokens[1]))
    gap = "ICL" if now.latency.itl_is_chunks else "ITL"
    if now.latency.itl_is_chunks == before.latency.itl_is_chunks:
        pairs.insert(3, (f"{gap} p50", now.latency.itl.p50, before.latency.itl.p50))
    return [Change(name, a / b - 1 if a is not None and b else None) for name, a, b in pairs]


def censored(now: Snapshot, before: Snapshot) -> bool:
    """Whether so many more failed on one side that its latencies are only those of the survivors."""
    shares = completion(now), completion(before)
    return None not in shares and abs(shares[0] - shares[1]) > CENSORED  # type: ignore[operator]


class GhostKeeper:
    """Keeps a ghost: the one that was asked for, or the target before by itself."""

    def __init__(self) -> None:
        self.ghost: Ghost | None = None
        self.hidden = False
        self._loaded: Snapshot | None = None  # the newest under load

    @property
    def shown(self) -> Ghost | None:
        return None if self.hidden else self.ghost

    def observe(self, s: Snapshot) -> None:
        """Takes a snapshot in; the first one of another target makes the last one under load the ghost."""
        before = self._loaded
        if before is not None and s.t_s < before.t_s:  # another session
            self.ghost = self._loaded = before = None
        other = before is not None and _target(s) != _target(before)
        if before is not None and other:
            self.ghost, self.hidden, self._loaded = Ghost(before), False, None
        if s.state == "running" and leading(s).recent.count and s.target_down_s is None:
            self._loaded = s

    def keep(self, s: Snapshot) -> bool:
        """Makes ``s`` the ghost; False where it has no request to compare with."""
        if not leading(s).recent.count:
            return False
        self.ghost, self.hidden = Ghost(s), False
        return True


def _target(s: Snapshot) -> tuple[object, ...]:
    return (s.target.url, s.target.topology, s.target.models)
