"""From the series of a metrics page to engines: vLLM's own, Ray's re-export of it, our backends'."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from rvtop.contract.figures import BY_KEY, SPLIT, of_name
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
    """What one series is: part of a figure of an engine. ``le`` is a bucket's upper edge in seconds,
    ``value`` that of the label which splits the figure."""

    key: EngineKey
    node: str | None
    name: Name
    le: float | None
    value: str = ""


def engine_slot(name: str, labels: Mapping[str, str]) -> EngineSlot | None:
    """The place of a series of ``metrics.NAMES``; None when it does not count.

    Under Ray every replica calls its engine "0", so the replica (or worker) is the engine's name there.
    """
    known = NAMES[name]
    if any(labels.get(label) in values for label, values in known.figure.skip.items()):
        return None
    value = labels.get(known.figure.label, "")
    if known.figure.label and not value:
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
    return EngineSlot(EngineKey(engine, labels.get("model_name") or None), node, known, le, value)


class EngineParts:
    """Collects the series of one engine. A preferred name of a figure displaces a lesser one."""

    __slots__ = ("_buckets", "_kind", "_node", "_values")

    def __init__(self) -> None:
        self._kind: str | None = None
        self._node: str | None = None
        # key -> (rank, value so far); of a figure with a label, key/value
        self._values: dict[str, tuple[int, float]] = {}
        # key -> (rank, {upper edge: cumulative}, {"sum" | "count": value})
        self._buckets: dict[str, tuple[int, dict[float, float], dict[str, float]]] = {}

    def add(self, slot: EngineSlot, value: float) -> None:
        """Takes one series' value in; what is no figure is left out."""
        if not is_figure(value):
            return
        name = slot.name
        self._kind = name.engine_kind
        if slot.node is not None:
            self._node = slot.node
        if name.figure.kind == "histogram":
            self._add_bucket(slot, value)
            return
        key = name.figure.key
        if slot.value:
            key += SPLIT + slot.value
        held = self._values.get(key)
        if held is not None:
            rank, sofar = held
            if name.rank > rank:
                return
            if name.rank == rank:
                value = max(sofar, value) if name.figure.combine == "max" else sofar + value
        self._values[key] = (name.rank, value)

    def _add_bucket(self, slot: EngineSlot, value: float) -> None:
        name = slot.name
        held = self._buckets.get(name.figure.key)
        if held is None or name.rank < held[0]:
            held = self._buckets[name.figure.key] = (name.rank, {}, {})
        elif name.rank > held[0]:
            return
        if slot.le is not None:
            if slot.le not in held[1] and len(held[1]) >= _MOST_BUCKETS:
                return
            held[1][slot.le] = held[1].get(slot.le, 0.0) + value
        else:
            held[2][name.part] = held[2].get(name.part, 0.0) + value

    def sample(self, key: EngineKey, further: Mapping[str, float] = MappingProxyType({})) -> EngineSample:
        """The engine at this moment, with ``further`` gauges."""
        gauges: dict[str, float] = {**further}
        counters: dict[str, float] = {}
        for name, (_, value) in self._values.items():
            is_gauge = of_name(name).kind == "gauge"
            (gauges if is_gauge else counters)[name] = value
        hists = {
            name: made
            for name, (_, edges, totals) in self._buckets.items()
            if (edges or not BY_KEY[name].buckets) and (made := _buckets(edges, totals)) is not None
        }
        return EngineSample(key.engine, key.model, self._node, gauges, counters, hists, self._kind)


def _buckets(edges: Mapping[float, float], totals: Mapping[str, float]) -> Buckets | None:
    """A histogram of its parts; None when there are neither buckets nor a count. A missing sum is NaN."""
    le = sorted(edges)
    cumulative = [edges[edge] for edge in le]
    count = totals.get("count", cumulative[-1] if cumulative else None)
    if count is None:
        return None
    if not le or le[-1] != math.inf:
        le.append(math.inf)
        cumulative.append(count)
    return Buckets(tuple(le), tuple(cumulative), totals.get("sum", math.nan), count)
