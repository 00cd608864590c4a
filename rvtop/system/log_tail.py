"""The end of a log file, safe to show."""

from __future__ import annotations

import os
from pathlib import Path

from rvtop.text import log_line

_TAIL_BYTES = 1 << 20
#: A longer line of a log is cut where it is shown.
LINE_LIMIT = 4000


def last_lines(path: Path, lines: int) -> list[str]:
    """At most ``lines`` lines from the end of a file (of its last MiB); none if it can't be read."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            start = max(0, size - _TAIL_BYTES)
            file.seek(start)
            text = file.read()
    except OSError:
        return []
    found = text.decode("utf-8", "replace").splitlines()
    if start:
        del found[:1]  # cut somewhere in its middle
    return [log_line(line, LINE_LIMIT) for line in found[-lines:]] if lines > 0 else []
