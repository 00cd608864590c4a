"""Reads the files of a run folder. A line that can't be read costs no more than itself: it is left out and
counted."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import orjson

#: No line of ours comes near; a longer one is not held in memory as a whole. Bytes.
LONGEST = 16 << 20


class Unread:
    """The lines of one file that could not be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = 0  # that the file has
        self.count = 0  # of those that could not be read
        self._first = ""

    def skip(self, why: str) -> None:
        """Counts the line that was read last as one that can't be read."""
        self.count += 1
        self._first = self._first or f"line {self.lines}: {why}"

    def __str__(self) -> str:
        """``requests.jsonl: 1 line of 4012 can't be read (line 17: not JSON); left out``."""
        what = "1 line" if self.count == 1 else f"{self.count} lines"
        which = self._first if self.count == 1 else f"the first is {self._first}"
        return f"{self.path.name}: {what} of {self.lines} can't be read ({which}); left out"


def open_file(path: Path) -> BinaryIO:
    """Opens a regular file for reading and never waits for a writer, as a FIFO would. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return open(fd, "rb")


def json_lines(path: Path, unread: Unread) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file, one a line; the other lines, and a last one that was cut off, go to
    ``unread``, whose ``lines`` is the number of the line that was read last. Raises OSError."""
    with open_file(path) as file:
        while text := file.readline(LONGEST):
            unread.lines += 1
            if not text.endswith(b"\n"):
                unread.skip("cut off" if len(text) < LONGEST else f"longer than {LONGEST >> 20} MiB")
                while text and not text.endswith(b"\n"):
                    text = file.readline(LONGEST)
                continue
            try:
                row = orjson.loads(text)
            except orjson.JSONDecodeError:
                unread.skip("not JSON")
                continue
            if isinstance(row, dict):
                yield row
            else:
                unread.skip("not a JSON object")


def read_lines(
    path: Path, notes: list[str], check: Callable[[dict[str, Any]], None] = lambda row: None
) -> list[dict[str, Any]]:
    """The rows of a small file; absent is empty. What can't be read, and what ``check`` raises ValueError
    for, is left out, and ``notes`` gets a line on it. A file that can't be opened is left out as a whole."""
    unread = Unread(path)
    rows = []
    try:
        for row in json_lines(path, unread):
            try:
                check(row)
            except ValueError as error:
                unread.skip(str(error))
            else:
                rows.append(row)
    except FileNotFoundError:
        return []
    except OSError as error:
        notes.append(f"{path.name}: can't be read ({error.strerror}); left out")
    if unread.count:
        notes.append(str(unread))
    return rows
