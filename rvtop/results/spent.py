"""What a part of a run took beside time: energy, and money where there are prices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rvtop.results.cost import capacity, cost_block, powers_of, prices_of
from rvtop.results.energy import RunEnergy, over
from rvtop.results.part import Part, figures

_MOST_GPUS = 1 << 20


class Spent:
    """Of a run with this ``environment.json`` and ``timeline.jsonl``. ``gpus`` is how many serve, at most
    where replicas come and go; None where neither the engines nor any source of figures tell of them."""

    def __init__(self, environment: Mapping[str, Any], timeline: Sequence[Mapping[str, Any]]) -> None:
        #: Of the engines' GPUs: from when on.
        self._counts = [] if environment.get("targets") else _counts(timeline)
        told = engine_gpus(environment)
        first = told if told is not None else next((count for _, count in self._counts), None)
        if first is not None:  # else no engine told of itself, neither at the start nor later
            self._counts = [(0.0, first), *self._counts]
            told = max(count for _, count in self._counts)
        # The figures of a run of pairs are of two servers, and what is told of energy and GPUs is of one.
        self._paired = bool((environment.get("flags") or {}).get("pair"))
        self._prices = prices_of(environment.get("prices"))
        self._energy = RunEnergy(timeline, told, powers_of(self._prices))
        self.gpus = told if told is not None else len(self._energy.gpus) or None

    def figures(self, part: Part) -> dict[str, Any]:
        """All figures of ``part``, those of what it took among them."""
        if self._paired:
            return {**figures(part), "energy": None, "cost": None}
        spans, known = windows(part), figures(part)
        seconds = sum(end - start for start, end in spans)
        energy = self._energy.over(spans, tokens=int(part.tokens.sum()), requests=part.ok_count)
        return {
            **known,
            "energy": energy,
            "cost": cost_block(self._prices, self._gpus_in(spans), seconds, energy, known),
        }

    def _gpus_in(self, spans: Sequence[tuple[float, float]]) -> float | None:
        """How many GPUs serve in these spans, in the mean where replicas come and go."""
        if len({count for _, count in self._counts}) < 2:
            return self.gpus
        begins, counts = (np.array(column) for column in zip(*self._counts, strict=True))
        ends = np.append(begins[1:], np.inf)
        held = [
            (np.clip(ends, start, end) - np.clip(begins, start, end)).clip(0.0) @ counts
            for start, end in spans
        ]
        return over(float(sum(held)), sum(end - start for start, end in spans))

    def capacity(
        self, phases: Sequence[Mapping[str, Any]], search: Mapping[str, Any] | None
    ) -> dict[str, Any] | None:
        """The ``capacity`` block of the whole run."""
        if self._paired:
            return None
        goodput = {phase["name"]: phase["goodput_rps"] for phase in phases if not phase["warmup"]}
        return capacity(self.gpus, goodput, search)


def _counts(timeline: Sequence[Mapping[str, Any]]) -> list[tuple[float, int]]:
    """The GPUs of all engines in the seconds that tell them."""
    told = [(float(row["t_s"]), row.get("engine_gpus")) for row in timeline]
    return [(t_s, count) for t_s, count in told if type(count) is int and 0 <= count <= _MOST_GPUS]


def windows(part: Part) -> list[tuple[float, float]]:
    """When the part's requests were worked on: its spans, each up to the last token of what arrived in it,
    and at most to where the next one begins."""
    table = part.run.table
    intended = table.intended[part.good]
    order = np.argsort(intended)
    arrived, last = intended[order] / 1e9, table.last[part.good][order] / 1e9
    spans = sorted(part.spans)
    nexts = [*(start for start, _ in spans[1:]), np.inf][: len(spans)]
    made: list[tuple[float, float]] = []
    for (start, end), following in zip(spans, nexts, strict=True):
        first, behind = np.searchsorted(arrived, (start - 1e-6, end + 1e-6))
        worked = float(last[first:behind].max(initial=end))
        made.append((start, min(worked, max(end, following))))
    return made


def engine_gpus(environment: Mapping[str, Any]) -> int | None:
    """GPUs of all engines, from what each said of itself when the run began; None where one did not, or where
    the load went over to another server."""
    rows = environment.get("target_engines")
    return _devices(rows) if isinstance(rows, list) and not environment.get("targets") else None


def _devices(engines: Sequence[Any]) -> int | None:
    counts = [row.get("devices") if isinstance(row, Mapping) else None for row in engines]
    known = [count for count in counts if type(count) is int and 0 <= count <= _MOST_GPUS]
    return sum(known) if known and len(known) == len(counts) else None


def gpus_held(engines: Sequence[Mapping[str, Any]], replicas: Sequence[Mapping[str, Any]]) -> int | None:
    """GPUs that the engines take up now: of a model whose ``replicas`` are told (as a line of
    ``timeline.jsonl`` has them) also those of replicas that start or end, which hold theirs and serve
    nobody. None where an engine does not say how many it has."""
    holding = [(one["model"], _holding(one)) for one in replicas]
    if not engines and holding and all(count == 0 for _, count in holding):
        return 0  # scaled to none
    whole = _devices(engines)
    if whole is None:
        return None
    for model, count in holding:
        own = [engine["devices"] for engine in engines if engine.get("model") == model]
        if own and count is not None:
            whole += count * max(own) - sum(own)
    return max(0, whole)


def _holding(replicas: Mapping[str, Any]) -> int | None:
    """How many of a model's replicas have a place in the cluster; None where that is not told."""
    starting, healthy, draining, pending = (
        float(value) if (value := replicas.get(name)) is not None else math.nan
        for name in ("starting", "healthy", "draining", "pending")
    )
    holding = starting + healthy + draining - pending
    return None if math.isnan(holding) else round(holding)
