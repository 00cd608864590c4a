"""The front processes of an RVC engine as its actor sees them: started beside it, and again when they die.

A process that dies leaves requests in the engine, which would generate for nobody: it has told of each of
them, and they are ended there. Its successor takes a place at the engine that nobody had (see
:mod:`backends.engines.vllm_clients`); when all are used up, the engine is to be replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from backends.cluster.vllm_front import FrontSpec
from backends.engines.vllm_clients import ClientPlace
from backends.errors import StartFailure

log = logging.getLogger("backends.cluster.vllm_fronts")

COMMAND = (sys.executable, "-P", "-m", "backends.cluster.vllm_front")
# How often front processes of an engine can be replaced before the engine is.
SPARE_PLACES = 4
CLOSE_LIMIT_S = 5.0
# What a process sent in its last moment may reach the engine after we ended what it told of.
LATE_S = 1.0

# Ends requests in the engine, by its ids.
Abort = Callable[[Sequence[str]], Awaitable[None]]


class Front:
    """One process. ``live``: the engine's ids of its requests, by ours; ``gone`` is done when it ended."""

    def __init__(
        self, process: subprocess.Popen[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.process = process
        self.live: dict[str, str] = {}
        self.up: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.up.add_done_callback(lambda up: up.cancelled() or up.exception())  # looked at, if by nobody else
        self.idle = asyncio.Event()
        self.gone = asyncio.create_task(self._listen(reader))
        self._writer = writer

    @property
    def is_up(self) -> bool:
        return self.up.done() and self.up.exception() is None and not self.gone.done()

    def say(self, line: str) -> None:
        self._writer.write(line.encode() + b"\n")

    async def end(self) -> None:
        self.process.kill()
        await asyncio.to_thread(self.process.wait)
        await self.gone
        self._writer.close()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Takes what it says, until its end of the socket closes, which the system does when it dies."""
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                self._take(line.decode().rstrip("\n"))
        if not self.up.done():
            self.up.set_exception(StartFailure("a front process ended before it was up; see the log"))
        self.idle.set()

    def _take(self, line: str) -> None:
        kind, _, rest = line.partition(" ")
        if kind == "+":
            ours, _, engines = rest.partition(" ")
            self.live[ours] = engines
        elif kind == "-":
            self.live.pop(rest, None)
        elif kind == "idle":
            self.idle.set()
        elif kind == "up":
            self.up.set_result(int(rest))
        elif kind == "failed" and not self.up.done():
            self.up.set_exception(StartFailure(f"a front process failed: {rest}"))


class Fronts:
    """The ``count`` processes beside the actor. ``spec`` is that of each, save its place and port."""

    def __init__(
        self,
        spec: FrontSpec,
        places: Sequence[ClientPlace],
        count: int,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._spec = spec
        self._places = list(places)
        self._count = count
        self._command = command
        self._fronts: list[Front] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.restarts = 0

    def rows(self) -> list[dict[str, Any]]:
        """What each is and holds now."""
        return [
            {
                "pid": front.process.pid,
                "state": "ready" if front.is_up else "starting",
                "in_flight": len(front.live),
            }
            for front in self._fronts
        ]

    async def begin(self) -> None:
        """Starts the processes, which wait for the engine then."""
        for _ in range(self._count):
            self._fronts.append(await self._launch(0))

    async def up(self) -> tuple[tuple[str, int], ...]:
        """Where they answer, once all do. Raises StartFailure."""
        ports = await asyncio.gather(*(front.up for front in self._fronts))
        return tuple((self._spec.host, port) for port in ports)

    def watch(self, abort: Abort) -> None:
        """From now on a process that dies is replaced, on its port, and what it left in the engine is
        ended."""
        self._tasks = [asyncio.create_task(self._replace(number, abort)) for number in range(self._count)]

    async def failed(self) -> str:
        """Returns when a process died and cannot be replaced, with the reason in one line."""
        return await asyncio.shield(self._failed)

    def lost(self) -> None:
        """The engine died: their readers are told."""
        for front in self._fronts:
            front.say("lost")

    async def drain(self, grace_s: float) -> None:
        """Lets what runs end, for at most ``grace_s`` seconds."""
        self._stop_watching()
        for front in self._fronts:
            front.say(f"drain {grace_s:g}")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s + CLOSE_LIMIT_S):
                await asyncio.gather(*(front.idle.wait() for front in self._fronts))

    async def close(self) -> None:
        """Ends them."""
        self._stop_watching()
        await asyncio.gather(*(front.end() for front in self._fronts))

    # -- inside ------------------------------------------------------------------------------------------

    def _stop_watching(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _replace(self, number: int, abort: Abort) -> None:
        port = self._fronts[number].up.result()
        while True:
            front = self._fronts[number]
            await asyncio.wait([front.gone])
            await front.end()
            left = list(front.live.values())
            log.error("front process %d of %s ended", front.process.pid, self._spec.spec.engine)
            await abort(left)
            await asyncio.sleep(LATE_S)
            await abort(left)
            if not self._places:
                if not self._failed.done():
                    self._failed.set_result("its front processes ended too often")
                return
            self.restarts += 1
            self._fronts[number] = await self._launch(port)

    async def _launch(self, port: int) -> Front:
        spec = replace(self._spec, place=self._places.pop(0), port=port)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        process = await asyncio.to_thread(_started, self._command, theirs, pickle.dumps(spec))
        return Front(process, *await asyncio.open_connection(sock=ours))


def _started(command: Sequence[str], control: socket.socket, spec: bytes) -> subprocess.Popen[bytes]:
    """A process with its end of the socket, which is closed here, and ``spec`` on its stdin."""
    with control:
        process = subprocess.Popen(
            [*command, str(control.fileno())],
            stdin=subprocess.PIPE,
            pass_fds=(control.fileno(),),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
    assert process.stdin is not None
    with contextlib.suppress(OSError), process.stdin as pipe:  # one that is gone shows in its socket
        pipe.write(spec)
    return process
