"""The ``energy`` block of a summary, from what each second of the timeline tells of the GPUs and processors.

Energy in J, power in W. A second of the timeline holds the energy since we began to watch
(``rvtop.telemetry.energy``); what a span of time took is the difference between its ends, each read off the
straight line between the two seconds around it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rvtop.contract.snapshot import IDLE_UTIL
from rvtop.telemetry.energy import BOTH

#: Seconds from an end of the span to the nearest second of the timeline across which the power is taken to be
#: that of this second: the timeline has one a second, and begins with the load.
NEAR_S = 2.0
#: A GPU that never used more than this share of its memory, nor was ever busy, holds nothing of the server.
_BARE = 0.02
#: Where energy is not told and the settings say the power of a GPU.
SETTING = "setting"
#: The processors' own counter.
RAPL = "rapl"
MEASURED = "measured"
#: Idle: nothing is in flight, nor was in so many seconds before; at least so many seconds make a figure.
IDLE_AFTER_S, LEAST_IDLE = 3.0, 3

Row = Mapping[str, Any]
Spans = Sequence[tuple[float, float]]
GpuId = tuple[str, int]  # node, index


@dataclass(frozen=True)
class Powers:
    """What the settings say of a GPU's power, W: one that tells none, and one that idles."""

    gpu_w: float | None = None
    idle_w: float | None = None


NO_POWERS = Powers()


class Idle:
    """The power while nothing is in flight: of the GPUs ``served``, without any of the processors."""

    def __init__(self, served: Sequence[GpuId]) -> None:
        self._served = served
        self._busy_s = -IDLE_AFTER_S
        self._sum = 0.0
        self._seconds = 0

    def add(self, row: Row) -> None:
        """Takes one second of the timeline in."""
        if any(row.get(name) for name in ("in_flight", "running", "waiting")):
            self._busy_s = row["t_s"]
        elif row["t_s"] - self._busy_s >= IDLE_AFTER_S and (watts := watts_of(row, self._served)) is not None:
            self._sum += watts
            self._seconds += 1

    def watts(self, powers: Powers) -> tuple[float | None, str | None]:
        """Their power, and whether it was MEASURED or is a SETTING."""
        if self._seconds >= LEAST_IDLE:
            return self._sum / self._seconds, MEASURED
        if self._served and powers.idle_w is not None:
            return powers.idle_w * len(self._served), SETTING
        return None, None


def _floats() -> array[float]:
    return array("d")


@dataclass(slots=True)
class _Total:
    """A total by the second, without its new beginnings."""

    times: array[float] = field(default_factory=_floats)
    values: array[float] = field(default_factory=_floats)
    told: float = 0.0  # the last one as it was told

    def add(self, t_s: float, value: float | None) -> None:
        if value is None or (self.times and t_s <= self.times[-1]):
            return
        # One that is less begins anew: another server is watched from there on.
        more = value - self.told if value >= self.told else value
        self.values.append((self.values[-1] if self.values else 0.0) + more)
        self.times.append(t_s)
        self.told = value

    def forget(self, t_s: float) -> None:
        if self.times and self.times[0] == t_s:
            del self.times[0], self.values[0]

    def at(self, t_s: float) -> float | None:
        """By the straight line between the two seconds around it, or beyond the last; None where none is
        near."""
        times, values = self.times, self.values
        if len(times) < 2 or not times[0] - NEAR_S <= t_s <= times[-1] + NEAR_S:
            return None
        if t_s == times[-1]:  # the ends of a window that goes on are seconds
            return values[-1]
        if t_s == times[0]:
            return values[0]
        place = min(max(bisect_left(times, t_s), 1), len(times) - 1)
        share = (t_s - times[place - 1]) / (times[place] - times[place - 1])
        return values[place - 1] + (values[place] - values[place - 1]) * share

    def growth(self, spans: Spans) -> float | None:
        """Inside the spans; None where an end of one is not near any second."""
        grown = 0.0
        for start, end in spans:
            first, last = self.at(start), self.at(end)
            if first is None or last is None:
                return None
            grown += last - first
        return grown if spans else None


class _Meter:
    """What one GPU told."""

    __slots__ = ("busy", "by", "gap_s", "integrated", "joules", "peaks", "seconds")

    def __init__(self) -> None:
        self.joules, self.integrated, self.gap_s = _Total(), _Total(), _Total()
        self.by: dict[str, int] = {}  # seconds in which each source told
        self.seconds = 0
        self.busy = 0  # seconds in which it held anything, was busy, or did not tell
        self.peaks: deque[tuple[float, float]] = deque()  # (time, memory in use), each less than that before

    def add(self, t_s: float, gpu: Mapping[str, Any]) -> None:
        self.joules.add(t_s, gpu.get("joules"))
        self.integrated.add(t_s, gpu.get("joules_integrated"))
        self.gap_s.add(t_s, gpu.get("power_gap_s"))
        if by := _source(gpu):
            self.by[by] = self.by.get(by, 0) + 1
        self.seconds += 1
        self.busy += _is_busy(gpu)
        used = gpu.get("memory_used") or 0.0
        while self.peaks and self.peaks[-1][1] <= used:
            self.peaks.pop()
        self.peaks.append((t_s, used))

    def forget(self, t_s: float, gpu: Mapping[str, Any]) -> None:
        """Takes out the oldest second, as it was added."""
        for total in (self.joules, self.integrated, self.gap_s):
            total.forget(t_s)
        if by := _source(gpu):
            self.by[by] -= 1
            if not self.by[by]:
                del self.by[by]
        self.seconds -= 1
        self.busy -= _is_busy(gpu)
        if self.peaks and self.peaks[0][0] == t_s:
            self.peaks.popleft()

    @property
    def source(self) -> str:
        return BOTH if len(self.by) > 1 else next(iter(self.by), "")


def _source(gpu: Mapping[str, Any]) -> str:
    return str(gpu.get("joules_by") or "") if gpu.get("joules") is not None else ""


def _is_busy(gpu: Mapping[str, Any]) -> bool:
    """Whether something may be in it in this second."""
    used, total = gpu.get("memory_used"), gpu.get("memory_total")
    holds = used is None or not total or used > _BARE * total
    return holds or (gpu.get("util") or 0.0) >= IDLE_UTIL


class Meters:
    """What GPUs and processors told in some seconds of a timeline: each is added, and may be forgotten again,
    the oldest first. So a window of the last seconds costs no more than the one that is new."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self.of: dict[GpuId, _Meter] = {}
        self.processors = _Total()
        for row in rows:
            self.add(row)

    def add(self, row: Row) -> None:
        """Takes one second in."""
        t_s, of = row["t_s"], self.of
        for gpu in row.get("gpus") or []:
            key = (gpu["node"], gpu["index"])
            if (meter := of.get(key)) is None:
                meter = of[key] = _Meter()
            meter.add(t_s, gpu)
        self.processors.add(t_s, row.get("cpu_joules"))

    def forget(self, row: Row) -> None:
        """Takes out the oldest second that was added."""
        for gpu in row.get("gpus") or []:
            key = (gpu["node"], gpu["index"])
            meter = self.of[key]
            meter.forget(row["t_s"], gpu)
            if not meter.seconds:
                del self.of[key]
        self.processors.forget(row["t_s"])

    def serving(self, engine_gpus: int | None = None) -> list[GpuId]:
        """The GPUs that serve: as many as the engines have, those with the most memory in use; where that is
        not known all that hold anything or were busy, or do not tell."""
        if engine_gpus is None:
            return sorted(key for key, meter in self.of.items() if meter.busy)
        most = {key: meter.peaks[0][1] for key, meter in self.of.items()}
        return sorted(sorted(most, key=lambda key: (-most[key], key))[:engine_gpus])


@dataclass(frozen=True, slots=True)
class _Used:
    """What one meter counted in some spans."""

    joules: float | None
    integrated: float | None = None
    by: str = ""
    gap_s: float = 0.0


class MeteredEnergy:
    """The energy by ``meters``. ``engine_gpus``: how many GPUs the engines say they have; None where they
    don't. ``gpus`` are those that serve; ``idle`` has seen what is to count as idle."""

    def __init__(self, meters: Meters, engine_gpus: int | None = None, powers: Powers = NO_POWERS) -> None:
        self._meters = meters
        self._powers = powers
        self.gpus = meters.serving(engine_gpus)
        self._unseen = max(0, (engine_gpus or 0) - len(self.gpus))  # that no source of figures tells of
        self.idle = Idle(self.gpus)

    def over(self, spans: Spans, *, tokens: float, requests: float) -> dict[str, Any] | None:
        """The energy over ``spans`` ((start, end), seconds from the run's start), in which ``requests`` ended
        well with ``tokens`` output tokens. ``joules`` are of the GPUs that serve, without any of the
        processors; None where one of them does not tell. None where nothing tells at all.
        """
        seconds = sum(end - start for start, end in spans)
        gpus = [(key, self._used(key, spans, seconds)) for key in self.gpus]
        cpu_joules = self._meters.processors.growth(spans)
        found = [used for _, used in gpus] + [self._setting(seconds)] * self._unseen
        if not found and cpu_joules is not None:
            found = [_Used(cpu_joules, None, RAPL)]
        if all(used.joules is None for used in found) and cpu_joules is None:
            return None
        joules = _all([used.joules for used in found])
        idle, idle_from = self.idle.watts(self._powers)
        return {
            "joules": joules,
            "joules_integrated": _all([used.integrated for used in found]),
            "joules_per_token": over(joules, tokens),
            "joules_per_request": over(joules, requests),
            "tokens_per_joule": over(float(tokens), joules),
            "watts_mean": over(joules, seconds),
            "watts_idle": idle,
            "watts_idle_from": idle_from,
            "joules_above_idle": None if joules is None or idle is None else joules - idle * seconds,
            "seconds": seconds,
            "gap_s": max((used.gap_s for used in found), default=0.0),
            "source": _names(used.by for used in found) if joules is not None else None,
            "gpus": [
                {
                    "node": node,
                    "index": index,
                    "joules": used.joules,
                    "joules_integrated": used.integrated,
                    "watts_mean": over(used.joules, seconds),
                    "source": used.by or None,
                    "gap_s": used.gap_s,
                }
                for (node, index), used in gpus
            ],
            "cpu": None
            if cpu_joules is None
            else {"joules": cpu_joules, "watts_mean": over(cpu_joules, seconds)},
        }

    def _used(self, key: GpuId, spans: Spans, seconds: float) -> _Used:
        meter = self._meters.of[key]
        joules = meter.joules.growth(spans)
        if joules is None:
            return self._setting(seconds)
        gap_s = meter.gap_s.growth(spans) or 0.0
        return _Used(joules, meter.integrated.growth(spans), meter.source, gap_s)

    def _setting(self, seconds: float) -> _Used:
        """What a GPU used that does not tell."""
        watts = self._powers.gpu_w
        return _Used(None) if watts is None else _Used(watts * seconds, None, SETTING)


class RunEnergy(MeteredEnergy):
    """The energy of a run, of which all seconds are known."""

    def __init__(
        self, rows: Sequence[Row], engine_gpus: int | None = None, powers: Powers = NO_POWERS
    ) -> None:
        super().__init__(Meters(rows), engine_gpus, powers)
        for row in rows:
            self.idle.add(row)


def gpus_of(rows: Iterable[Row], engine_gpus: int | None = None) -> list[GpuId]:
    """The GPUs that serve in these seconds."""
    return Meters(rows).serving(engine_gpus)


def watts_of(row: Row, served: Sequence[GpuId]) -> float | None:
    """The power of the GPUs ``served`` in a second, without any of the processors; None where one does not
    tell."""
    if not served:
        value: float | None = row.get("cpu_watts")
        return value
    return told_by(row, served, "watts")


def told_by(row: Row, served: Sequence[GpuId], name: str) -> float | None:
    """The sum of a figure of the GPUs ``served`` in a second; None where one does not tell it."""
    told = {(gpu["node"], gpu["index"]): gpu.get(name) for gpu in row.get("gpus") or []}
    return _all([told.get(key) for key in served])


def over(amount: float | None, of: float | None) -> float | None:
    """The quotient, None where there is none."""
    return None if amount is None or not of else amount / of


def _all(values: Sequence[float | None]) -> float | None:
    """Their sum; None where one is missing."""
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None


def _names(names: Iterable[str]) -> str:
    return " and ".join(dict.fromkeys(names))
