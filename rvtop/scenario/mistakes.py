"""From pydantic's findings to one line each: file, line, key, how to fix it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from rvtop.system.yaml_lines import FileError, KeyPath, Nodes, dotted, one_line

_ABSENT = object()

#: What a file name's pattern asks for, by a part of it.
_PATTERNS = (
    ("csv", "end in .jsonl, .csv or .json (OpenTelemetry)"),
    ("txt", "end in .jsonl, .txt or .json (ShareGPT)"),
    ("json)", "end in .jsonl or .json"),
)


def mistakes(problem: ValidationError, data: Mapping[str, Any], nodes: Nodes, shown: str) -> list[FileError]:
    """Every mistake of ``data``, in the order in which they stand in the file ``shown``."""
    errors = problem.errors(include_url=False)
    # A list whose items are wrong is also reported as too short: the item is what to fix.
    inner = [
        one
        for one in errors
        if one["type"] != "too_short" or not any(_holds(one["loc"], other["loc"]) for other in errors)
    ]
    meant = {
        (*_path(one, data)[:-1], name)
        for one in inner
        if one["type"] == "unknown_key"
        for name in _close(one.get("ctx", {}))
    }
    found: dict[tuple[KeyPath, str], FileError] = {}
    for one in inner:
        path = _path(one, data)
        message = _message(one, one.get("ctx", {}), _written(path, one, nodes))
        if message.startswith("is missing") and path in meant:
            continue  # it is there, misspelt
        found[path, message] = FileError(shown, nodes.line(path), dotted(path), message)
    place = _places(nodes)
    return [found[one] for one in sorted(found, key=lambda one: place(one[0]))]


def _places(nodes: Nodes) -> Callable[[KeyPath], int]:
    """How far on in the file a path stands; one that is missing: at the end of what it is missing in."""
    begins = {path: number for number, path in enumerate(nodes.at)}
    ends = {path[:length]: number for path, number in begins.items() for length in range(len(path) + 1)}

    def place(path: KeyPath) -> int:
        if path in begins:
            return begins[path]
        around = (path[:length] for length in range(len(path) - 1, -1, -1))
        return next((ends[one] for one in around if one in ends), 0)

    return place


def _holds(outer: KeyPath, inner: KeyPath) -> bool:
    return len(outer) < len(inner) and inner[: len(outer)] == outer


def _close(context: Mapping[str, Any]) -> Sequence[str]:
    """The known key that an unknown one is most like, if any."""
    return difflib.get_close_matches(str(context["key"]), context["known"], n=1)


def _path(error: ErrorDetails, data: Mapping[str, Any]) -> KeyPath:
    """Where one of pydantic's errors is in the file."""
    path = tuple(_in_file(error["loc"], data, keep_last=error["type"] == "missing"))
    named = error.get("ctx", {}).get("key")
    if named is not None:
        path = (*path, *((named,) if isinstance(named, str | int) else named))
    if error["type"].startswith("union_tag"):
        path = (*path, "kind")
    return path


def _in_file(loc: tuple[str | int, ...], data: Any, keep_last: bool) -> Iterator[str | int]:
    """``loc`` without pydantic's own steps (the tags of unions), which have no key in the file."""
    for index, step in enumerate(loc):
        here: Any = _ABSENT
        if isinstance(data, Mapping):
            here = data.get(step, _ABSENT)
        elif isinstance(data, list) and isinstance(step, int) and step < len(data):
            here = data[step]
        if here is not _ABSENT:
            data = here
        elif not keep_last or index < len(loc) - 1:
            continue
        yield step


def _written(path: KeyPath, error: ErrorDetails, nodes: Nodes) -> str:
    """The value at fault, as short as it can be told."""
    text = nodes.text(path)
    if text is not None:
        return text if text else "nothing"
    value = error["input"]
    if isinstance(value, Mapping):
        return "keys and values"
    if isinstance(value, list | tuple):
        return "a list"
    return "nothing" if value is None else str(value)


def _message(error: ErrorDetails, context: Mapping[str, Any], written: str) -> str:
    kind = error["type"]
    got = f", got {written}"
    if kind == "scenario":
        return str(context["text"]).replace("{written}", written)
    if kind == "unknown_key":
        close = _close(context)
        hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(context['known'])}"
        return f"unknown key; {hint}"
    if kind == "literal_error":
        return f"must be {context['expected']}".replace("'", "") + got
    if kind.startswith("union_tag"):
        kinds = "must be rag, prompts, synthetic, tasks, trace or plugin"
        return kinds + (got if kind == "union_tag_invalid" else "")
    if kind == "string_pattern_mismatch":
        wanted = (words for part, words in _PATTERNS if part in context["pattern"])
        return f"must {next(wanted, 'not hold / or #')}{got}"
    plain = {
        "missing": "is missing",
        "greater_than_equal": f"must be ≥ {_number(context.get('ge'))}{got}",
        "greater_than": f"must be > {_number(context.get('gt'))}{got}",
        "less_than_equal": f"must be ≤ {_number(context.get('le'))}{got}",
        "less_than": f"must be < {_number(context.get('lt'))}{got}",
        "finite_number": f"must be a finite number{got}",
        "float_type": f"must be a number{got}",
        "int_type": f"must be a whole number{got}",
        "bool_type": f"must be true or false{got}",
        "string_type": f"must be text{got}",
        "string_too_short": "must not be empty",
        "string_too_long": f"must have at most {context.get('max_length')} characters",
        "tuple_type": f"must be a list{got}",
        "dict_type": f"must be keys and values{got}",
        "model_type": f"must be keys and values{got}",
        "model_attributes_type": f"must be keys and values{got}",
        "too_short": "must not be empty",
    }
    return plain.get(kind, f"{one_line(error['msg'])}{got}")


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)
