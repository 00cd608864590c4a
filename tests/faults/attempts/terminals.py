"""``rvtop …`` on a pseudo-terminal of 120 x 40."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import termios
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.faults.attempts.cli import Done, rvtop

_SEQUENCE = re.compile(r"\x1b(\[[0-9;?<>=]*[a-zA-Z]|\][^\x07]*\x07|[PX^_].*?\x1b\\|[=>()][0-9A-B]?)")
_BACK = "\x1b[?1049l"  # from the alternate screen


class Terminal:
    """A process and what it has drawn. ``env``: what is else in its environment."""

    def __init__(self, *words: object, env: Mapping[str, str] | None = None, **more: Any) -> None:
        self._fd, child = pty.openpty()
        self._size(120, 40)
        given = {"TERM": "xterm-256color", "COLORTERM": "truecolor", **(env or {})}
        self.process = rvtop(*words, env=given, stdin=child, stdout=child, stderr=child, **more)
        os.close(child)
        self._drawn = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._fd, 1 << 16)
            except OSError:  # the other side is closed
                return
            if not data:
                return
            self._drawn += data

    @property
    def all(self) -> str:
        """All that came, sequences too."""
        return self._drawn.decode("utf-8", "replace")

    @property
    def text(self) -> str:
        """What was drawn so far, without sequences."""
        return _SEQUENCE.sub("", self.all)

    def keys(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def _size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns: int, rows: int) -> None:
        """Another size, of which the process is told."""
        self._size(columns, rows)
        self.process.send_signal(signal.SIGWINCH)

    def until(self, word: str, limit_s: float = 60, since: int = 0) -> None:
        """Waits until ``word`` has been drawn, behind the first ``since`` characters."""
        end = time.monotonic() + limit_s
        while word not in self.text[since:]:
            assert self.process.poll() is None, f"it ended before it said {word}: {self.text[-600:]}"
            assert time.monotonic() < end, f"{limit_s:g} s without {word}: {self.text[-600:]}"
            time.sleep(0.05)

    def end(self, run: Path = Path("."), limit_s: float = 60) -> Done:
        """Waits for the end; the terminal is as it was, and there is no traceback. ``err`` is what was said
        outside of the screen."""
        code = self.process.wait(limit_s)
        self._reader.join(5)
        os.close(self._fd)
        said = _SEQUENCE.sub("", self.all.rpartition(_BACK)[2])
        assert "Traceback" not in self.all, self.text[-3000:]
        lines = [line for line in said.replace("\r", "\n").split("\n") if line.strip()]
        return Done(code, self.text, "\n".join(lines), run)
