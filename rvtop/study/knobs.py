"""The knobs of a showdown: the same for every topology as far as its nature allows, and which ones differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rvtop.contract import run_files
from rvtop.errors import UserError

if TYPE_CHECKING:
    from rvtop.scenario.schema import Scenario

#: As ``python -m backends`` knows them.
DTYPES = ("auto", "float32", "bfloat16", "float16")

#: The knobs that are compared, and what the table's notes call them.
NAMES = {
    "threads": "threads per engine",
    "dtype": "dtype",
    "engines": "engines",
    "devices": "GPUs",
    "concurrency": "requests at once per engine",
    "max_model_len": "context",
    "ignore_eos": "ignore_eos",
    "prefix_caching": "prefix caching",
}


@dataclass(frozen=True, slots=True)
class Knobs:
    """What every topology of a showdown is started with. ``max_model_len`` None is the model's own,
    ``num_replicas`` None one engine a GPU (without one: a node)."""

    threads: int  # of torch, per engine
    dtype: str
    max_model_len: int | None = None
    num_replicas: int | None = None

    def arguments(self, *, several: bool, stages: bool = False) -> tuple[str, ...]:
        """Options of ``python -m backends``. ``several``: whether the topology can have
        more than one engine of a model; ``stages``: its engines are the replicas of a stage."""
        made = ["--threads", str(self.threads), "--dtype", self.dtype]
        if self.max_model_len is not None:
            made += ["--max-model-len", str(self.max_model_len)]
        if self.num_replicas is not None and several:
            count = str(self.num_replicas)
            made += ["--stage-replicas", f"llm={count}"] if stages else ["--num-replicas", count]
        return tuple(made)


def knobs_for(
    *,
    cores: int,
    models: int,
    gpu: bool,
    threads: int | None = None,
    dtype: str | None = None,
    max_model_len: int | None = None,
    num_replicas: int | None = None,
) -> Knobs:
    """The knobs that were given, and for the others what every topology can have: each engine its part of
    the cores, less one that sends the load and feeds the engine; bfloat16 on a GPU, float32 without one.

    Raises UserError for what can't be.
    """
    for option, number, least in (
        ("--threads", threads, 1),
        ("--max-model-len", max_model_len, 2),
        ("--num-replicas", num_replicas, 1),
    ):
        if number is not None and number < least:
            raise UserError(f"{option} {number}: must be {least} or more")
    if dtype is not None and dtype not in DTYPES:
        raise UserError(f"--dtype {dtype}: must be one of {', '.join(DTYPES)}")
    engines = max(1, models) * (num_replicas or 1)
    own = max(1, cores // engines - 1)
    return Knobs(threads or own, dtype or ("bfloat16" if gpu else "float32"), max_model_len, num_replicas)


def equal_lengths(scenario: Scenario) -> Scenario:
    """The scenario with ``ignore_eos``: every answer has the length asked for, so that the work is the same
    for each topology."""
    workload = scenario.workload.model_copy(update={"ignore_eos": True})
    return scenario.model_copy(update={"workload": workload})


def knobs_of(folder: Path, arguments: Sequence[str]) -> tuple[dict[str, Any], float | None]:
    """What the engines of a finished run said of themselves, and the seconds that their start took. What
    the run folder does not tell is None."""
    try:
        told = json.loads((folder / run_files.ENVIRONMENT).read_text("utf-8"))
        engines = [engine for engine in told["target_engines"] if isinstance(engine, dict)]
        start_s = None if told["start_s"] is None else float(told["start_s"])
    except (OSError, ValueError, TypeError, KeyError):
        engines, start_s = [], None
    made: dict[str, Any] = {
        key: _common([engine.get(key) for engine in engines])
        for key in ("threads", "dtype", "concurrency", "max_model_len")
    }
    devices = [engine.get("devices") for engine in engines]
    made["engines"] = len(engines) or None
    made["devices"] = sum(d for d in devices if isinstance(d, int)) if devices else None
    made["ignore_eos"] = True
    made["prefix_caching"] = "enable_prefix_caching=true" in arguments
    return made, start_s


def differences(knobs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of each knob that is not the same for all: its value by topology. What is not told differs in
    nothing."""
    found = {}
    for key in NAMES:
        values = {name: told.get(key) for name, told in knobs.items() if told.get(key) is not None}
        if len({json.dumps(value) for value in values.values()}) > 1:
            found[key] = values
    return found


def notes(differs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The differences as lines: ``requests at once per engine: 1 (baseline, rac), 256 (rvc)``."""
    lines = []
    for key, values in differs.items():
        by_value: dict[str, list[str]] = {}
        for name, value in values.items():
            by_value.setdefault(_shown(value), []).append(name)
        parts = ", ".join(f"{value} ({', '.join(names)})" for value, names in by_value.items())
        lines.append(f"{NAMES[key]}: {parts}")
    return lines


def _common(values: Sequence[Any]) -> Any:
    """The one value of all engines; where they differ, all of them."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return known[0] if all(value == known[0] for value in known) else sorted(set(map(str, known)))


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "/".join(map(str, value)) if isinstance(value, list) else str(value)
