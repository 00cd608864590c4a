"""What goes wrong and is mended while a backend serves, one line each: for ``/rvtop/cluster``, which whoever
drives the load reads each second, and for the log."""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import Any

from backends.errors.text import visible

log = logging.getLogger("backends.notices")

#: Lines kept. A reader that asks once a second misses none.
KEPT = 100
_LIMIT = 400
_LEVELS = {"info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}


class Notices:
    """The newest lines, oldest first. ``number`` grows by one with each, so that a reader knows which
    it has."""

    def __init__(self) -> None:
        self._kept: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._number = 0

    def say(self, text: str, level: str = "info") -> None:
        """``level`` is info, warn or error."""
        self._number += 1
        line = visible(" ".join(text.split()), _LIMIT)
        self._kept.append({"number": self._number, "unix_s": time.time(), "level": level, "text": line})
        log.log(_LEVELS[level], "%s", line)

    def rows(self) -> list[dict[str, Any]]:
        """As JSON says them: number, unix_s, level, text."""
        return list(self._kept)


#: Those of this process: a backend serves one topology.
NOTICES = Notices()
