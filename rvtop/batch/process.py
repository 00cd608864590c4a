"""A process that computes rows: started, read line by line, and ended with us."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rvtop.ipc import child
from rvtop.ipc.exit_reason import exit_reason
from rvtop.ipc.lines import LineSplitter, LineTooLong
from rvtop.system.log_tail import last_lines

_CHUNK = 1 << 16
#: A row of 100 000 tokens has less.
_LONGEST = 1 << 24

OnEvent = Callable[[Mapping[str, Any]], None]


class EngineProcess:
    """``command`` with a lease on its stdin: while we write to it, it lives; when we are gone, however we
    went, it takes itself and its engines down."""

    def __init__(self, command: Sequence[str], log: Path, on_event: OnEvent) -> None:
        self._command, self._log, self._on_event = command, log, on_event
        self._process: asyncio.subprocess.Process | None = None
        self.error: Mapping[str, Any] = {}  # its ``error`` event
        self.done = False  # whether it said that it had done all

    async def run(self) -> int:
        """Runs it to its end, every event told; its exit code. Cancelled, it ends the process."""
        with child.open_log(self._log) as log:
            self._process = await child.start(*self._command, "--lease", stderr=log)
        renewing = asyncio.create_task(child.renew_lease(self._process))
        try:
            await self._read(self._process)
            return await self._process.wait()
        finally:
            renewing.cancel()
            await child.end(self._process)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def kill(self) -> None:
        """Ends it by force, with all in its process group."""
        if self._process is not None and self._process.returncode is None:
            child.kill_group(self._process)

    def why(self, code: int) -> str:
        """Why it ended, in one line."""
        if message := self.error.get("message"):
            return str(message)
        tail = next((line for line in reversed(last_lines(self._log, 5)) if line.strip()), "")
        return f"{exit_reason(code)}: {tail}" if tail else exit_reason(code)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        lines = LineSplitter(_LONGEST)
        while data := await process.stdout.read(_CHUNK):
            try:
                found = lines.feed(data)
            except LineTooLong:
                self.kill()
                return
            for line in found:
                self._take(line)

    def _take(self, line: bytes) -> None:
        event = child.event_of(line)
        if event is None:
            return
        if event.get("event") == "error":
            self.error = event
        elif event.get("event") == "done":
            self.done = True
        else:
            self._on_event(event)
