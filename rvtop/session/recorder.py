"""The run folder's files while a session runs."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

from rvtop.results.runlog import RunFolderError, RunLog


class Recorder:
    """Writes to a :class:`RunLog`, once there is one. ``on_failure`` is called with one line by the first
    write that fails: a run that can't be recorded has no point in going on."""

    def __init__(self, on_failure: Callable[[str], None]) -> None:
        self._on_failure = on_failure
        self._log: RunLog | None = None
        self._t0_ns = 0

    def open(self, log: RunLog, t0_ns: int) -> None:
        """From now on everything goes to ``log``, of a run that began at ``t0_ns`` (perf_counter)."""
        self._log = log
        self._t0_ns = t0_ns

    def write(self, write: Callable[[RunLog], None]) -> None:
        """Lets ``write`` write."""
        try:
            if self._log is not None:
                write(self._log)
        except RunFolderError as error:
            self._on_failure(str(error))

    def note(self, fields: dict[str, Any]) -> None:
        """Appends a line to the command log, dated now, that no worker follows."""
        at_ns = perf_counter_ns() - self._t0_ns
        self.write(lambda log: log.command({"at_ns": at_ns, **fields}))

    def ended(self, fields: dict[str, Any]) -> None:
        """Appends the command log's last line, dated now."""
        at_ns = perf_counter_ns() - self._t0_ns
        self.write(lambda log: log.ended({"at_ns": at_ns, **fields}))

    def close(self) -> None:
        """Closes the files."""
        if self._log is not None:
            self._log.close()
