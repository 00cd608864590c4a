"""gzip and deflate in a response body: we ask for neither, but some servers and proxies send them anyway."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

_PIECE = 1 << 20  # most that is decompressed at once
_GZIP = b"\x1f\x8b"


class Decompressor:
    """gzip or deflate, told apart by the first two bytes (deflate is sent with and without zlib's header)."""

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._inner = zlib.decompressobj(bits)
        self._first: bytes | None = b""

    def decompress(self, data: bytes) -> Iterator[bytes]:
        """What ``data`` holds, in pieces of at most 1 MiB: a few bytes can stand for a gigabyte. gzip may
        have several members; what else stands behind the end is left.

        Raises zlib.error.
        """
        while data := self._begun(data):
            piece = self._inner.decompress(data, _PIECE)
            while piece:
                yield piece
                piece = self._inner.decompress(self._inner.unconsumed_tail, _PIECE)
            data = self._inner.unused_data

    def _begun(self, data: bytes) -> bytes:
        """``data``, or nothing as long as it is too little to be told apart."""
        if self._inner.eof:
            self._first = (self._first or b"") + data
            if len(self._first) < len(_GZIP):
                return b""
            data, self._first = self._first, None
            if not data.startswith(_GZIP):
                return b""
            self._inner = zlib.decompressobj(self._bits)
        elif self._first is not None:
            data = self._first + data
            self._first = data if len(data) < len(_GZIP) else None
            if self._first is not None:
                return b""
            try:
                zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(data[:2])
            except zlib.error:
                self._inner = zlib.decompressobj(-zlib.MAX_WBITS)
        return data


def decompressor(encoding: bytes) -> Decompressor | None:
    """For a value of Content-Encoding; None: nothing to do. Raises ValueError for one that is not known."""
    if encoding.lower() in (b"gzip", b"x-gzip", b"deflate"):
        return Decompressor(zlib.MAX_WBITS | 32)
    if encoding.lower() in (b"", b"identity"):
        return None
    raise ValueError(f"compressed as {encoding.decode('latin-1')}, which was not asked for")
