"""``screen.jsonl.gz``: a snapshot a second, as its messages; each second can be read once it is written."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

from rvtop.contract.codec import CodecError, UnknownType
from rvtop.contract.messages import CODEC
from rvtop.contract.snapshot import Snapshot
from rvtop.contract.stream import SnapshotReader, SnapshotWriter
from rvtop.ipc.lines import LineSplitter, LineTooLong
from rvtop.results.lines import LONGEST, Unread, open_file

_GZIP = 31  # zlib's number for a gzip header and trailer
_PART = 1 << 16
#: Bytes unpacked at a time. Of a part in which there is damage nothing is given out, so it is a small one.
_UNPACKED = 1 << 12


class ScreenCompressor:
    """Snapshots as the bytes that the file grows by."""

    def __init__(self) -> None:
        self._messages = SnapshotWriter()
        self._zip = zlib.compressobj(6, zlib.DEFLATED, _GZIP)

    def add(self, snapshot: Snapshot) -> bytes:
        """One second more: all of it can be read as soon as these bytes are in the file."""
        lines = b"".join(map(CODEC.encode, self._messages.messages(snapshot)))
        return self._zip.compress(lines) + self._zip.flush(zlib.Z_SYNC_FLUSH)

    def end(self) -> bytes:
        """The file's end. A file without it (of a run that was killed) is read all the same."""
        return self._zip.flush(zlib.Z_FINISH)


def read_screen(path: Path, notes: list[str]) -> Iterator[Snapshot]:
    """The snapshots of a file, oldest first, each with its history and events. It ends where the file is cut
    or damaged; a line that can't be read is left out. ``notes`` gets a line on what was.

    Raises OSError when the file can't be opened or read.
    """
    unread, reader = Unread(path), SnapshotReader()
    for line in _lines(path, unread):
        unread.lines += 1
        try:
            snapshot = reader.take(CODEC.decode(line))
        except UnknownType:  # a newer rvtop's
            continue
        except CodecError as error:
            unread.skip(str(error))
            continue
        if snapshot is not None:
            yield snapshot
    if unread.count:
        notes.append(str(unread))


def _lines(path: Path, unread: Unread) -> Iterator[bytes]:
    """Whole lines, as far as the file goes."""
    lines, unzip = LineSplitter(LONGEST), zlib.decompressobj(_GZIP)
    with open_file(path) as file:
        while not unzip.eof and (packed := file.read(_PART)):
            while packed and not unzip.eof:
                try:
                    yield from lines.feed(unzip.decompress(packed, _UNPACKED))
                except (zlib.error, LineTooLong) as error:
                    unread.lines += 1
                    unread.skip(f"damaged, and what comes behind it is lost: {error}")
                    return
                packed = unzip.unconsumed_tail
