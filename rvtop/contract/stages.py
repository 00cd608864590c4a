"""The stages that a request passes in a server of ours that is a graph of them, as it tells them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rvtop.text import NAME_LIMIT, told

#: The LLM of a chat: what stands before it in the list is passed for it, what is behind is of ``/analyze``.
LLM = "llm"
_MOST_STAGES = 64
_MOST = 10**15


@dataclass(frozen=True, slots=True)
class Stage:
    """``ready`` replicas of ``wanted``, with so many requests ``in_flight``. ``rps`` passed a second, and
    took ``ms`` in the mean from call to answer, since the look before; None where that is not told (the LLM's
    figures are its engines'), or nothing passed. ``batch``: requests that one call of its model computed in
    the mean since the start, where it collects them."""

    name: str
    ready: int
    wanted: int
    in_flight: int
    rps: float | None = None
    ms: float | None = None
    batch: float | None = None


Passed = Mapping[str, tuple[float, float]]  # by stage: requests, and the milliseconds that they took in all


def stages_of(facts: Any, before: Passed, seconds: float) -> tuple[tuple[Stage, ...], Passed]:
    """The stages in an answer to ``/rvtop/topology``, and what passed them until then; ``before`` was that of
    the look ``seconds`` ago. Nothing where there are none, or nothing that makes sense."""
    found = facts.get("stages") if isinstance(facts, dict) else None
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found[:_MOST_STAGES]):
        return (), {}
    stages, passed = [], {}
    for row in found[:_MOST_STAGES]:
        name = told(row.get("stage"), NAME_LIMIT)
        counts = [_number(row.get(key)) for key in ("ready", "wanted", "in_flight")]
        if any(count is None for count in counts):
            return (), {}
        requests, total_ms = _number(row.get("requests")), _number(row.get("total_ms"))
        rps = ms = None
        if requests is not None and total_ms is not None:
            passed[name] = requests, total_ms
            grown = requests - before[name][0] if name in before else -1.0  # replicas begin anew at 0
            if grown >= 0 and seconds > 0:
                rps = grown / seconds
                ms = (total_ms - before[name][1]) / grown if grown else None
        ready, wanted, in_flight = (int(count or 0) for count in counts)
        stages.append(Stage(name, ready, wanted, in_flight, rps, ms, _batch(row)))
    return tuple(stages), passed


def _batch(row: Mapping[str, Any]) -> float | None:
    replicas = row.get("replicas")
    rows = [one for one in replicas if isinstance(one, dict)] if isinstance(replicas, list) else []
    collecting = [one for one in rows if (_number(one.get("max_batch")) or 0) > 1]
    calls = sum(_number(one.get("calls")) or 0.0 for one in collecting)
    return sum(_number(one.get("items")) or 0.0 for one in collecting) / calls if calls else None


def _number(value: Any) -> float | None:
    sound = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _MOST
    return float(value) if sound else None
