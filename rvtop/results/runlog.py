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
    PAIRS,
    PROBES,
    REQUESTS,
    SCENARIO,
    SCREEN,
    SUMMARY,
    TIMELINE,
)
from rvtop.contract.snapshot import Snapshot
from rvtop.results.append import AppendFiles
from rvtop.results.append import RunFolderError as RunFolderError
from rvtop.results.screen_log import ScreenCompressor
from rvtop.system.files import written_whole


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
    try:
        with written_whole(path) as part:
            part.write_bytes(orjson.dumps(data, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    except OSError as error:
        raise RunFolderError(f"{path}: can't be written: {error.strerror}") from error


class RunLog:
    """The growing files of one run. The writing ones raise RunFolderError, as AppendFiles does."""

    def __init__(self, folder: Path, scenario_yaml: str, environment: dict[str, Any]) -> None:
        self.folder = folder
        self._beat_size = 0
        self._screen = ScreenCompressor()
        self._files = AppendFiles(folder)
        self._files.put(SCENARIO, scenario_yaml.encode())
        write_json(folder / ENVIRONMENT, environment)
        for name in (REQUESTS, COMMANDS, TIMELINE):
            self._files.put(name, b"")

    def requests(self, lines: bytes) -> None:
        """Appends lines that a worker made."""
        self._files.put(REQUESTS, lines)

    def pairs(self, lines: bytes) -> None:
        """Appends pairs whose turn it was."""
        self._files.put(PAIRS, lines)

    def probes(self, lines: bytes) -> None:
        """Appends lines of requests beside the load."""
        self._files.put(PROBES, lines)

    def command(self, fields: dict[str, Any]) -> None:
        """Appends one entry of the command log."""
        self._files.put(COMMANDS, orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE))

    def timeline(self, fields: dict[str, Any]) -> None:
        """Appends one second. Raises also when the folder was deleted or moved meanwhile: what is written
        then goes nowhere."""
        self._files.check_there()
        self._files.put(TIMELINE, orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE))

    def screen(self, snapshot: Snapshot, *, last: bool = False) -> None:
        """Appends a snapshot to the screen log; the ``last`` one ends the file."""
        self._files.put(SCREEN, self._screen.add(snapshot) + (self._screen.end() if last else b""))

    def heartbeat(self, fields: dict[str, Any]) -> None:
        """Overwrites what is known of the requests that have no line yet: what a kill -9 leaves of them."""
        data = orjson.dumps(fields)
        self._beat_size = max(self._beat_size, len(data) + 1)
        self._files.put(HEARTBEAT, data.ljust(self._beat_size - 1) + b"\n", 0)

    def ended(self, fields: dict[str, Any]) -> None:
        """Appends the last line of the command log; the heartbeat is not needed any more."""
        self.command(fields)
        if self._files.failed:
            return
        self._files.close(HEARTBEAT)
        with contextlib.suppress(OSError):
            (self.folder / HEARTBEAT).unlink(missing_ok=True)

    def close(self) -> None:
        """Closes the files."""
        self._files.close()
