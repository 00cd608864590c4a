"""A pseudo-terminal for what is measured: reads all that is drawn, and answers as a terminal does."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from pathlib import Path

_UPDATE_GAP_S = 0.03  # bytes that come closer together than this belong to one update of the screen
_LEAVE_LIMIT_S = 60.0
_CURSOR_QUESTION, _CURSOR_ANSWER = b"\x1b[6n", b"\x1b[1;2R"  # a glyph of one cell stands before the cursor


def cpu_s(pid: int) -> float:
    """CPU seconds so far of one process, user and system, without its children (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


class Screen:
    """A command on a terminal of ``size`` (columns, rows) that is read as fast as it is drawn on."""

    def __init__(self, command: list[str], size: tuple[int, int] = (120, 40)) -> None:
        self._fd, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        environ = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            command, stdin=child, stdout=child, stderr=child, env=environ, start_new_session=True
        )
        os.close(child)
        self.updates: list[float] = []  # when each began
        self.bytes = 0
        self.seen = b""  # all that was drawn so far, or since it was last emptied
        self.keeps = False  # whether ``seen`` is filled
        self._last = -1.0

    def read(self, seconds: float) -> None:
        """Reads for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not self._read_some(left):
                time.sleep(min(max(0.0, end - time.monotonic()), 0.05))

    def read_until(self, text: bytes, limit_s: float) -> float:
        """Reads until ``text`` has been drawn; seconds since the command began. Raises TimeoutError."""
        self.keeps = True
        end = time.monotonic() + limit_s
        while text not in self.seen:
            left = end - time.monotonic()
            if left <= 0 or not self._read_some(left):
                raise TimeoutError(f"nothing with {text!r} was drawn within {limit_s:g} s")
        return time.monotonic() - self.began

    def _read_some(self, limit_s: float) -> bool:
        """Reads what is there within the limit; whether the other side is still open."""
        if not select.select([self._fd], [], [], limit_s)[0]:
            return True
        try:
            data = os.read(self._fd, 1 << 16)
        except OSError:  # Linux says so that the other side is closed
            return False
        now = time.monotonic()
        if now - self._last > _UPDATE_GAP_S:
            self.updates.append(now)
        self._last = now
        self.bytes += len(data)
        if self.keeps:
            self.seen += data
        if _CURSOR_QUESTION in data:
            os.write(self._fd, _CURSOR_ANSWER)
        return True

    def press(self, key: bytes) -> None:
        os.write(self._fd, key)

    def leave(self) -> None:
        """Presses the keys that leave and waits for the end, then closes."""
        end = time.monotonic() + _LEAVE_LIMIT_S
        with contextlib.suppress(OSError):
            self.press(b"\x03")  # Ctrl-C leaves without a question
        while self.process.poll() is None and time.monotonic() < end:
            self.read(0.2)
        self.close()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._fd)
