"""Load workers on the nodes of a Ray cluster."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Callable
from typing import IO

from rvtop.ipc import child
from rvtop.ipc.exit_reason import last_line
from rvtop.ipc.frames import Unpacker, pack
from rvtop.load.fleet.local import PoolError, all_ready
from rvtop.load.fleet.ray.clock import NodeClock, from_node
from rvtop.load.fleet.ray.messages import Begin, Ended, Measured, Output, Placed, Refused
from rvtop.load.worker.messages import Delta, Failed, Ready, WorkerSpec

#: A node may have to fetch our package and start Ray's worker and ours, on few and busy cores.
_START_LIMIT_S = 120.0
_STOP_LIMIT_S = 10.0
_BUFFER = 1 << 22


class RayPool:
    """``spec.count`` workers spread over the nodes of the cluster at ``address`` (``HOST:PORT``; None:
    ``RAY_ADDRESS``, else the cluster of this machine). To its user it is a
    :class:`~rvtop.load.fleet.local.WorkerPool`: the same plan in, the same deltas out, all times on this
    machine's clock. Ray itself lives in a process of its own (:mod:`rvtop.load.fleet.ray.bridge`), whose
    stderr is added to the open file ``log`` at its end."""

    def __init__(
        self,
        spec: WorkerSpec,
        on_delta: Callable[[Delta], None],
        on_lost: Callable[[int, str], None],
        address: str | None = None,
        log: int | None = None,
    ) -> None:
        self._spec = spec
        self._on_delta = on_delta
        self._on_lost = on_lost
        self._address = address
        self._log = log
        self._bridge: asyncio.subprocess.Process | None = None
        self._stderr: IO[bytes] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._ready: list[asyncio.Future[None]] = []
        self._unpackers = [Unpacker() for _ in range(spec.count)]
        self._homes: dict[int, NodeClock] = {}  # as it was when the worker was placed
        self._newest: dict[str, NodeClock] = {}
        self._over: set[int] = set()
        self._refusal: str | None = None
        self._stopping = False
        self.lost: set[int] = set()

    @property
    def count(self) -> int:
        """Workers, the lost ones included."""
        return self._spec.count

    @property
    def clocks(self) -> list[NodeClock]:
        """The clocks of the nodes that carry workers, as measured last."""
        return list(self._newest.values())

    async def start(self) -> None:
        """Starts the workers and waits until all stand by. Raises PoolError."""
        loop = asyncio.get_running_loop()
        self._ready = [loop.create_future() for _ in range(self._spec.count)]
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in stop
        try:
            self._bridge = await self._start_bridge()
            self._reader = asyncio.create_task(self._read(self._bridge))
            self.send(Begin(self._spec, self._address))
            await all_ready(self._ready, _START_LIMIT_S, "the load workers on Ray")
        except BaseException:
            await self.stop()
            raise

    async def _start_bridge(self) -> asyncio.subprocess.Process:
        command = child.module_command("rvtop.load.fleet.ray.bridge")
        try:
            return await child.start(*command, stderr=self._stderr, limit=_BUFFER)
        except OSError as error:
            raise PoolError(f"the bridge to Ray can't be started: {error.strerror}", 5) from error

    def send(self, message: object) -> None:
        """Hands a message to every worker."""
        if self._bridge is not None:
            child.write(self._bridge, pack(message))

    async def stop(self) -> None:
        """Ends the workers, by force if need be; what they report until then is read."""
        self._stopping = True
        if self._bridge is None or self._reader is None:
            return
        child.close_stdin(self._bridge)
        try:
            await asyncio.wait([self._reader], timeout=_STOP_LIMIT_S)
        finally:  # also when the waiting is cancelled
            self.kill()
        await self._bridge.wait()
        for future in self._ready:
            future.cancel()  # their results will not come any more
        await asyncio.gather(self._reader, *self._ready, return_exceptions=True)
        if self._stderr is not None:
            if self._log is not None:
                self._stderr.seek(0)
                with contextlib.suppress(OSError):  # the disk is full
                    os.write(self._log, self._stderr.read())
            self._stderr.close()
            self._stderr = None

    def kill(self) -> None:
        """Ends the workers by force: Ray ends a driver's actors with it."""
        if self._bridge is not None:
            child.kill(self._bridge)

    async def drain(self) -> None:
        """Waits until every worker has ended by itself, after ``stop`` went out; at most some seconds."""
        self._stopping = True
        if self._reader is not None:
            await asyncio.wait([self._reader], timeout=_STOP_LIMIT_S)
        await self.stop()

    async def _read(self, bridge: asyncio.subprocess.Process) -> None:
        assert bridge.stdout is not None
        unpacker = Unpacker()
        while data := await bridge.stdout.read(1 << 18):
            for message in unpacker.feed(data):
                self._take(message)
        code = await bridge.wait()
        for index in range(self._spec.count):
            self._lose(
                index, self._refusal or f"the bridge to Ray ended with exit code {code}: {self._log_tail()}"
            )

    def _take(self, message: object) -> None:
        if isinstance(message, Output):
            for frame in self._unpackers[message.worker].feed(message.data):
                self._take_frame(message.worker, frame)
        elif isinstance(message, Placed):
            self._homes[message.worker] = message.clock
            self._newest.setdefault(message.clock.node_id, message.clock)
        elif isinstance(message, Measured):
            self._newest[message.clock.node_id] = message.clock
        elif isinstance(message, Ended):
            self._lose(message.worker, message.why)
        elif isinstance(message, Refused):
            self._refusal = message.text

    def _take_frame(self, index: int, frame: object) -> None:
        if isinstance(frame, Delta):
            self._on_delta(from_node(frame, self._homes[index].offset_ns))
        elif self._ready[index].done():
            return
        elif isinstance(frame, Ready):
            self._ready[index].set_result(None)
        elif isinstance(frame, Failed):
            self._ready[index].set_exception(PoolError(f"node {self._homes[index].address}: {frame.text}"))

    def _lose(self, index: int, why: str) -> None:
        if index in self._over:
            return
        self._over.add(index)
        if not self._ready[index].done():
            self._ready[index].set_exception(PoolError(self._refusal or f"load worker {index}: {why}"))
        elif not self._stopping:
            self.lost.add(index)
            self._on_lost(index, why)

    def _log_tail(self) -> str:
        """The last line that the bridge wrote to stderr."""
        return "" if self._stderr is None else last_line(self._stderr.fileno())
