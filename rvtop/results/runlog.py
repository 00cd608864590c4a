"""The run folder while the run goes on: append only, so that a crash costs no more than the last second."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import orjson

from rvtop.contract.run_files import (
    COMMANDS,
    ENVIRONMENT,
    FILES,
    HEARTBEAT,
    REQUESTS,
    SCENARIO,
    SUMMARY,
    TIMELINE,
)
from rvtop.errors import UserError


class RunFolderError(UserError):
    """A run folder that can't be used."""


def create(folder: Path) -> list[Path]:
    """Makes the folder of a new run; returns the folders that were made, innermost first.

    Raises RunFolderError if it holds a file of a run already or can't be made.
    """
    try:
        above = next((path for path in (folder, *folder.parents) if path.exists()), folder)
        if above.exists() and not above.is_dir():
            raise RunFolderError(
                f"--out {folder}: {above} is a file, and a run needs a folder; give another --out"
            )
        there = [name for name in FILES if (folder / name).exists()]
        if there:
            what = "a run" if REQUESTS in there or SUMMARY in there else there[0]
            raise RunFolderError(f"{folder}: holds {what} already; give another --out, or move it away")
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(13, "not writable")
    except OSError as error:
        raise RunFolderError(f"{folder}: cannot be made: {error.strerror}; give another --out") from error
    return made


def discard(folder: Path, made: list[Path], *also: str, keep: str = "") -> None:
    """Takes back what a run that never began has left: its files and those named ``also``, but for ``keep``,
    and the folders that ``create`` made, as far as they are empty now."""
    for name in {*FILES, *also} - {keep}:
        (folder / name).unlink(missing_ok=True)
    for path in made:
        with contextlib.suppress(OSError):
            path.rmdir()


def write_json(path: Path, data: Any) -> None:
    """Writes a JSON file as a whole or not at all. Raises RunFolderError."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(orjson.dumps(data, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise RunFolderError(f"{path}: can't be written: {error.strerror}") from error


class RunLog:
    """The growing files of one run. The writing ones raise RunFolderError, once: what follows a write that
    failed is dropped, so that no line is ever joined to half of another."""

    def __init__(self, folder: Path, scenario_yaml: str, environment: dict[str, Any]) -> None:
        self.folder = folder
        self._failed = False
        self._beat_size = 0
        # Plain descriptors: what was written is the kernel's, and a kill -9 of ours can't take it back.
        self._files: dict[str, int] = {}
        self._put(SCENARIO, scenario_yaml.encode())
        write_json(folder / ENVIRONMENT, environment)
        for name in (REQUESTS, COMMANDS, TIMELINE):
            self._put(name, b"")

    def requests(self, lines: bytes) -> None:
        """Appends lines that a worker made."""
        self._put(REQUESTS, lines)

    def command(self, fields: dict[str, Any]) -> None:
        """Appends one entry of the command log."""
        self._put(COMMANDS, orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE))

    def timeline(self, fields: dict[str, Any]) -> None:
        """Appends one second. Raises also when the folder was deleted or moved meanwhile: what is written
        then goes nowhere."""
        self._check_there()
        self._put(TIMELINE, orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE))

    def heartbeat(self, fields: dict[str, Any]) -> None:
        """Overwrites what is known of the requests that have no line yet: what a kill -9 leaves of them."""
        data = orjson.dumps(fields)
        self._beat_size = max(self._beat_size, len(data) + 1)
        self._put(HEARTBEAT, data.ljust(self._beat_size - 1) + b"\n", 0)

    def ended(self, fields: dict[str, Any]) -> None:
        """Appends the last line of the command log; the heartbeat is not needed any more."""
        self.command(fields)
        if self._failed:
            return
        if HEARTBEAT in self._files:
            os.close(self._files.pop(HEARTBEAT))
        with contextlib.suppress(OSError):
            (self.folder / HEARTBEAT).unlink(missing_ok=True)

    def close(self) -> None:
        """Closes the files."""
        while self._files:
            os.close(self._files.popitem()[1])

    def _check_there(self) -> None:
        if self._failed:
            return
        for name, fd in self._files.items():
            path = self.folder / name
            try:
                there = os.path.samestat(path.stat(), os.fstat(fd))
            except OSError:
                there = False
            if not there:
                self._failed = True
                gone = path if self.folder.is_dir() else self.folder
                raise RunFolderError(f"{gone}: was deleted or moved while the run went on")

    def _put(self, name: str, data: bytes, at: int | None = None) -> None:
        """Appends ``data``, or writes it ``at`` this byte."""
        if self._failed:
            return
        try:
            if name not in self._files:
                flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_APPEND if at is None else 0)
                self._files[name] = os.open(self.folder / name, flags, 0o644)
            if at is not None:
                os.pwrite(self._files[name], data, at)
                return
            rest = memoryview(data)
            while rest:  # a full disk takes a part before it takes nothing
                rest = rest[os.write(self._files[name], rest) :]
        except OSError as error:
            self._failed = True
            raise RunFolderError(f"{self.folder / name}: can't be written: {error.strerror}") from error
