"""Reads scenario files. Every fault becomes one line: file, line, key, how to fix it."""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from rvtop.errors import UserError
from rvtop.scenario.mistakes import mistakes
from rvtop.scenario.schema import (
    PromptsWorkload,
    RagWorkload,
    Scenario,
    TasksWorkload,
    TraceWorkload,
    Workload,
)
from rvtop.scenario.trace_format import detect
from rvtop.system.files import check_regular
from rvtop.system.yaml_lines import FileError, KeyPath, Nodes, dotted, parse, read_text, reason


class ScenarioError(FileError):
    """A scenario that can't be used: its first mistake, and how many more there are; ``lines`` has all."""

    def __init__(
        self, path: str, line: int | None, key: str, message: str, more: Sequence[FileError] = ()
    ) -> None:
        super().__init__(path, line, key, message, f" ({len(more)} more)" if more else "")
        self._lines = (str(FileError(path, line, key, message)), *map(str, more))

    @classmethod
    def of(cls, found: Sequence[FileError]) -> ScenarioError:
        """All of ``found`` (one at least), in the order of the file."""
        first, *more = sorted(found, key=lambda one: one.line or 0)
        return cls(first.path, first.line, first.key, first.message, more)

    @property
    def lines(self) -> tuple[str, ...]:
        return self._lines


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

    With ``check_files`` the files it names must exist. Raises ScenarioError with every mistake.
    """
    shown = str(path)
    twice: list[FileError] = []
    data, nodes = parse(read_text(Path(path), shown, ScenarioError), shown, ScenarioError, twice)
    data.setdefault("name", Path(path).stem)
    found = [*twice]
    scenario, workload = None, None
    try:
        scenario = Scenario.model_validate(data)
        workload = scenario.workload
    except ValidationError as problem:
        found += mistakes(problem, data, nodes, shown)
        with contextlib.suppress(ValidationError):
            workload = TypeAdapter(Workload).validate_python(data.get("workload"))
    if workload is not None:
        workload = _resolve(workload, Path(path).parent)
        if check_files:
            found += _missing_files(workload, nodes, shown)
    if found or scenario is None:
        raise ScenarioError.of(found)
    return scenario.model_copy(update={"workload": workload})


def _missing_files(workload: Workload, nodes: Nodes, shown: str) -> Iterator[FileError]:
    """What is wrong with the files that the workload names."""
    for key, file in workload.files:
        where: KeyPath = ("workload", key)
        try:
            if not (key == "index" and file.is_dir()):
                check_regular(file)
            if isinstance(workload, TraceWorkload):
                detect(Path(workload.file), workload.format)
        except (FileNotFoundError, NotADirectoryError):
            yield FileError(shown, nodes.line(where), dotted(where), f"no such file: {file}")
        except (OSError, ValueError) as problem:
            text = f"can't read {file}: {reason(problem)}"
            yield FileError(shown, nodes.line(where), dotted(where), text)
        except UserError as problem:
            yield FileError(shown, nodes.line(where), dotted(where), str(problem))


def scenario_from(data: Mapping[str, Any], source: str) -> Scenario:
    """A scenario from plain data of the file's shape (flags of a command line, say).

    ``source`` stands where the file's name would in a ScenarioError.
    """
    try:
        return Scenario.model_validate(data)
    except ValidationError as problem:
        raise ScenarioError.of(mistakes(problem, data, Nodes({}), source)) from None


def _resolve(workload: Workload, folder: Path) -> Workload:
    """File names made absolute; ``sample`` and None stay what they are."""

    def absolute(name: str) -> str:
        # Unlike Path.resolve, this leaves a loop of links to be told as what it is.
        return name if name == "sample" else os.path.realpath(folder / Path(name).expanduser())

    if isinstance(workload, RagWorkload):
        index = absolute(workload.index) if workload.index is not None else None
        return workload.model_copy(update={"questions": absolute(workload.questions), "index": index})
    if isinstance(workload, PromptsWorkload | TasksWorkload | TraceWorkload) and workload.file is not None:
        return workload.model_copy(update={"file": absolute(workload.file)})
    return workload
