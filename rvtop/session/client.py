"""A Session in a process of its own, and the handle by which the dashboard holds it.

The screen redraws in one process, the session folds and writes in another: a slow frame can delay
neither a command on its way to the workers nor a line on its way to the disk. When the dashboard
dies, in whatever way, the session sees its stdin end, writes its results and ends what it started.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import IO

from rvtop.contract.codec import CodecError
from rvtop.contract.command import Command, Stop
from rvtop.contract.messages import CODEC
from rvtop.contract.run_files import SESSION_LOG
from rvtop.contract.snapshot import Snapshot, StartStep, Target
from rvtop.contract.stream import SnapshotReader
from rvtop.errors import UserError
from rvtop.ipc import child
from rvtop.ipc.exit_reason import exit_reason, last_line
from rvtop.ipc.lines import LineSplitter, LineTooLong
from rvtop.results.ending import End
from rvtop.session.messages import LONGEST, UP, request_lines
from rvtop.session.request import Outcome, SessionRequest
from rvtop.text import printable_names

_CLOSE_LIMIT_S = 60.0


class RemoteSession:
    """The dashboard's end: a ``rvtop.contract.handle.SessionHandle``."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._snapshot: Snapshot | None = None
        self._stream = SnapshotReader()
        self._out = Path()
        self._early: IO[bytes] | None = None
        self.outcome: Outcome | None = None
        self.request: SessionRequest | None = None  # what was asked for

    async def start(self, request: SessionRequest) -> RemoteSession:
        """Starts the process and returns at once; what goes wrong inside it shows in the snapshots."""
        self._out, self.request = request.out, request
        # Its stderr before there is a run folder; then it goes to the folder's session.log.
        self._early = tempfile.TemporaryFile()  # noqa: SIM115 - closed as the process has ended
        self._process = await child.start(*child.module_command("rvtop.session"), stderr=self._early)
        child.write(self._process, request_lines(request))
        self._snapshot = _first(request)
        self._reader = asyncio.create_task(self._read())
        return self

    def snapshot(self) -> Snapshot | None:
        """The newest picture."""
        return self._snapshot

    def send(self, command: Command) -> None:
        """Hands a command over."""
        self._write(command)

    async def close(self) -> None:
        """Ends the session; its results are written and its backend is gone when this returns."""
        if self._process is None:
            return
        if self._process.returncode is None:
            self._write(Stop("quit"))
            child.close_stdin(self._process)
            try:
                await asyncio.wait_for(self._process.wait(), _CLOSE_LIMIT_S)
            except TimeoutError:
                child.kill(self._process)
        if self._reader is not None:
            await self._reader

    def _write(self, command: Command) -> None:
        assert self._process is not None
        child.write(self._process, CODEC.encode(command))

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        lines, problem = LineSplitter(LONGEST), ""
        while data := await self._process.stdout.read(1 << 18):
            try:
                for line in lines.feed(data):
                    self._take(UP.decode(line))
            except (CodecError, LineTooLong) as error:  # what comes behind it can't be trusted either
                problem = f"it sent what is no message: {error}"
                child.kill(self._process)
                break
        code = await self._process.wait()
        if self.outcome is None:
            self.outcome = await self._crashed(problem or exit_reason(code))
            if self._snapshot is not None:
                last = self._snapshot
                self._snapshot = replace(
                    last, seq=last.seq + 1, state="crashed", message=self.outcome.message
                )
        if self._early is not None:
            self._early.close()
            self._early = None

    def _take(self, message: object) -> None:
        if isinstance(message, Outcome):
            self.outcome = message
        else:
            self._snapshot = self._stream.take(message) or self._snapshot

    async def _crashed(self, why: str) -> Outcome:
        """The outcome of a session whose process ended without one; what it has measured is summed up."""
        from rvtop.results.sum_up import sum_up  # NumPy: not for the first frame

        text = f"the session crashed ({why})"
        log = self._out / SESSION_LOG
        last = ""
        with contextlib.suppress(OSError), log.open("rb") as file:
            last = last_line(file.fileno())
            text += f": see {log}"
        if not last and self._early is not None:
            last = last_line(self._early.fileno())
        text += f": {last}" if last else ""
        try:
            summary, _ = await sum_up(self._out, End("client_failed", text=text))
        except UserError:  # the load had not begun
            return Outcome(5, text)
        return Outcome(5, text, summary)


def _first(request: SessionRequest) -> Snapshot:
    """What can be shown before the first snapshot: the process takes a second to import what it needs."""
    backend = request.backend
    return Snapshot(
        seq=-1,
        t_s=0.0,
        unix_s=time.time(),
        state="starting",
        name="",
        target=Target(
            url=request.url or "",
            topology=backend.topology if backend else None,
            models=printable_names(request.models),
            owned=backend is not None,
        ),
        steps=(StartStep("session", "run", 0.0),),
    )
