"""An incremental parser of server-sent events (WHATWG HTML, §9.2.6), pure: bytes in, ``data`` out.

It takes any splitting of the bytes, LF, CRLF or CR line ends, comments, other fields and data of
several lines. It is the careful way; ``completion.py`` goes round it for the common case.
"""

from __future__ import annotations

import re

_LINE_END = re.compile(rb"\r\n|\n|\r")

#: No event of a completion comes near this; a longer one is not SSE.
MAX_EVENT_BYTES = 1 << 20
_LINE_BYTES = 32  # what a line costs us besides its text: empty lines without end fill the memory too


class SseError(ValueError):
    """The bytes are not a stream of server-sent events."""


class SseParser:
    """Feed it bytes; it hands out the data of each complete event."""

    __slots__ = ("_begun", "_cr", "_data", "_rest", "_size", "idle")

    def __init__(self) -> None:
        self.idle = True  # between two events: nothing is pending
        self._begun = False  # the first line was seen
        self._cr = False  # the last byte was a CR: an LF that comes next belongs to it
        self._rest = bytearray()  # the line that is not complete yet; holds no line end
        self._data: list[bytes] = []  # data lines of the event that is not complete yet
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of every event that ``chunk`` completes. Raises SseError for an event beyond 1 MiB."""
        if self.idle and chunk.startswith(b"data: ") and chunk.endswith(b"\n\n") and b"\r" not in chunk:
            # Whole events of one line each, which is what servers write: no line needs a look of its own.
            whole = chunk[6:-2].split(b"\n\ndata: ")
            if len(chunk) <= MAX_EVENT_BYTES and not any(b"\n" in data for data in whole):
                self._begun = True
                return whole
        events: list[bytes] = []
        if self._cr and chunk:
            self._cr = False
            chunk = chunk.removeprefix(b"\n")
        rest = self._rest
        known = len(rest)
        rest += chunk
        start = 0
        for end in _LINE_END.finditer(rest, known):
            self._line(bytes(rest[start : end.start()]), events)
            start = end.end()
        # A CR ends its line at once: waiting for its LF would date the event by the next read.
        self._cr = self._cr or (start > 0 and start == len(rest) and rest.endswith(b"\r"))
        del rest[:start]
        if len(rest) + self._size > MAX_EVENT_BYTES:
            self._clear()
            raise SseError(f"an event longer than {MAX_EVENT_BYTES} bytes")
        self.idle = not (rest or self._data or self._cr)
        return events

    def begun(self) -> None:
        """What comes is not the beginning of the body."""
        self._begun = True

    def end(self) -> list[bytes]:
        """What the end of the body leaves: servers forget the last blank line, and mean the event."""
        events: list[bytes] = []
        if self._rest:
            self._line(bytes(self._rest), events)
        self._line(b"", events)
        self._clear()
        return events

    def _clear(self) -> None:
        self._rest.clear()
        self._data = []
        self._size = 0
        self.idle = True

    def _line(self, line: bytes, events: list[bytes]) -> None:
        if not self._begun:
            self._begun = True
            line = line.removeprefix(b"\xef\xbb\xbf")  # a byte order mark, which the standard takes off
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
                self._data = []
                self._size = 0
        elif line.startswith(b"data:"):
            self._add(line[6:] if line[5:6] == b" " else line[5:])
        elif line == b"data":
            self._add(b"")
        # Comments (":…"), event:, id:, retry: and unknown fields carry no token.

    def _add(self, value: bytes) -> None:
        self._data.append(value)
        self._size += len(value) + _LINE_BYTES
