"""The lease: a backend that a session owns lives only as long as the session says so on its stdin."""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Callable

log = logging.getLogger("backends.process.lease")

LAPSE_S = 10.0
# When the event loop does not manage to stop within this time after the lease ended, the process just ends.
LAST_RESORT_S = 20.0


class StdinLease:
    """Watches a file descriptor in a thread of its own, so that a busy event loop cannot miss the end.

    ``on_end`` is called once, in that thread, with the reason: the parent closed the pipe (or died), or sent
    no line for ``lapse_s`` seconds.
    """

    def __init__(self, fd: int, on_end: Callable[[str], None], lapse_s: float = LAPSE_S) -> None:
        self._fd = fd
        self._on_end = on_end
        self._lapse_s = lapse_s
        self._thread = threading.Thread(target=self._watch, name="lease", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _watch(self) -> None:
        while True:
            ready, _, _ = select.select([self._fd], [], [], self._lapse_s)
            if not ready:
                return self._on_end(f"the lease lapsed: no line on stdin for {self._lapse_s:g} s")
            try:
                data = os.read(self._fd, 4096)
            except OSError as error:
                return self._on_end(f"the lease is unreadable: {error}")
            if not data:
                return self._on_end("the lease ended: the parent closed stdin or died")
