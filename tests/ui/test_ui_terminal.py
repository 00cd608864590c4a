"""The screen in a pseudo-terminal: however it is left, the session is closed and the terminal restored."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

SCREEN = Path(__file__).parent / "driven_screen.py"


class Terminal:
    """A process, by default ``driven_screen.py``, on a pseudo-terminal of 120 x 40."""

    def __init__(self, *args: str, command: tuple[str, ...] = (sys.executable, str(SCREEN))) -> None:
        self.fd, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        environ = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        self.process = subprocess.Popen(
            [*command, *args],
            stdin=child, stdout=child, stderr=child, env=environ, start_new_session=True,
        )  # fmt: skip
        os.close(child)
        self.seen = b""

    def read(self, until: bytes | None = None, timeout_s: float = 240.0) -> None:
        """Reads until ``until`` has been seen, or with None until the process has ended."""
        end = time.monotonic() + timeout_s
        while until is None or until not in self.seen:
            assert time.monotonic() < end, self.seen[-2000:]
            ready, _, _ = select.select([self.fd], [], [], 0.1)
            if ready:
                try:
                    self.seen += os.read(self.fd, 65536)
                except OSError:  # the other side is closed
                    break
            elif until is None and self.process.poll() is not None:
                break

    def end(self) -> int:
        self.read()
        return self.process.wait(timeout=240)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.fd)


@pytest.mark.parametrize(
    ("how", "code"), [("q", 0), ("ctrl-c", 130), ("SIGTERM", 130), ("a fault", 1)], ids=lambda v: str(v)
)
def test_however_it_is_left_the_session_is_closed(tmp_path: Path, how: str, code: int) -> None:
    note = tmp_path / "note"
    terminal = Terminal(str(note), *(["broken"] if how == "a fault" else []))
    try:
        terminal.read(b"served")
        if how == "q":
            os.write(terminal.fd, b"q")
            terminal.read(b"leaves")  # a scenario has not ended
            os.write(terminal.fd, b"y")
        elif how == "ctrl-c":
            os.write(terminal.fd, b"\x03")
        elif how == "SIGTERM":
            terminal.process.send_signal(signal.SIGTERM)
        assert terminal.end() == code
        assert note.read_text() == "closed"
        assert b"\x1b[?1049l" in terminal.seen  # back from the alternate screen
    finally:
        terminal.close()


def test_when_its_terminal_is_gone_it_ends(tmp_path: Path) -> None:
    """Also where nobody sends it a SIGHUP: it does not control the process here."""
    terminal = Terminal(str(tmp_path / "note"))
    try:
        terminal.read(b"served")
        os.close(terminal.fd)
        terminal.fd = os.open(os.devnull, os.O_RDONLY)
        assert terminal.process.wait(timeout=240) == 130
    finally:
        terminal.close()


def test_what_is_typed_before_the_first_picture_does_nothing(tmp_path: Path) -> None:
    """Keys typed blind would leave here at once: q, y."""
    terminal = Terminal(str(tmp_path / "note"))
    try:
        os.write(terminal.fd, b"qy\x1b[200~qy\x1b[201~qy")
        terminal.read(b"served")
        os.write(terminal.fd, b"?")  # the first one that counts
        terminal.read(b"all keys")
        assert terminal.process.poll() is None
        os.write(terminal.fd, b"\x03")
        assert terminal.end() == 130
    finally:
        terminal.close()
