"""gzip and deflate in a response body: we ask for neither, but some servers and proxies send them anyway."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

_PIECE = 1 << 20  # most that is decompressed at once


class Decompressor:
    """gzip or deflate, told apart by the first two bytes (deflate is sent with and without zlib's header)."""

    def __init__(self, bits: int) -> None:
        self._inner = zlib.decompressobj(bits)
        self._first: bytes | None = b""

    def decompress(self, data: bytes) -> Iterator[bytes]:
        """What ``data`` holds, in pieces of at most 1 MiB: a few bytes can stand for a gigabyte.

        Raises zlib.error.
        """
        if self._first is not None:
            data = self._first + data
            self._first = data if len(data) < 2 else None
            if self._first is not None:
                return
            try:
                zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(data[:2])
            except zlib.error:
                self._inner = zlib.decompressobj(-zlib.MAX_WBITS)
        piece = self._inner.decompress(data, _PIECE)
        while piece:
            yield piece
            piece = self._inner.decompress(self._inner.unconsumed_tail, _PIECE)


def decompressor(encoding: bytes) -> Decompressor | None:
    """For a value of Content-Encoding; None: nothing to decompress."""
    return Decompressor(zlib.MAX_WBITS | 32) if encoding.lower() in (b"gzip", b"x-gzip", b"deflate") else None
