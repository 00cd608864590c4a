"""What a scenario says, as frozen classes.

Field names are those of the file except that times carry their unit (``duration: 10s`` in the file is
``duration_s == 10.0`` here). These classes only know values; ``rvtop.scenario.load`` reads files and
turns what is wrong into one line with file, line and key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import yaml
from pydantic import BaseModel, Discriminator, Field, Strict, Tag, WithJsonSchema

from rvtop.load.plan.api import Api
from rvtop.scenario.endpoint import EndpointName, endpoint_mistakes
from rvtop.scenario.part import Count, Flag, Mistake, Name, Number
from rvtop.scenario.part import Part as _Part
from rvtop.scenario.phase import ARRIVALS as ARRIVALS
from rvtop.scenario.phase import DEFAULT_DRAIN_S as DEFAULT_DRAIN_S
from rvtop.scenario.phase import MAX_RPS as MAX_RPS
from rvtop.scenario.phase import Phase as Phase
from rvtop.scenario.phase import Rate as Rate
from rvtop.scenario.phase import Rounds as Rounds
from rvtop.scenario.thresholds import NAMES, threshold_problem
from rvtop.scenario.units import format_duration
from rvtop.scenario.workload import PromptsWorkload as PromptsWorkload
from rvtop.scenario.workload import RagWorkload as RagWorkload
from rvtop.scenario.workload import SyntheticWorkload as SyntheticWorkload
from rvtop.scenario.workload import TasksWorkload as TasksWorkload
from rvtop.scenario.workload import TraceWorkload as TraceWorkload
from rvtop.scenario.workload import Workload as Workload

_THRESHOLDS = {
    "type": "object",
    "propertyNames": {"enum": list(NAMES)},
    "additionalProperties": {"type": "number", "minimum": 0},
}


#: Names of models, or the relative share of each.
Models = Annotated[
    Annotated[tuple[Name, ...], Tag("<list>")]
    | Annotated[dict[Name, Annotated[Number, Field(gt=0)]], Field(min_length=1), Tag("<shares>")],
    Discriminator(lambda models: "<shares>" if isinstance(models, Mapping) else "<list>"),
]


class Slo(_Part):
    """What one request must meet to count as good; milliseconds, None is no demand."""

    ttft_ms: Annotated[Number, Field(gt=0)] | None = None
    tpot_ms: Annotated[Number, Field(gt=0)] | None = None
    e2e_ms: Annotated[Number, Field(gt=0)] | None = None


class Scenario(_Part):
    """A whole scenario. ``models`` empty: the target's only model; a list: each in turn; names with their
    shares of the requests: drawn by the seed, and a pattern such as ``lora-*`` stands for all that it matches
    and that no other entry names. ``endpoint`` None: chat or completions, as the prompts are. ``stream:
    false``: answers come in one piece. ``batch``: texts of an embeddings request (1), documents of a rerank
    request (8). ``stop_when_saturated``: the run ends where load is above what the server can answer."""

    refused: ClassVar[Mapping[str, str]] = {
        "target": "does not belong in a scenario: give it on the command line (--target URL)",
        "topology": "does not belong in a scenario: give it on the command line (--topology T)",
    }

    name: Name
    seed: Annotated[int, Strict(), Field(ge=0, lt=2**63)] = 0
    models: Models = ()
    endpoint: EndpointName | None = None
    stream: Flag = True
    batch: Annotated[Count, Field(le=2048)] | None = None
    workload: Workload
    phases: tuple[Phase, ...] = Field(min_length=1)
    slo: Slo | None = None
    stop_when_saturated: Flag = False
    thresholds: Annotated[dict[str, Annotated[Number, Field(ge=0)]], WithJsonSchema(_THRESHOLDS)] = Field(
        default_factory=dict
    )

    @classmethod
    def misplaced(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        # Of the file's own data: what is wrong within one phase must not hide what is wrong between two.
        thresholds = data.get("thresholds")
        for name in thresholds if isinstance(thresholds, Mapping) else ():
            problem = threshold_problem(str(name))
            if problem is not None:
                yield Mistake(problem, ("thresholds", str(name)))
        if isinstance(thresholds, Mapping) and "min_goodput_rps" in thresholds and data.get("slo") is None:
            text = "needs an slo: goodput is what meets it"
            yield Mistake(text, ("thresholds", "min_goodput_rps"))
        yield from endpoint_mistakes(data)
        models = data.get("models")
        if isinstance(models, list | tuple) and any(one in models[:i] for i, one in enumerate(models)):
            yield Mistake("names a model twice", "models")
        phases = data.get("phases")
        if isinstance(phases, list | tuple):
            yield from _between(phases, data.get("workload"))

    @property
    def api(self) -> Api:
        """What is spoken with the target."""
        return Api(self.endpoint or "", self.stream, self.batch or 0)

    @property
    def duration_s(self) -> float:
        """Time of the rate phases together, without drains; rounds take as long as they take."""
        return sum(phase.lasts_s or 0.0 for phase in self.phases)

    @property
    def files(self) -> tuple[tuple[str, Path], ...]:
        """The files and folders the workload names, each with its key there."""
        return self.workload.files

    def to_yaml(self) -> str:
        """The scenario as a file; loading that gives an equal scenario."""
        return yaml.safe_dump(
            to_data(self), sort_keys=False, allow_unicode=True, default_flow_style=None, width=110
        )


def _between(listed: Sequence[object], workload: object) -> Iterator[Mistake]:
    """What is wrong between phases, or between them and the workload; what is no mapping is left out."""
    phases = {index: phase for index, phase in enumerate(listed) if isinstance(phase, Mapping)}
    seen: list[object] = []
    for index, phase in phases.items():
        name = phase.get("name")
        if name is not None and name in seen:
            yield Mistake(f"two phases are called {name!r}", ("phases", index, "name"))
        seen.append(name)
    if phases and len(phases) == len(listed) and all(one.get("warmup") is True for one in phases.values()):
        yield Mistake("every phase is a warm-up: nothing would be measured", "phases")
    kind = workload.get("kind") if isinstance(workload, Mapping) else None
    if kind not in ("rag", "prompts", "synthetic", "trace"):
        return
    for index, phase in phases.items():
        if "trace" in phase and kind != "trace":
            yield Mistake("needs a workload of kind: trace", ("phases", index, "trace"))
        if "trace" not in phase and kind == "trace":
            yield Mistake("a trace is replayed by a phase with trace: {speed: 1}", ("phases", index))


def to_data(part: BaseModel) -> dict[str, Any]:
    """The part as the plain data of a scenario file, without what is left at its default."""
    data: dict[str, Any] = {}
    for name, field in type(part).model_fields.items():
        value = getattr(part, name)
        if name == "kind" or value != field.get_default(call_default_factory=True):
            data[field.alias or name] = _plain(name, value)
    if data.get("drain") == format_duration(DEFAULT_DRAIN_S):
        del data["drain"]
    return data


def _plain(name: str, value: object) -> object:
    if isinstance(value, Rate) and value.constant and value.shape == "linear":
        return _plain("", value.start)
    if isinstance(value, BaseModel):
        return to_data(value)
    if isinstance(value, tuple):
        return [_plain(name, item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(key, item) for key, item in value.items()}
    if isinstance(value, float):
        if name.endswith("_s"):
            return format_duration(value)
        return int(value) if value.is_integer() else value
    return value
