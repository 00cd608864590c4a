"""Load workers as processes of their own on this machine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import replace

from rvtop.errors import UserError
from rvtop.ipc import child
from rvtop.ipc.exit_reason import exit_reason, last_line
from rvtop.ipc.frames import Unpacker, pack
from rvtop.load.fleet.workers import WORKER_ENV
from rvtop.load.worker.messages import Delta, Failed, Message, Ready, WorkerSpec

_START_LIMIT_S = 30.0
_STOP_LIMIT_S = 5.0


class PoolError(UserError):
    """The workers could not start."""


async def all_ready(futures: Sequence[asyncio.Future[None]], limit_s: float, who: str) -> None:
    """Waits until every worker stands by. Raises PoolError as the first one failed, or after ``limit_s``."""
    # Not gather: cancelled, it says so of every worker that ends after it.
    ready, missing = await asyncio.wait(futures, timeout=limit_s, return_when=asyncio.FIRST_EXCEPTION)
    for future in ready:
        future.result()
    if missing:
        raise PoolError(f"{who} were not ready within {limit_s:g} s", 5)


class WorkerPool:
    """``spec.count`` worker processes. ``on_delta`` gets their deltas, ``on_lost`` the index of a worker
    that ended unasked, and why. ``log``: an open file for their stderr; None: ours."""

    def __init__(
        self,
        spec: WorkerSpec,
        on_delta: Callable[[Delta], None],
        on_lost: Callable[[int, str], None],
        log: int | None = None,
    ) -> None:
        self._spec = spec
        self._on_delta = on_delta
        self._on_lost = on_lost
        self._log = log
        self._processes: list[asyncio.subprocess.Process] = []
        self._readers: list[asyncio.Task[None]] = []
        self._ready: list[asyncio.Future[None]] = []
        self._stopping = False
        self._history: list[object] = []  # everything since the start, for workers that join later
        self.lost: set[int] = set()

    @property
    def count(self) -> int:
        """Workers that were started, the lost ones included."""
        return len(self._ready)

    async def start(self) -> None:
        """Starts the workers and waits until all stand by. Raises PoolError."""
        try:
            for _ in range(self._spec.count):
                await self._start_one()
            await all_ready(self._ready, _START_LIMIT_S, "the load workers")
        except BaseException:
            await self.stop()
            raise

    async def _start_one(self) -> int:
        before = 0 if self._log is None else os.fstat(self._log).st_size
        try:
            process = await child.start(
                *child.module_command("rvtop.load.worker"),
                stderr=self._log,
                env={**WORKER_ENV, **os.environ},
            )
        except OSError as error:
            raise PoolError(
                f"load worker {len(self._processes)} can't be started: {error.strerror}", 5
            ) from error
        index = len(self._processes)
        self._processes.append(process)
        self._ready.append(asyncio.get_running_loop().create_future())
        self._readers.append(asyncio.create_task(self._read(index, process, before)))
        self._write(index, replace(self._spec, index=index))
        return index

    def send(self, message: Message) -> None:
        """Hands a message to every worker, those to come included."""
        self._history.append(message)
        for index in range(len(self._processes)):
            if index not in self.lost and self._ready[index].done():
                self._write(index, message)

    async def add(self) -> int:
        """Starts one more worker and waits until it stands by and knows all that the others know; returns
        how many there are now. It sends nothing before a ``workers`` entry says so. Raises PoolError."""
        index = await self._start_one()
        try:
            await asyncio.wait_for(asyncio.shield(self._ready[index]), _START_LIMIT_S)
        except TimeoutError:
            child.kill(self._processes[index])
            self.lost.add(index)
            raise PoolError(f"load worker {index} was not ready within {_START_LIMIT_S:g} s", 5) from None
        return self.count

    async def stop(self) -> None:
        """Ends the workers, by force if need be; what they report until then is read."""
        self._stopping = True
        for future in self._ready:
            future.cancel()  # those that are not waited for any more
        for process in self._processes:
            child.close_stdin(process)
        try:
            if self._readers:
                await asyncio.wait(self._readers, timeout=_STOP_LIMIT_S)
        finally:  # also when the waiting is cancelled
            self.kill()
        for process in self._processes:
            await process.wait()
        await asyncio.gather(*self._readers, *self._ready, return_exceptions=True)

    async def drain(self) -> None:
        """Waits until every worker has ended by itself, after ``stop`` went out; at most a few seconds."""
        self._stopping = True
        if self._readers:
            await asyncio.wait(self._readers, timeout=_STOP_LIMIT_S)
        await self.stop()

    def kill(self) -> None:
        """Ends the workers by force, for a user who does not want to wait. :meth:`drain` and :meth:`stop`
        then return soon, with all that was reported until now."""
        for process in self._processes:
            child.kill(process)

    def _write(self, index: int, message: object) -> None:
        child.write(self._processes[index], pack(message))

    async def _read(self, index: int, process: asyncio.subprocess.Process, before: int) -> None:
        """``before``: bytes that were in the log as the process began."""
        assert process.stdout is not None
        unpacker = Unpacker()
        broken = ""
        try:
            while data := await process.stdout.read(1 << 18):
                for message in unpacker.feed(data):
                    self._take(index, message)
        except Exception as error:  # noqa: BLE001  # no frame of ours: nothing that comes after it can be read
            broken = f"sent what can't be read: {type(error).__name__}: {error}"
            child.kill(process)
        why = self._exit_reason(await process.wait(), before)
        why = broken or why
        if not self._ready[index].done():
            self._ready[index].set_exception(PoolError(f"load worker {index} did not start: {why}", 5))
        elif not self._stopping:
            self.lost.add(index)
            self._on_lost(index, why)

    def _exit_reason(self, code: int, before: int) -> str:
        """Why a worker ended, with the last line that came to the log since byte ``before``. Killed, it has
        written none."""
        last = last_line(self._log, before) if self._log is not None and code > 0 else ""
        return f"{exit_reason(code)}: {last}" if last else exit_reason(code)

    def _take(self, index: int, message: object) -> None:
        if isinstance(message, Delta):
            self._on_delta(message)
        elif self._ready[index].done():
            return
        elif isinstance(message, Ready):
            for entry in self._history:  # before its future is done: what comes later is sent on as it comes
                self._write(index, entry)
            self._ready[index].set_result(None)
        elif isinstance(message, Failed):
            self._ready[index].set_exception(PoolError(message.text))
