"""Whole lines out of a byte stream that is split anywhere."""

from __future__ import annotations


class LineTooLong(ValueError):
    """A line is longer than the reader takes; what comes behind it can't be trusted."""


class LineSplitter:
    """``longest`` bytes are the most that a line may have: more are never held."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._rest: list[bytes] = []
        self._held = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that ``data`` completes, without their ends. Raises LineTooLong."""
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = b"".join((*self._rest, lines[0]))
            self._rest, self._held = [], 0
        if rest:
            self._rest.append(rest)
            self._held += len(rest)
        if self._held > self._longest or any(len(line) > self._longest for line in lines):
            self._rest, self._held = [], 0
            raise LineTooLong(f"a line is longer than {self._longest} bytes")
        return lines
