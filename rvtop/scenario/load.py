"""Reads scenario files. Whatever is wrong becomes one line: file, line, key, how to mend it."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from rvtop.errors import UserError
from rvtop.scenario.schema import PromptsWorkload, RagWorkload, Scenario, TraceWorkload, Workload
from rvtop.scenario.trace_format import detect
from rvtop.system.files import check_regular, read_regular

_MAX_BYTES = 4 * 1024 * 1024
_MAX_NODES = 100_000
_ABSENT = object()
_PLAIN_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")

#: What a file name's pattern asks for, by a part of it.
_PATTERNS = (("csv", "end in .jsonl or .csv"), ("txt", "end in .jsonl, .txt or .json (ShareGPT)"))

KeyPath = tuple[str | int, ...]


class ScenarioError(UserError, ValueError):
    """A scenario that can't be used. ``str()`` is the one line to show.

    ``path`` is the file as it was named; ``line`` is 1-based, None when no line is at fault; ``key``
    is like ``phases[1].rate``, empty when the whole file is meant.
    """

    def __init__(self, path: str, line: int | None, key: str, message: str) -> None:
        self.path = path
        self.line = line
        self.key = key
        self.message = message
        where = f"{path}:{line}" if line is not None else path
        super().__init__(f"{where}: {key}: {message}" if key else f"{where}: {message}")


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
        raise ScenarioError(text, None, "", f"can't read it: {_reason(problem)}") from None
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
    data, nodes = parse(_read(Path(path), shown), shown)
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
                text = f"no such file: {file}" if missing else f"can't read {file}: {_reason(problem)}"
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


def _read(path: Path, shown: str) -> str:
    try:
        raw = read_regular(path)
    except OSError as problem:
        raise ScenarioError(shown, None, "", f"can't read it: {_reason(problem)}") from None
    if len(raw) > _MAX_BYTES:
        raise ScenarioError(shown, None, "", f"larger than {_MAX_BYTES >> 20} MiB: not a scenario")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = raw.count(b"\n", 0, problem.start) + 1
        raise ScenarioError(shown, line, "", "is not UTF-8 text") from None


def _reason(problem: OSError | ValueError) -> str:
    return (problem.strerror if isinstance(problem, OSError) else None) or str(problem)


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
# YAML with line numbers


@dataclass(frozen=True, slots=True)
class Nodes:
    """Where each key stands in the file (1-based) and how its value was written, by path."""

    at: Mapping[KeyPath, tuple[int, str | None]]

    def line(self, path: KeyPath) -> int | None:
        """The line of ``path``, or of the nearest key around it."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.at:
                return self.at[path[:length]][0]
        return None

    def text(self, path: KeyPath) -> str | None:
        """The value as written, when it is a scalar."""
        return self.at[path][1] if path in self.at else None


class _Loader(yaml.SafeLoader):
    """SafeLoader that also reads ``1e3`` as a number, as YAML 1.2 does."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def parse(text: str, shown: str) -> tuple[dict[str, Any], Nodes]:
    """The plain data of a scenario's ``text`` and where everything stands. Raises ScenarioError."""
    at: dict[KeyPath, tuple[int, str | None]] = {}
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            raise ScenarioError(shown, None, "", "is empty")
        if not isinstance(root, yaml.MappingNode):
            raise ScenarioError(shown, root.start_mark.line + 1, "", "must be keys and values (name: …)")
        data = _plain(root, (), _Walk(loader, shown, at))
    except yaml.constructor.ConstructorError as problem:
        line = problem.problem_mark.line + 1 if problem.problem_mark else None
        raise ScenarioError(shown, line, "", "tags (!…) have no place here") from None
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        message = " ".join(part for part in (problem.context, problem.problem) if part)
        line = mark.line + 1 if mark else None
        raise ScenarioError(shown, line, "", f"not YAML: {_one_line(message)}") from None
    except yaml.reader.ReaderError as problem:
        line = text.count("\n", 0, problem.position) + 1
        raise ScenarioError(shown, line, "", f"not YAML: {problem.reason}") from None
    except yaml.YAMLError as problem:
        raise ScenarioError(shown, None, "", f"not YAML: {_one_line(str(problem))}") from None
    except RecursionError:
        raise ScenarioError(shown, None, "", "nested too deeply") from None
    return data, Nodes(at)


@dataclass(slots=True)
class _Walk:
    loader: _Loader
    shown: str
    at: dict[KeyPath, tuple[int, str | None]]
    nodes: int = 0


def _plain(node: yaml.Node, path: KeyPath, walk: _Walk) -> Any:
    """The plain value of ``node``; notes lines in ``walk.at``."""
    walk.nodes += 1
    if walk.nodes > _MAX_NODES or len(path) > 50:  # aliases of aliases, or one that holds itself
        raise ScenarioError(walk.shown, node.start_mark.line + 1, dotted(path[:3]), "holds far too much")
    walk.at.setdefault(path, (node.start_mark.line + 1, _scalar_text(node)))
    if isinstance(node, yaml.CollectionNode) and node.tag not in _PLAIN_TAGS:
        line = node.start_mark.line + 1
        raise ScenarioError(walk.shown, line, dotted(path), "tags (!…) have no place here")
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, walk)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*path, index), walk) for index, item in enumerate(node.value)]
    try:
        return walk.loader.construct_object(node)
    except (ValueError, OverflowError) as problem:  # 2024-13-45 looks like a date but is none
        line = node.start_mark.line + 1
        raise ScenarioError(walk.shown, line, dotted(path), f"not YAML: {problem}") from None


def _mapping(node: yaml.MappingNode, path: KeyPath, walk: _Walk) -> dict[str, Any]:
    data: dict[str, Any] = {}
    first: dict[str, int] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise ScenarioError(walk.shown, line, dotted(path), "a key must be a plain word")
        key = key_node.value
        if key in data:
            message = f"given twice (first in line {first[key]})"
            raise ScenarioError(walk.shown, line, dotted((*path, key)), message)
        first[key] = line
        walk.at.setdefault((*path, key), (line, _scalar_text(value_node)))
        data[key] = _plain(value_node, (*path, key), walk)
    return data


def _scalar_text(node: yaml.Node) -> str | None:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else None


def _one_line(text: str) -> str:
    return " ".join(text.split())


# ---------------------------------------------------------------------------------------------
# from pydantic's findings to one line


def _build(data: dict[str, Any], nodes: Nodes, shown: str) -> Scenario:
    try:
        return Scenario.model_validate(data)
    except ValidationError as problem:
        errors = problem.errors(include_url=False)
        # A list whose items are wrong is also reported as too short: the item is what to mend.
        inner = [one for one in errors if not any(_holds(one["loc"], other["loc"]) for other in errors)]
        found = [_explain(error, data, nodes) for error in inner]
    # The first in the file is the one a reader looks for first.
    line, key, message = min(found, key=lambda item: item[0] if item[0] is not None else 0)
    raise ScenarioError(shown, line, key, message)


def _holds(outer: KeyPath, inner: KeyPath) -> bool:
    return len(outer) < len(inner) and inner[: len(outer)] == outer


def dotted(path: KeyPath) -> str:
    """``("phases", 1, "rate")`` as ``phases[1].rate``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


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
    return plain.get(kind, f"{_one_line(error['msg'])}{got}")


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)
