"""How many replicas each stage gets of what there is, from what each was measured to compute. Pure.

A request that passes all stages takes Σ w of computing, w of each stage; C cores (or GPUs) can do C / Σ w of
them a second, and stage i is then busy on C · w_i / Σ w of them. Replicas are dealt by
:mod:`backends.cluster.placement_plan`: one to each stage, each further one to the stage with the least
headroom. Where there are fewer cores than stages, replicas share cores, and with C − 1 more than one for each
stage no core is left over that another could use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backends.cluster.placement_plan import Capacity, ModelLoad, Profile, Slo, plan
from backends.stages.shares import FREE, Units

#: Within it a request that finds a stage busy should be through.
SLO = Slo(ttft_ms=1000.0)


@dataclass(frozen=True)
class Work:
    """What a stage was measured to compute for a request, ms, over so many of them."""

    ms: float
    requests: int


@dataclass(frozen=True)
class StagePlan:
    """``replicas`` by stage (of the LLM: of each model); ``told`` is what ``/rvtop/topology`` says of it."""

    replicas: Mapping[str, int]
    told: Mapping[str, Any]

    @property
    def reasons(self) -> dict[str, str]:
        """By stage, one line each: what it gets, and why."""
        return {row["model"]: row["reason"] for row in self.told["models"]}


def split(work: Mapping[str, Work], rate: float, units: Units, models: Mapping[str, int]) -> StagePlan:
    """The replicas of the stages in ``work``, at a load of ``rate`` requests a second for each. ``models`` is
    how many replicas one more of a stage really is (the LLM's: one of each model), 1 where it is not
    named."""
    loads = [
        ModelLoad(stage, rate, 1.0, Profile(1, max(done.ms, 1e-3)), slots=models.get(stage, 1))
        for stage, done in work.items()
        if stage not in FREE
    ]
    made = plan(loads, Capacity(_useful(units, loads), units.kind), SLO)
    whole = sum(work[load.name].ms for load in loads)
    rows: list[dict[str, Any]] = [
        {
            "model": assigned.model,
            "replicas": assigned.replicas,
            "headroom": assigned.headroom,
            "reason": _reason(assigned.model, assigned.replicas, work[assigned.model], whole, units),
        }
        for assigned in made.models
    ]
    told = {"number": 1, "moving": 0, "unit": units.kind, "models": rows}
    return StagePlan(made.replicas, told)


def _useful(units: Units, loads: Sequence[ModelLoad]) -> tuple[int, ...]:
    """The bins, with no more units than replicas can use."""
    whole = round(units.total * units.size)
    most = max(sum(load.slots for load in loads), len(loads) - 1 + whole)
    bins = list(units.bins)
    while sum(bins) > most:
        bins[bins.index(max(bins))] -= 1
    return tuple(bins)


def _reason(stage: str, replicas: int, work: Work, whole: float, units: Units) -> str:
    part = "" if units.size == 1 else f" (replicas share {units.kind}s)"
    several = "s" if replicas != 1 else ""
    gets = (
        f"{replicas} replica{several} of one {units.kind}"
        if not part
        else f"{replicas} of {units.total}{part}"
    )
    share = work.ms / whole if whole else 0.0
    sustains = replicas * 1e3 / work.ms if work.ms else float("inf")
    return (
        f"{gets}: {work.ms:.3g} ms of computing a request ({100 * share:.0f} % of all stages', measured over "
        f"{work.requests}); at most {_few(sustains)} a second"
    )


def _few(value: float) -> str:
    """Three digits, and no power of ten."""
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
