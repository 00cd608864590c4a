"""YAML files whose faults are told with file, line and key: scenarios, settings, themes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rvtop.errors import UserError
from rvtop.system.files import read_regular

_MAX_BYTES = 4 * 1024 * 1024
_MAX_NODES = 100_000
_PLAIN_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")

KeyPath = tuple[str | int, ...]


class FileError(UserError, ValueError):
    """A file that can't be used. ``str()`` is the one line to show.

    ``path`` is the file as it was named; ``line`` is 1-based, None when no line is at fault; ``key``
    is like ``phases[1].rate``, empty when the whole file is meant. ``more`` ends the line.
    """

    def __init__(self, path: str, line: int | None, key: str, message: str, more: str = "") -> None:
        self.path = path
        self.line = line
        self.key = key
        self.message = message
        where = f"{path}:{line}" if line is not None else path
        super().__init__(f"{where}: {key}: {message}{more}" if key else f"{where}: {message}{more}")


def read_text(path: Path, shown: str, fault: type[FileError] = FileError) -> str:
    """The text of a regular UTF-8 file of at most 4 MiB. Raises ``fault``."""
    try:
        raw = read_regular(path)
    except (OSError, ValueError) as problem:
        raise fault(shown, None, "", f"can't read it: {reason(problem)}") from None
    if len(raw) > _MAX_BYTES:
        raise fault(shown, None, "", f"larger than {_MAX_BYTES >> 20} MiB, which is too much")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = raw.count(b"\n", 0, problem.start) + 1
        raise fault(shown, line, "", "is not UTF-8 text") from None


def reason(problem: OSError | ValueError) -> str:
    """Why a file could not be read, in a few words."""
    return (problem.strerror if isinstance(problem, OSError) else None) or str(problem)


def dotted(path: KeyPath) -> str:
    """``("phases", 1, "rate")`` as ``phases[1].rate``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


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


def parse(
    text: str, shown: str, fault: type[FileError] = FileError, twice: list[FileError] | None = None
) -> tuple[dict[str, Any], Nodes]:
    """The plain data of ``text`` and where everything stands. Raises ``fault``; but a key that is given
    twice is added to ``twice``, where there is such a list, and the first of the two holds."""
    at: dict[KeyPath, tuple[int, str | None]] = {}
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            raise fault(shown, None, "", "is empty")
        if not isinstance(root, yaml.MappingNode):
            raise fault(shown, root.start_mark.line + 1, "", "must be keys and values (key: value)")
        data = _plain(root, (), _Walk(loader, shown, at, fault, twice))
    except yaml.constructor.ConstructorError as problem:
        line = problem.problem_mark.line + 1 if problem.problem_mark else None
        raise fault(shown, line, "", "tags (!…) have no place here") from None
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        message = " ".join(part for part in (problem.context, problem.problem) if part)
        line = mark.line + 1 if mark else None
        raise fault(shown, line, "", f"not YAML: {one_line(message)}") from None
    except yaml.reader.ReaderError as problem:
        line = text.count("\n", 0, problem.position) + 1
        raise fault(shown, line, "", f"not YAML: {problem.reason}") from None
    except yaml.YAMLError as problem:
        raise fault(shown, None, "", f"not YAML: {one_line(str(problem))}") from None
    except RecursionError:
        raise fault(shown, None, "", "nested too deeply") from None
    return data, Nodes(at)


@dataclass(slots=True)
class _Walk:
    loader: _Loader
    shown: str
    at: dict[KeyPath, tuple[int, str | None]]
    fault: type[FileError]
    twice: list[FileError] | None
    nodes: int = 0


def _plain(node: yaml.Node, path: KeyPath, walk: _Walk) -> Any:
    """The plain value of ``node``; notes lines in ``walk.at``."""
    walk.nodes += 1
    if walk.nodes > _MAX_NODES or len(path) > 50:  # aliases of aliases, or one that holds itself
        raise walk.fault(walk.shown, node.start_mark.line + 1, dotted(path[:3]), "holds far too much")
    walk.at.setdefault(path, (node.start_mark.line + 1, _scalar_text(node)))
    if isinstance(node, yaml.CollectionNode) and node.tag not in _PLAIN_TAGS:
        line = node.start_mark.line + 1
        raise walk.fault(walk.shown, line, dotted(path), "tags (!…) have no place here")
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, walk)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*path, index), walk) for index, item in enumerate(node.value)]
    try:
        return walk.loader.construct_object(node)
    except (ValueError, OverflowError) as problem:  # 2024-13-45 looks like a date but is none
        line = node.start_mark.line + 1
        raise walk.fault(walk.shown, line, dotted(path), f"not YAML: {problem}") from None


def _mapping(node: yaml.MappingNode, path: KeyPath, walk: _Walk) -> dict[str, Any]:
    data: dict[str, Any] = {}
    first: dict[str, int] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise walk.fault(walk.shown, line, dotted(path), "a key must be a plain word")
        key = key_node.value
        if key in data:
            message = f"given twice (first in line {first[key]})"
            error = walk.fault(walk.shown, line, dotted((*path, key)), message)
            if walk.twice is None:
                raise error
            walk.twice.append(error)
            continue
        first[key] = line
        walk.at.setdefault((*path, key), (line, _scalar_text(value_node)))
        data[key] = _plain(value_node, (*path, key), walk)
    return data


def _scalar_text(node: yaml.Node) -> str | None:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else None


def one_line(text: str) -> str:
    """``text`` without its line ends."""
    return " ".join(text.split())
