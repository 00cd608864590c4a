"""The two servers side by side: eight properties, four of them with figures that were measured."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from typing import Any

from rvtop.study.choice import CHOICES, RSV, VLLM

NO_FIGURE = "--"
_MIB = 2**20
_HEAD_WIDTH = 18
_LEAST = 0.1  # of a unit; less is not told
_GAP = "  "


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured of a topology; None where it was not. Times are of requests one after another.
    ``overhead_bytes`` is the memory of all its ``processes`` that are not the engine's. Isolation: of two
    models the engine of one is killed; how many requests to the other were sent and failed meanwhile, and
    after how many seconds the first answers again."""

    start_s: float | None = None
    ttft_p50_ms: float | None = None
    itl_p50_ms: float | None = None
    latency_avg_ms: float | None = None
    overhead_bytes: int | None = None
    processes: int | None = None
    other_sent: int | None = None
    other_failed: int | None = None
    back_s: float | None = None
    folders: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FigureSet:
    """The figures of both, what they were measured on, and when (a date)."""

    hardware: str
    made: str
    topologies: Mapping[str, Figures] = field(default_factory=dict)

    def of(self, topology: str) -> Figures:
        """Its figures; without any where it was not measured."""
        return self.topologies.get(topology, Figures())


def shipped() -> FigureSet:
    """The figures that come with rvtop."""
    return read(json.loads(files("rvtop.study").joinpath("choice.json").read_text("utf-8")))


def read(told: Mapping[str, Any]) -> FigureSet:
    """A set as :func:`written` wrote it."""
    topologies = {
        name: Figures(**{**figures, "folders": tuple(figures.get("folders", ()))})
        for name, figures in told["topologies"].items()
    }
    return FigureSet(told["hardware"], told["made"], topologies)


def written(figures: FigureSet) -> dict[str, Any]:
    """The set as JSON has it."""
    topologies = {name: asdict(one) for name, one in figures.topologies.items()}
    return {"hardware": figures.hardware, "made": figures.made, "topologies": topologies}


@dataclass(frozen=True, slots=True)
class Row:
    """A property: what is said of each topology, and what was measured (empty where nothing can be)."""

    name: str
    said: Mapping[str, str]
    measured: Mapping[str, str]


_SAID: Mapping[str, tuple[str, str]] = {
    "operation": ("simple", "a Ray cluster too"),
    "set-up": ("little", "considerable"),
    "several models": ("a server each", "managed as one"),
    "scaling": ("by pod or process", "by replica"),
    "pipelines": ("outside of it", "part of it"),
    "isolation": ("by pod or process", "by deployment"),
    "overhead": ("least", "Ray's processes"),
    "latency": ("least", "a little more"),
}


def rows(figures: FigureSet) -> list[Row]:
    """The eight properties."""
    cells: Mapping[str, Callable[[Figures], str]] = {
        "set-up": _start,
        "isolation": _isolation,
        "overhead": _overhead,
        "latency": _latency,
    }
    return [
        Row(
            name,
            dict(zip((VLLM, RSV), said, strict=True)),
            {one: cells[name](figures.of(one)) for one in CHOICES} if name in cells else {},
        )
        for name, said in _SAID.items()
    ]


def table(figures: FigureSet) -> list[str]:
    """The same as lines; what was measured stands below what is said."""
    made: list[tuple[str, Mapping[str, str]]] = [("", {one: one for one in CHOICES})]
    for row in rows(figures):
        made += [(row.name, row.said), *([("", row.measured)] if row.measured else [])]
    width = max(len(cells[VLLM]) for _, cells in made) + len(_GAP)
    return [f"{name:<{_HEAD_WIDTH}}{cells[VLLM]:<{width}}{cells[RSV]}".rstrip() for name, cells in made]


def _start(one: Figures) -> str:
    return f"ready after {_number(one.start_s, 's')}"


def _latency(one: Figures) -> str:
    return f"p50 TTFT {_number(one.ttft_p50_ms, 'ms')}, ITL {_number(one.itl_p50_ms, 'ms')}"


def _overhead(one: Figures) -> str:
    size = None if one.overhead_bytes is None else one.overhead_bytes / _MIB
    processes = NO_FIGURE if one.processes is None else str(one.processes)
    return f"{_number(size, 'MiB')} in {processes} processes"


def _isolation(one: Figures) -> str:
    failed = NO_FIGURE if one.other_failed is None else f"{one.other_failed}/{one.other_sent}"
    return f"other {failed} lost, back {_number(one.back_s, 's')}"


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return NO_FIGURE
    if value < _LEAST:
        return f"< {_LEAST:g} {unit}"
    return f"{value:.0f} {unit}" if value >= 10 else f"{value:.2g} {unit}"
