"""What a backend tells the process that started it: one JSON object per line on stdout."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from backends.errors import StartFailure, missing_package

log = logging.getLogger("backends.process.events")


class Events:
    """Writes events to a file descriptor. Lines from several threads never mix; a reader that is gone is no
    reason to fail."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()

    @classmethod
    def on_stdout(cls) -> Events:
        """Takes stdout for itself: whatever else prints goes to stderr from now on, also from C++."""
        fd = os.dup(1)
        os.set_inheritable(fd, False)
        os.dup2(2, 1)
        return cls(fd)

    @property
    def fd(self) -> int:
        """Where they are written to."""
        return self._fd

    def emit(self, event: str, **fields: Any) -> None:
        self.write((json.dumps({"event": event, **fields}, ensure_ascii=False) + "\n").encode())

    def failed(self, error: StartFailure | ModuleNotFoundError) -> int:
        """Tells, and logs, what could not be started; the exit code."""
        if isinstance(error, StartFailure):
            log.error("%s", error)
            self.emit("error", kind=error.kind, message=str(error))
            return error.exit_code
        log.error("failed to start", exc_info=error)
        self.emit("error", kind=StartFailure.kind, message=missing_package(error))
        return StartFailure.exit_code

    def write(self, line: bytes) -> None:
        """The same, of an event that is a line already."""
        with self._lock:
            try:
                os.write(self._fd, line)
            except OSError as error:
                log.debug("the reader of the events is gone: %s", error)


class StartStep:
    """A step that runs. ``detail`` is one short line, shown beside it."""

    def __init__(self, emit: Callable[..., None], name: str) -> None:
        self._emit = emit
        self._name = name
        self._began = time.monotonic()
        self._detail = ""

    def detail(self, text: str) -> None:
        if text != self._detail:
            self._detail = text
            self.report("run")

    def progress(self, label: str, done: float) -> None:
        """``done`` 0..1; reported in whole percent."""
        self.detail(f"{label} {done:.0%}")

    def report(self, state: str) -> None:
        elapsed = round(time.monotonic() - self._began, 3)
        self._emit("step", name=self._name, state=state, elapsed_s=elapsed, detail=self._detail)


class Steps:
    """The steps of a start, as events."""

    def __init__(self, emit: Callable[..., None]) -> None:
        self._emit = emit

    @contextmanager
    def step(self, name: str, detail: str = "") -> Iterator[StartStep]:
        """``run`` now, then ``done``, or ``fail`` when the body raises."""
        step = StartStep(self._emit, name)
        step._detail = detail
        step.report("run")
        try:
            yield step
        except BaseException:
            step.report("fail")
            raise
        step.report("done")
