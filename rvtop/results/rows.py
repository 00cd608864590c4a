"""What a summary relies on in the rows of a run folder: each check raises ValueError that names the field."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from rvtop.results.ending import EXIT_CODES

#: Nothing that a run measures comes near; sums and products of what lies below stay finite.
_LARGEST = 1e18

_SECOND = (
    "in_flight",
    "kv_usage",
    "running",
    "waiting",
    "loop_lag_ms",
    "worker_cpu",
    "workers",
    "cpu_watts",
    "cpu_joules",
    *("replicas_wanted", "replicas_starting", "replicas_healthy", "replicas_draining"),
)
#: What each ``kv_map`` has as numbers, and what may be null there.
_KV_COUNTS = ("engines", "cached", "shared", "storms", "requests", "hits", "lost")
_KV_KNOWN = ("evicted_per_s", "top_share", "offered", "taken")
#: The lists of a second: (what names an entry, its numbers).
_LISTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "engines": ((), ("kv_usage", "tokens_per_s")),
    "nodes": (("name",), ("cpu", "memory_used", "memory_total")),
    "deployments": (
        ("name",),
        ("replicas", "ongoing", "queued", "latency_ms", "starts", "batch_size", "batch_wait_ms"),
    ),
    "gpus": (
        ("node",),
        ("memory_used", "memory_total", "util", "watts", "joules", "joules_integrated", "power_gap_s"),
    ),
}
#: Those that older runs do not have.
_LATER: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "replicas": (
        ("model",),
        ("wanted", "starting", "healthy", "draining", "target_requests", "pending", "nodes"),
    ),
}


def check_second(row: dict[str, Any]) -> None:
    """A line of ``timeline.jsonl``."""
    _number(row, "t_s", least=0.0)
    _numbers(row, _SECOND)
    totals = _of_type(row, "totals", dict)
    _numbers(totals, totals)
    if row.get("kv_map") is not None:
        kv_map = _of_type(row, "kv_map", dict)
        for key in _KV_COUNTS:
            _number(kv_map, key, least=0.0)
        _numbers(kv_map, _KV_KNOWN, absent=False)
        if not isinstance(kv_map.get("complete"), bool):
            raise ValueError("kv_map: complete is not true or false")
    lists = _LISTS if "replicas" not in row else {**_LISTS, **_LATER}
    for key, (names, numbers) in lists.items():
        for item in _of_type(row, key, list):
            if not isinstance(item, dict):
                raise ValueError(f"{key}: not a list of objects")
            for name in names:
                _text(item, name)
            _numbers(item, numbers)
            if key == "gpus":
                _number(item, "index", least=0.0)


def check_command(row: dict[str, Any]) -> None:
    """A line of ``commands.jsonl``."""
    _number(row, "at_ns", least=0.0)
    _text(row, "cmd")
    match row["cmd"]:
        case "phase":
            _text(row, "name")
            _numbers(row, ("duration_s", "burst", "warmup"), absent=False)
        case "slo":
            _numbers(row, ("ttft_ms", "tpot_ms", "e2e_ms"))
        case "worker_lost":
            _counts(row)
        case "split":
            _numbers(row, ("share", "before"), absent=False)
            _text(row, "arm")
        case "step":
            _number(row, "rps", least=0.0)
            figures = _of_type(row, "figures", dict, absent=False)
            _numbers(figures, figures)
            _numbers(row, ("held", "confirms"), absent=False)
            if row.get("limited_by") is not None:
                _text(row, "limited_by")
        case "saturated":
            _number(row, "since_s", least=0.0)
            _text(row, "text")
            figures = _of_type(row, "figures", dict, absent=False)
            _numbers(figures, ("planned_rps", "answered_rps"), absent=False)
            if row.get("phase") is not None:
                _text(row, "phase")
        case "ended":
            _text(row, "kind")
            _text(row, "text")
            if row["kind"] not in EXIT_CODES:
                raise ValueError("kind: not one of this version")
            if type(_number(row, "in_flight", least=0.0)) is not int:
                raise ValueError("in_flight: not a whole number")
            _counts(row)
        case "found":
            _numbers(row, ("rps",), absent=False)
            if "slo" not in row:
                raise ValueError("no slo")


def _counts(row: dict[str, Any]) -> None:
    """Requests by model."""
    by_model = _of_type(row, "by_model", dict, absent=False)
    for name in by_model:
        if type(_number(by_model, name, least=0.0)) is not int:
            raise ValueError(f"by_model: {name}: not a whole number")


def _number(row: dict[str, Any], key: str, *, least: float = -_LARGEST) -> float:
    value = row.get(key)
    # False and True are numbers to Python: 0 and 1, which do no harm here.
    if not isinstance(value, int | float) or not least <= value <= _LARGEST:
        raise ValueError(f"{key}: not a number of this version" if key in row else f"no {key}")
    return value


def _numbers(row: dict[str, Any], keys: Collection[str], *, absent: bool = True) -> None:
    """Numbers or null, or (``absent``) not there."""
    for key in keys:
        if row.get(key) is not None or (key not in row and not absent):
            _number(row, key)


def _text(row: dict[str, Any], key: str) -> None:
    if not isinstance(row.get(key), str):
        raise ValueError(f"{key}: not a text" if key in row else f"no {key}")


def _of_type(row: dict[str, Any], key: str, kind: type[Any], *, absent: bool = True) -> Any:
    """What a row has there. Where it may be ``absent``, nothing, and null, is an empty one."""
    value = row.get(key)
    if not isinstance(value, kind) and not (absent and value is None):
        raise ValueError(f"{key}: not {'an object' if kind is dict else 'a list'}")
    return value or kind()


def known_environment(data: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """``environment.json`` as far as a summary uses it: None stands for what is missing or of another type,
    on which ``notes`` gets a line; ``models`` is a list of names or None."""

    def texts(value: Any) -> bool:
        return isinstance(value, list) and all(isinstance(name, str) for name in value)

    def limits(value: Any) -> bool:
        return isinstance(value, dict) and all(
            limit is None or (isinstance(limit, int | float) and 0 <= limit <= _LARGEST)
            for limit in value.values()
        )

    def text(value: Any) -> bool:
        return isinstance(value, str)

    def flags(value: Any) -> bool:
        return isinstance(value, dict)

    def engines(value: Any) -> bool:
        return isinstance(value, list)

    needed = {"name": text, "target": text, "models": texts, "started_at": text}
    further = {"topology": text, "prompts_digest": text, "slo": limits, "flags": flags}
    further |= {"target_engines": engines, "targets": engines, "prices": flags}
    known: dict[str, Any] = {}
    wrong = []
    for key, fits in (needed | further).items():
        value = data.get(key)
        known[key] = value if value is not None and fits(value) else None
        if known[key] is None and (value is not None or key in needed):
            wrong.append(key)
    if wrong:
        notes.append(f"environment.json: can't use or find {', '.join(wrong)}; left out")
    return known
