"""What the engines of a topology of ours say of themselves, from the rows of its ``/rvtop/topology``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rvtop.text import NAME_LIMIT, printable

MOST_ENGINES = 1000
_MOST_PLACES = 1 << 20
#: What is kept of what an engine of ours says of itself: settings that decide how fast it can be.
ENGINE_KNOBS = (
    *("kind", "model", "dtype", "quantization", "threads", "concurrency", "max_model_len", "step_tokens"),
    *("speculation", "max_loras", "max_lora_rank"),
)
#: States of an engine of ours that has not said yet what it is.
_NOT_UP = ("starting", "pending")


def engines_up(rows: Sequence[Any], before: Mapping[str, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows of the engines that are up. One that still starts says nothing of itself; one that can't be
    reached for a moment is what it said ``before``."""
    objects = [row for row in rows[:MOST_ENGINES] if isinstance(row, dict)]
    up = [row for row in objects if row.get("state") not in _NOT_UP or _tells(row)]
    return [row if _tells(row) else _said(row, before) for row in up]


def told_by_engine(rows: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The rows of the engines that tell of themselves, by name."""
    return {row["engine"]: row for row in rows if _tells(row) and isinstance(row.get("engine"), str)}


def _tells(row: Mapping[str, Any]) -> bool:
    return "concurrency" in row


def _said(row: Mapping[str, Any], before: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    name = row.get("engine")
    return before.get(name, row) if isinstance(name, str) else row


def engine_places(rows: Any) -> dict[str, int]:
    """How many requests each engine computes on at once, from the rows of ``/rvtop/topology``."""
    found = {}
    for row in rows[:MOST_ENGINES] if isinstance(rows, list) else ():
        name, places = (row.get("engine"), row.get("concurrency")) if isinstance(row, dict) else (None, None)
        if isinstance(name, str) and type(places) is int and 0 < places <= _MOST_PLACES:
            found[printable(name, NAME_LIMIT)] = places
    return found


def engine_knobs(rows: Any) -> tuple[Mapping[str, str | int], ...]:
    """The settings of each engine, from the same rows; ``devices`` is how many it has (0: the CPU)."""
    found = []
    for row in rows[:MOST_ENGINES] if isinstance(rows, list) else ():
        if isinstance(row, dict):
            told_of = {key: row[key] for key in ENGINE_KNOBS if type(row.get(key)) in (str, int)}
            made = {
                key: printable(value, NAME_LIMIT) if isinstance(value, str) else value
                for key, value in told_of.items()
            }
            devices = row.get("devices")
            if isinstance(devices, list):
                made["devices"] = sum(device != "cpu" for device in devices)
            found.append(made)
    return tuple(found)
