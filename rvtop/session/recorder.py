"""The run folder's files while a session runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from rvtop.contract.messages import CODEC
from rvtop.contract.run_files import EVENTS
from rvtop.contract.snapshot import Event
from rvtop.results.append import AppendFiles, RunFolderError
from rvtop.results.runlog import RunLog


class Recorder:
    """Writes to a :class:`RunLog`, once there is one. ``on_failure`` is called with one line by the first
    write that fails: a run that can't be recorded has no point in going on."""

    def __init__(self, on_failure: Callable[[str], None]) -> None:
        self._on_failure = on_failure
        self._log: RunLog | None = None
        self._t0_ns = 0
        self._events: AppendFiles | None = None
        self._early: list[Event] = []  # before there was a folder

    def open_events(self, folder: Path) -> None:
        """From now on events go to ``folder``, and first those that came before."""
        self._events = AppendFiles(folder)
        self._put_events(self._early)

    def event(self, event: Event) -> None:
        """Appends an event to ``events.jsonl``."""
        if self._events is None:
            self._early.append(event)
        else:
            self._put_events([event])

    def _put_events(self, events: list[Event]) -> None:
        assert self._events is not None
        try:
            self._events.put(EVENTS, b"".join(map(CODEC.encode, events)))
        except RunFolderError as error:
            self._on_failure(str(error))

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
        """Closes the files: what comes now is not recorded."""
        if self._log is not None:
            self._log.close()
        if self._events is not None:
            self._events.close()
