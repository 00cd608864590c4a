"""How messages pass between a session and its load workers: a 4-byte length and a pickle.

Both ends are started from the same installation and joined by a private pipe; nothing from outside is
ever unpickled.
"""

from __future__ import annotations

import pickle
import struct
from typing import Any

_LENGTH = struct.Struct(">I")


def pack(message: object) -> bytes:
    """One frame."""
    body = pickle.dumps(message, protocol=5)
    return _LENGTH.pack(len(body)) + body


class Unpacker:
    """Frames out of a byte stream that is split anywhere."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Any]:
        """The messages that ``data`` completes."""
        self._rest += data
        out: list[Any] = []
        start = 0
        while len(self._rest) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._rest, start)
            end = start + _LENGTH.size + length
            if len(self._rest) < end:
                break
            out.append(pickle.loads(bytes(self._rest[start + _LENGTH.size : end])))
            start = end
        del self._rest[:start]
        return out
