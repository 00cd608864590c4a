"""stdin, stdout and stderr of a command: open however the shell left them, and never a reason to fail.

A run is worth more than its lines: where they can't be written (a full disk, a terminal that was closed, a
reader that went away) that is said once, if there is still a place to say it, and the work goes on.
"""

from __future__ import annotations

import errno
import io
import locale
import os
import queue
import select
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from rvtop.text import printable

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_lost: OSError | None = None


def say(text: str) -> None:
    """One line on stdout, at once."""
    print(text, flush=True)


def say_nothing(text: str) -> None:
    """In place of ``say`` where nobody wants the lines."""


def say_error(message: str) -> None:
    """One line on stderr, at once."""
    print(f"rvtop: {printable(message)}", file=sys.stderr, flush=True)


class LineWriter:
    """Hands lines to ``write`` in a thread of its own, in order: a reader that stalls (Ctrl-S, ``less``)
    must not stop the session's loop, which renews the lease of its backend."""

    def __init__(self, write: Callable[[str], None] = say) -> None:
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._write = write
        self._thread = threading.Thread(target=self._run, name="lines", daemon=True)
        self._thread.start()

    def __call__(self, text: str) -> None:
        """Takes one line; returns at once."""
        self._lines.put(text)

    def close(self) -> None:
        """Waits until every line is written."""
        self._lines.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (text := self._lines.get()) is not None:
            self._write(text)


def set_up() -> None:
    """To be called first of all in a process that a user starts: opens /dev/null where descriptor 0, 1 or 2
    is closed (what is opened next would get that number, and libuv ends the process over it), and makes
    ``sys.stdout`` and ``sys.stderr`` writers that never raise. What their encoding lacks is replaced."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest free number: fd
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False, encoding="utf-8", errors="replace")  # noqa: SIM115
        sys.__stdin__ = sys.stdin  # type: ignore[misc]  # final for typeshed; None in a process without a stdin
    sys.stdout = _writer(1, sys.stdout, "replace", _stdout_lost)
    sys.stderr = _writer(2, sys.stderr, "backslashreplace", lambda error: None)


def output_lost() -> bool:
    """Whether something of stdout could not be written although somebody may have wanted it. A pipe whose
    reader has gone (``| head -1``) and a terminal that was closed do not count."""
    return _lost is not None


def forgive_lost_output() -> None:
    """What was lost so far was only told beside the work; the work itself is whole."""
    global _lost
    _lost = None


def _stdout_lost(error: OSError) -> None:
    global _lost
    _lost = error
    say_error(f"stdout can't be written: {error.strerror}; what follows is not shown")


def _writer(fd: int, before: TextIO | None, errors: str, on_loss: Callable[[OSError], None]) -> TextIO:
    encoding = locale.getpreferredencoding(False) if before is None else before.encoding
    raw = _Descriptor(fd, on_loss)
    lines = fd == 2 or raw.isatty()
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=encoding, errors=errors, line_buffering=lines)


class _Descriptor(io.RawIOBase):
    """Writes to a descriptor. At the first error /dev/null takes its place, and ``on_loss`` is told, unless
    it is that the reader has gone."""

    def __init__(self, fd: int, on_loss: Callable[[OSError], None]) -> None:
        self._fd = fd
        self._on_loss = on_loss
        self._gone = errno.EIO if os.isatty(fd) else errno.EPIPE  # that nobody reads any more

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        rest = memoryview(data)
        size = len(rest)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # another process has made our terminal or pipe so
                select.select([], [self._fd], [])
            except OSError as error:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._fd)
                os.close(nowhere)
                if error.errno != self._gone:
                    self._on_loss(error)
                break
        return size
