"""From the series of a metrics page to engines: vLLM's own, Ray's re-export of it, our backends'."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from rvtop.telemetry.bounds import is_figure
from rvtop.telemetry.metrics import NAMES, Name
from rvtop.telemetry.sample import Buckets, EngineSample

#: Buckets of one histogram that are looked at; exporters write some 25.
_MOST_BUCKETS = 512


class EngineKey(NamedTuple):
    """What tells one engine of a page from another."""

    engine: str
    model: str | None


class EngineSlot(NamedTuple):
    """What one series is: part of a metric of an engine. ``le`` is a bucket's upper edge in seconds."""

    key: EngineKey
    node: str | None
    name: Name
    le: float | None


def engine_slot(name: str, labels: Mapping[str, str]) -> EngineSlot | None:
    """The place of a series of ``metrics.NAMES``; None when it does not count.

    Under Ray every replica calls its engine "0", so the replica (or worker) is the engine's name there.
    """
    known = NAMES[name]
    if any(labels.get(label) in values for label, values in known.metric.skip.items()):
        return None
    le: float | None = None
    if known.part == "bucket":
        try:
            le = float(labels["le"])
        except (KeyError, ValueError):
            return None
        if math.isnan(le):
            return None
    engine = labels.get("engine") or "0"
    replica = labels.get("ReplicaId") or labels.get("WorkerId", "")[:8]
    if replica:
        engine = replica if engine == "0" else f"{replica}/{engine}"
    node = labels.get("node") or labels.get("NodeAddress") or None
    return EngineSlot(EngineKey(engine, labels.get("model_name") or None), node, known, le)


class EngineParts:
    """Collects the series of one engine. A preferred name of a metric displaces a lesser one."""

    __slots__ = ("_buckets", "_kind", "_node", "_values")

    def __init__(self) -> None:
        self._kind: str | None = None
        self._node: str | None = None
        # metric key -> [rank, running value, number of series]
        self._values: dict[str, tuple[int, float, int]] = {}
        # metric key -> (rank, {upper edge: cumulative}, {"sum" | "count": value})
        self._buckets: dict[str, tuple[int, dict[float, float], dict[str, float]]] = {}

    def add(self, slot: EngineSlot, value: float) -> None:
        """Takes one series' value in; what is no figure is left out."""
        if not is_figure(value):
            return
        name = slot.name
        self._kind = name.engine_kind
        if slot.node is not None:
            self._node = slot.node
        if name.metric.kind == "histogram":
            self._add_bucket(slot, value)
            return
        rank, sofar, count = self._values.get(name.metric.key, (name.rank, 0.0, 0))
        if name.rank > rank:
            return
        if name.rank < rank:
            sofar, count = 0.0, 0
        if count:
            value = _combined(name.metric.combine, sofar, count, value)
        self._values[name.metric.key] = (name.rank, value, count + 1)

    def _add_bucket(self, slot: EngineSlot, value: float) -> None:
        name = slot.name
        held = self._buckets.get(name.metric.key)
        if held is None or name.rank < held[0]:
            held = self._buckets[name.metric.key] = (name.rank, {}, {})
        elif name.rank > held[0]:
            return
        if slot.le is not None:
            if slot.le not in held[1] and len(held[1]) >= _MOST_BUCKETS:
                return
            held[1][slot.le] = held[1].get(slot.le, 0.0) + value
        else:
            held[2][name.part] = held[2].get(name.part, 0.0) + value

    def sample(self, key: EngineKey) -> EngineSample:
        """The engine at this moment."""
        gauges: dict[str, float] = {}
        counters: dict[str, float] = {}
        for metric_key, (_, value, _) in self._values.items():
            is_gauge = _KINDS[metric_key] == "gauge"
            (gauges if is_gauge else counters)[metric_key] = value
        hists = {
            metric_key: made
            for metric_key, (_, edges, totals) in self._buckets.items()
            if (made := _buckets(edges, totals)) is not None
        }
        return EngineSample(key.engine, key.model, self._node, gauges, counters, hists, self._kind)


_KINDS = {name.metric.key: name.metric.kind for name in NAMES.values()}


def _combined(how: str, sofar: float, count: int, value: float) -> float:
    if how == "max":
        return max(sofar, value)
    if how == "mean":
        return sofar + (value - sofar) / (count + 1)
    return sofar + value


def _buckets(edges: Mapping[float, float], totals: Mapping[str, float]) -> Buckets | None:
    """A histogram of its parts; None when there are no buckets. A missing sum is NaN."""
    if not edges:
        return None
    le = sorted(edges)
    cumulative = [edges[edge] for edge in le]
    count = totals.get("count", cumulative[-1])
    if le[-1] != math.inf:
        le.append(math.inf)
        cumulative.append(count)
    return Buckets(tuple(le), tuple(cumulative), totals.get("sum", math.nan), count)
