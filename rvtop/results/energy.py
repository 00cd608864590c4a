"""The ``energy`` block of a summary, from what each second of the timeline tells of the GPUs and processors.

Energy in J, power in W. A second of the timeline holds the energy since we began to watch
(``rvtop.telemetry.energy``); what a span of time took is the difference between its ends, each read off the
straight line between the two seconds around it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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

Rows = Sequence[Mapping[str, Any]]
Spans = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Powers:
    """What the settings say of a GPU's power, W: one that tells none, and one that idles."""

    gpu_w: float | None = None
    idle_w: float | None = None


NO_POWERS = Powers()


@dataclass(frozen=True, slots=True)
class _Used:
    """What one meter counted in the spans."""

    joules: float | None
    integrated: float | None = None
    by: str = ""
    gap_s: float = 0.0


def energy_summary(
    rows: Rows,
    spans: Spans,
    *,
    tokens: int,
    requests: int,
    engine_gpus: int | None = None,
    powers: Powers = NO_POWERS,
) -> dict[str, Any] | None:
    """The energy over ``spans`` ((start, end), seconds from the run's start), in which ``requests`` ended
    well with ``tokens`` output tokens. ``engine_gpus``: how many GPUs the engines say they have.

    ``joules`` are of the GPUs that serve (``gpus_of``), without any of the processors'; None where one of
    them does not tell. None where nothing tells at all.
    """
    served = gpus_of(rows, engine_gpus)
    seconds = sum(end - start for start, end in spans)
    gpus = [(key, _with_setting(_used(_points(rows, key), spans), seconds, powers)) for key in served]
    processors = _used([(row["t_s"], row, row.get("cpu_joules")) for row in rows], spans)
    found = [used for _, used in gpus]
    if not served and processors.joules is not None:
        found = [_Used(processors.joules, None, RAPL)]
    if all(used.joules is None for used in found) and processors.joules is None:
        return None
    joules, integrated = _all([used.joules for used in found]), _all([used.integrated for used in found])
    idle, idle_from = _idle(rows, served, powers)
    return {
        "joules": joules,
        "joules_integrated": integrated,
        "joules_per_token": _over(joules, tokens),
        "joules_per_request": _over(joules, requests),
        "tokens_per_joule": _over(float(tokens), joules),
        "watts_mean": _over(joules, seconds),
        "watts_idle": idle,
        "watts_idle_from": idle_from,
        "joules_above_idle": None if joules is None or idle is None else joules - idle * seconds,
        "seconds": seconds,
        "gap_s": max((used.gap_s for used in found), default=0.0),
        "source": _source([used.by for used in found]) if joules is not None else None,
        "gpus": [
            {
                "node": node,
                "index": index,
                "joules": used.joules,
                "joules_integrated": used.integrated,
                "watts_mean": _over(used.joules, seconds),
                "source": used.by or None,
                "gap_s": used.gap_s,
            }
            for (node, index), used in gpus
        ],
        "cpu": None
        if processors.joules is None
        else {"joules": processors.joules, "watts_mean": _over(processors.joules, seconds)},
    }


def gpus_of(rows: Rows, engine_gpus: int | None = None) -> list[tuple[str, int]]:
    """The GPUs that serve, as (node, index): as many as the engines have, those with the most memory in use;
    where that is not known all that hold anything or were busy, or do not tell."""
    most: dict[tuple[str, int], float] = {}
    bare: dict[tuple[str, int], bool] = {}
    for row in rows:
        for gpu in row.get("gpus") or []:
            key, used, util = (gpu["node"], gpu["index"]), gpu.get("memory_used"), gpu.get("util")
            most[key] = max(most.get(key, 0.0), used or 0.0)
            total = gpu.get("memory_total")
            holds = used is None or not total or used > _BARE * total
            bare[key] = bare.get(key, True) and not holds and (util or 0.0) < IDLE_UTIL
    if engine_gpus is not None:
        return sorted(sorted(most, key=lambda key: (-most[key], key))[:engine_gpus])
    return sorted(key for key in most if not bare[key])


#: Seconds from the run's start, the entry that tells, and the energy by then.
_Points = Sequence[tuple[float, Mapping[str, Any], float | None]]


def _points(rows: Rows, key: tuple[str, int]) -> _Points:
    return [
        (row["t_s"], gpu, gpu.get("joules"))
        for row in rows
        for gpu in row.get("gpus") or []
        if (gpu["node"], gpu["index"]) == key
    ]


def _used(points: _Points, spans: Spans) -> _Used:
    told = [point for point in points if point[2] is not None]
    if not told:
        return _Used(None)
    integrated = [(t_s, of.get("joules_integrated")) for t_s, of, _ in told]
    sources = {str(of.get("joules_by") or "") for _, of, _ in told} - {""}
    return _Used(
        _growth([(t_s, joules) for t_s, _, joules in told], spans),
        _growth(integrated, spans),
        BOTH if len(sources) > 1 else next(iter(sources), ""),
        _growth([(t_s, of.get("power_gap_s") or 0.0) for t_s, of, _ in told], spans) or 0.0,
    )


def _growth(points: Sequence[tuple[float, float | None]], spans: Spans) -> float | None:
    """How much a total grew inside the spans; None where an end of one is not near any point."""
    line: list[tuple[float, float]] = []
    before, sum_so_far = 0.0, 0.0
    for t_s, value in points:
        if value is None:
            continue
        # Another server was watched from there on (or the session's own process), whose total begins at 0.
        sum_so_far += value - before if value >= before else value
        before = value
        line.append((t_s, sum_so_far))
    grown = 0.0
    for start, end in spans:
        first, last = _at(line, start), _at(line, end)
        if first is None or last is None:
            return None
        grown += last - first
    return grown if spans else None


def _at(line: Sequence[tuple[float, float]], t_s: float) -> float | None:
    """The total at a time, by the straight line between the two points around it, or beyond the last one."""
    if len(line) < 2:
        return None
    place = min(max(bisect_left(line, (t_s,)), 1), len(line) - 1)
    (t0, value0), (t1, value1) = line[place - 1], line[place]
    if t_s < line[0][0] - NEAR_S or t_s > line[-1][0] + NEAR_S or t1 <= t0:
        return None
    return value0 + (value1 - value0) * (t_s - t0) / (t1 - t0)


def _with_setting(used: _Used, seconds: float, powers: Powers) -> _Used:
    if used.joules is not None or powers.gpu_w is None:
        return used
    return _Used(powers.gpu_w * seconds, None, SETTING)


def _idle(rows: Rows, served: Sequence[tuple[str, int]], powers: Powers) -> tuple[float | None, str | None]:
    """Power of the GPUs that serve (without any, of the processors) while nothing is in flight, and where
    that is from."""
    told: list[float] = []
    busy_s = -IDLE_AFTER_S
    for row in rows:
        if any(row.get(name) for name in ("in_flight", "running", "waiting")):
            busy_s = row["t_s"]
        elif row["t_s"] - busy_s >= IDLE_AFTER_S:
            watts = _watts(row, served)
            told += [] if watts is None else [watts]
    if len(told) >= LEAST_IDLE:
        return sum(told) / len(told), MEASURED
    if served and powers.idle_w is not None:
        return powers.idle_w * len(served), SETTING
    return None, None


def _watts(row: Mapping[str, Any], served: Sequence[tuple[str, int]]) -> float | None:
    if not served:
        value: float | None = row.get("cpu_watts")
        return value
    told = {(gpu["node"], gpu["index"]): gpu.get("watts") for gpu in row.get("gpus") or []}
    return _all([told.get(key) for key in served])


def _all(values: Sequence[float | None]) -> float | None:
    """Their sum; None where one is missing."""
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None


def _source(names: Sequence[str]) -> str:
    return " and ".join(dict.fromkeys(names))


def _over(amount: float | None, of: float | None) -> float | None:
    return None if amount is None or not of else amount / of
