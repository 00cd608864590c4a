"""Reads scenario files. Every fault becomes one line: file, line, key, how to fix it."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from rvtop.errors import UserError
from rvtop.scenario.schema import PromptsWorkload, RagWorkload, Scenario, TraceWorkload, Workload
from rvtop.scenario.trace_format import detect
from rvtop.system.files import check_regular
from rvtop.system.yaml_lines import FileError, KeyPath, Nodes, dotted, one_line, parse, read_text, reason

_ABSENT = object()

#: What a file name's pattern asks for, by a part of it.
_PATTERNS = (("csv", "end in .jsonl or .csv"), ("txt", "end in .jsonl, .txt or .json (ShareGPT)"))


class ScenarioError(FileError):
    """A scenario that can't be used."""


# ---------------------------------------------------------------------------------------------
# finding and loading


def shipped_folder() -> Path | None:
    """Where the shipped scenarios lie: in the installed package, or ``scenarios/`` of a checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "_scenarios", package.parent / "scenarios"):
        if folder.is_dir():
            return folder
    return None


def shipped_scenarios() -> tuple[str, ...]:
    """Names of the shipped scenarios, sorted."""
    folder = shipped_folder()
    return tuple(sorted(path.stem for path in folder.glob("*.yaml"))) if folder else ()


def find_scenario(name_or_path: str | Path) -> Path:
    """The file of ``name_or_path``: a path, or the bare name of a shipped scenario.

    Raises ScenarioError when there is none.
    """
    text = str(name_or_path)
    path = Path(text)
    try:
        check_regular(path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        pass  # the name of a shipped one, or an error below
    except (OSError, ValueError) as problem:  # a loop of links, a FIFO, a name that no file can have
        raise ScenarioError(text, None, "", f"can't read it: {reason(problem)}") from None
    else:
        return path
    bare = path.name == text and path.suffix not in (".yaml", ".yml")
    folder = shipped_folder()
    if bare and folder is not None and (folder / f"{text}.yaml").is_file():
        return folder / f"{text}.yaml"
    if path.is_dir():
        raise ScenarioError(text, None, "", "is a folder, not a scenario file")
    if bare:
        names = shipped_scenarios()
        close = difflib.get_close_matches(text, names, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise ScenarioError(text, None, "", f"no such scenario; {hint}shipped: {', '.join(names)}")
    raise ScenarioError(text, None, "", "no such file")


def load_scenario(path: str | Path, *, check_files: bool = True) -> Scenario:
    """The scenario in ``path``, its files made absolute (they are relative to the scenario's folder).

    With ``check_files`` the files it names must exist. Raises ScenarioError.
    """
    shown = str(path)
    data, nodes = parse(read_text(Path(path), shown, ScenarioError), shown, ScenarioError)
    if "name" not in data:
        data["name"] = Path(path).stem
    scenario = _build(data, nodes, shown)
    resolved = scenario.model_copy(update={"workload": _resolve(scenario.workload, Path(path).parent)})
    if check_files:
        for key, file in resolved.files:
            try:
                if not (key == "index" and file.is_dir()):
                    check_regular(file)
            except (OSError, ValueError) as problem:
                where: KeyPath = ("workload", key)
                missing = isinstance(problem, FileNotFoundError | NotADirectoryError)
                text = f"no such file: {file}" if missing else f"can't read {file}: {reason(problem)}"
                raise ScenarioError(shown, nodes.line(where), dotted(where), text) from None
        if isinstance(resolved.workload, TraceWorkload):
            where = ("workload", "file")
            try:
                detect(Path(resolved.workload.file), resolved.workload.format)
            except UserError as problem:
                raise ScenarioError(shown, nodes.line(where), dotted(where), str(problem)) from None
    return resolved


def scenario_from(data: Mapping[str, Any], source: str) -> Scenario:
    """A scenario from plain data of the file's shape (flags of a command line, say).

    ``source`` stands where the file's name would in a ScenarioError.
    """
    return _build(dict(data), Nodes({}), source)


def _resolve(workload: Workload, folder: Path) -> Workload:
    """File names made absolute; ``sample`` and None stay what they are."""

    def absolute(name: str) -> str:
        # Unlike Path.resolve, this leaves a loop of links to be told as what it is.
        return name if name == "sample" else os.path.realpath(folder / Path(name).expanduser())

    if isinstance(workload, RagWorkload):
        index = absolute(workload.index) if workload.index is not None else None
        return workload.model_copy(update={"questions": absolute(workload.questions), "index": index})
    if isinstance(workload, PromptsWorkload | TraceWorkload):
        return workload.model_copy(update={"file": absolute(workload.file)})
    return workload


# ---------------------------------------------------------------------------------------------
# from pydantic's findings to one line


def _build(data: dict[str, Any], nodes: Nodes, shown: str) -> Scenario:
    try:
        return Scenario.model_validate(data)
    except ValidationError as problem:
        errors = problem.errors(include_url=False)
        # A list whose items are wrong is also reported as too short: the item is what to fix.
        inner = [one for one in errors if not any(_holds(one["loc"], other["loc"]) for other in errors)]
        found = [_explain(error, data, nodes) for error in inner]
    # The first in the file is the one a reader looks for first.
    line, key, message = min(found, key=lambda item: item[0] if item[0] is not None else 0)
    raise ScenarioError(shown, line, key, message)


def _holds(outer: KeyPath, inner: KeyPath) -> bool:
    return len(outer) < len(inner) and inner[: len(outer)] == outer


def _explain(error: ErrorDetails, data: Mapping[str, Any], nodes: Nodes) -> tuple[int | None, str, str]:
    """Line, key and message of one of pydantic's errors."""
    context = error.get("ctx", {})
    path = tuple(_in_file(error["loc"], data, keep_last=error["type"] == "missing"))
    named = context.get("key")
    if named is not None:
        path = (*path, *((named,) if isinstance(named, str | int) else named))
    if error["type"].startswith("union_tag"):
        path = (*path, "kind")
    return nodes.line(path), dotted(path), _message(error, context, _written(path, error, nodes))


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
        close = difflib.get_close_matches(str(context["key"]), context["known"], n=1)
        hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(context['known'])}"
        return f"unknown key; {hint}"
    if kind == "literal_error":
        return f"must be {context['expected']}".replace("'", "") + got
    if kind.startswith("union_tag"):
        return "must be rag, prompts, synthetic or trace" + (got if kind == "union_tag_invalid" else "")
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
