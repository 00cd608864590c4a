"""``screen.jsonl.gz``: a snapshot a second, as its messages; each second can be read once it is written."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rvtop.contract.codec import Codec, CodecError, UnknownType
from rvtop.contract.messages import VIEWS
from rvtop.contract.snapshot import Snapshot
from rvtop.contract.stream import SnapshotReader, SnapshotWriter
from rvtop.ipc.lines import LineSplitter, LineTooLong
from rvtop.results.lines import LONGEST, Unread, open_file

_GZIP = 31  # zlib's number for a gzip header and trailer
_PART = 1 << 16
#: Bytes unpacked at a time. Of a part in which there is damage nothing is given out, so it is a small one.
_UNPACKED = 1 << 12
#: How the packed bytes of each second end (zlib's Z_SYNC_FLUSH).
_SECOND_END = b"\x00\x00\xff\xff"


@dataclass(frozen=True, slots=True)
class Check:
    """Ends a second: the CRC-32 of its lines. gzip's own stands at the end of the file, which a run that was
    killed has not got."""

    crc32: int = 0


_CODEC = Codec({**VIEWS, "check": Check})


class ScreenCompressor:
    """Snapshots as the bytes that the file grows by."""

    def __init__(self) -> None:
        self._messages = SnapshotWriter()
        self._zip = zlib.compressobj(6, zlib.DEFLATED, _GZIP)

    def add(self, snapshot: Snapshot) -> bytes:
        """One second more: all of it can be read as soon as these bytes are in the file."""
        lines = b"".join(map(_CODEC.encode, self._messages.messages(snapshot)))
        lines += _CODEC.encode(Check(zlib.crc32(lines)))
        return self._zip.compress(lines) + self._zip.flush(zlib.Z_SYNC_FLUSH)

    def end(self) -> bytes:
        """The file's end. A file without it (of a run that was killed) is read all the same."""
        return self._zip.flush(zlib.Z_FINISH)


def read_screen(path: Path, notes: list[str]) -> Iterator[Snapshot]:
    """The snapshots of a file, oldest first, each with its history and events. It ends where the file is cut
    or damaged; a line that can't be read, and a second that is not as it was written, are left out. ``notes``
    gets a line on what was, but not on a last second that was cut off.

    Raises OSError when the file can't be opened or read.
    """
    unread, reader, packed = Unread(path), SnapshotReader(), _Packed(path)
    second: list[Any] = []  # its messages, which count once its check has been
    crc32 = seconds = 0
    checks = False  # whether there are any
    missed = False  # whether the one before was missing: what follows is no end that was cut
    for line in packed.lines(unread):
        unread.lines += 1
        message, told = None, False
        try:
            message = _CODEC.decode(line)
        except UnknownType:  # a newer rvtop's
            pass
        except CodecError as error:
            unread.skip(str(error))
            told = True
        if isinstance(message, Check):
            checks, missed = True, False
            if message.crc32 == crc32:
                yield from _taken(reader, second)
            else:
                unread.skip("not as it was written, with the second that it ends")
            second, crc32 = [], 0
            continue
        if second and isinstance(second[-1], Snapshot):
            if checks:  # and this should have been one
                second, crc32, missed = [], 0, True
                if not told:
                    unread.skip("not the check of the second before it, which is left out")
                if message is None:
                    continue
            elif message is not None:  # an rvtop wrote it that wrote no checks
                yield from _taken(reader, second)
                second, crc32 = [], 0
        seconds += isinstance(message, Snapshot)
        second.append(message)
        crc32 = zlib.crc32(line + b"\n", crc32)
    # Cut between it and its check; or no checks are there, and gzip's own says that all is as it was written.
    cut = bool(second) and isinstance(second[-1], Snapshot) and not packed.damaged and not missed
    if cut or (not checks and packed.whole):
        yield from _taken(reader, second)
    elif not unread.count and any(isinstance(message, Snapshot) for message in second):
        unread.skip("no check of the seconds before it, which are left out")
    if seconds < packed.seconds and not packed.whole and not unread.count:
        unread.lines += 1  # damage unpacks to anything, also to one line that does not end
        unread.skip(f"damaged: {packed.seconds} seconds were written, {seconds} can be unpacked")
    if unread.count:
        notes.append(str(unread))


def _taken(reader: SnapshotReader, messages: Iterable[Any]) -> Iterator[Snapshot]:
    for message in messages:
        snapshot = reader.take(message)
        if snapshot is not None:
            yield snapshot


class _Packed:
    """A file as it is read. ``seconds``: how many were written, by the marks in the packed bytes; ``whole``:
    its end has been read, and gzip's checksum was right; ``damaged``: it could not be unpacked to its end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.seconds = 0
        self.whole = False
        self.damaged = False

    def lines(self, unread: Unread) -> Iterator[bytes]:
        """Whole lines, as far as the file goes."""
        lines, unzip = LineSplitter(LONGEST), zlib.decompressobj(_GZIP)
        before = b""
        with open_file(self._path) as file:
            while not unzip.eof and (packed := file.read(_PART)):
                self.seconds += (before + packed).count(_SECOND_END)
                before = packed[1 - len(_SECOND_END) :]
                while packed and not unzip.eof:
                    try:
                        yield from lines.feed(unzip.decompress(packed, _UNPACKED))
                    except (zlib.error, LineTooLong) as error:
                        self.damaged = True
                        unread.lines += 1
                        unread.skip(f"damaged, and what comes behind it is lost: {error}")
                        return
                    packed = unzip.unconsumed_tail
        self.whole = unzip.eof
