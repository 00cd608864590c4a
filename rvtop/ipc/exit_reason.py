"""Why a process of ours ended, in words: its exit code and the last line of what it wrote to stderr."""

from __future__ import annotations

import os
import signal

from rvtop.text import log_line

_TAIL = 8192
_LIMIT = 300


def exit_reason(code: int) -> str:
    """``exit code 1``, or ``killed by SIGKILL`` for the code -9 that asyncio and subprocess give."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def last_line(file: int, since: int = 0) -> str:
    """The last line that is not empty of an open file, behind byte ``since``; "" if there is none."""
    try:
        size = os.fstat(file).st_size
        start = max(since, size - _TAIL)
        text = os.pread(file, max(0, size - start), start).decode("utf-8", "replace")
    except OSError:
        return ""
    lines = (line.strip() for line in reversed(text.splitlines()))
    return log_line(next((line for line in lines if line), ""), _LIMIT)
