"""The process of a load worker: the session is at the other end of stdin and stdout.

Nothing else shares its loop, so that nothing else can move a timestamp. When stdin ends, the session is
gone and so is the worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import uvloop

from rvtop.errors import UserError
from rvtop.ipc import stdio
from rvtop.ipc.frames import Unpacker, pack
from rvtop.ipc.leave import leave
from rvtop.load.plan.arrivals import Kind
from rvtop.load.plan.prompts import Prompts
from rvtop.load.plan.schedule import PhasePlan, PlanEvent, Schedule
from rvtop.load.rpc.at import endpoint_at
from rvtop.load.wire.endpoint import Endpoint
from rvtop.load.worker.messages import AddPhase, AddPrompts, AddTarget, Failed, Ready, WorkerSpec
from rvtop.load.worker.worker import Worker
from rvtop.system.startup import collect_seldom


def raise_file_limit() -> int:
    """Lets this process open as many sockets as the hard limit allows; returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return soft


class _Inbox:
    """Messages on stdin, read without waiting: when some have come, and before the worker sends if the last
    look is long ago. A command is in the pipe well before its time, so nothing is sent that it had changed,
    however busy the loop is."""

    def __init__(self, take: Callable[[object], None]) -> None:
        self._fd = sys.stdin.fileno()
        self._take = take
        self._unpacker = Unpacker()
        self.news = asyncio.Event()
        self.ended = asyncio.Event()
        self._watch: Callable[[int, Callable[[], None]], bool] | None = None
        os.set_blocking(self._fd, False)
        self.read()
        if not self.ended.is_set():
            asyncio.get_running_loop().add_reader(self._fd, self.read)

    def read(self) -> None:
        """Hands on what has come; notes the end."""
        try:
            while not self.ended.is_set():
                data = os.read(self._fd, 1 << 16)
                for message in self._unpacker.feed(data):
                    self._take(message)
                self.news.set()
                if not data:
                    self.end()
        except BlockingIOError:
            return

    def join(self, worker: Worker) -> None:
        """Lets the worker say when there is something to be read, if it can."""
        if not self.ended.is_set() and worker.watch(self._fd, self.read):
            self._watch = worker.watch
            asyncio.get_running_loop().remove_reader(self._fd)

    def end(self) -> None:
        """Reads no more."""
        if not self.ended.is_set():
            self.ended.set()
            asyncio.get_running_loop().remove_reader(self._fd)
            if self._watch is not None:
                self._watch(-1, self.read)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    writer = await stdio.frames_out()
    specs: list[WorkerSpec] = []
    worker: Worker | None = None
    tasks: set[asyncio.Task[None]] = set()

    def take(message: object) -> None:
        if isinstance(message, WorkerSpec):
            specs.append(message)
        elif worker is not None:
            work = _hand_on(message, worker, specs[0])
            if work is not None:
                tasks.add(task := loop.create_task(work))
                task.add_done_callback(tasks.discard)

    inbox = _Inbox(take)
    try:
        while not specs and not inbox.ended.is_set():
            await inbox.news.wait()
            inbox.news.clear()
        worker = await _start(specs[0], writer, inbox) if specs else None
        if worker is not None:
            await inbox.ended.wait()
    finally:
        for task in tasks:
            task.cancel()
        if worker is not None:
            worker.close()
        inbox.end()
        await stdio.close(writer)


def _hand_on(message: object, worker: Worker, spec: WorkerSpec) -> Coroutine[Any, Any, None] | None:
    """Hands a message of the session to the worker; returns what is to be done for it meanwhile."""
    if isinstance(message, PlanEvent):
        worker.command(message)
    elif isinstance(message, AddPhase):
        worker.add_phase(message.phase)
    elif isinstance(message, AddTarget):
        first = spec.address
        ca, cert, key = first.ca_file, first.cert_file, first.key_file
        target = endpoint_at(replace(message.address, ca_file=ca, cert_file=cert, key_file=key))
        worker.add_target(target, message.models, message.shares)
        return _resolve(target)
    elif isinstance(message, AddPrompts):
        worker.add_prompts(message.path, message.data)
        return _read_prompts(worker)
    return None


async def _resolve(target: Endpoint) -> None:
    with contextlib.suppress(OSError, UserError):  # the requests that go there will say so
        await target.resolve()


async def _read_prompts(worker: Worker) -> None:
    while not worker.read_prompts():
        await asyncio.sleep(0)


async def _start(spec: WorkerSpec, writer: asyncio.WriteTransport, inbox: _Inbox) -> Worker | None:
    write = writer.write
    raise_file_limit()
    try:
        prompts = Prompts(Path(spec.prompts), spec.models, spec.body, spec.extra, api=spec.api)
        target = endpoint_at(spec.address)
        await target.resolve()
        second = None if spec.pair is None else endpoint_at(spec.pair.address)
        if second is not None:
            await second.resolve()
    except (UserError, ValueError, OSError) as error:
        text = f"dns: {spec.address.url}: {error}" if isinstance(error, socket.gaierror) else str(error)
        write(pack(Failed(spec.index, text)))
        return None
    _rehearse()
    gc.collect()
    gc.freeze()
    collect_seldom()  # the load makes no cycles worth a pause in the middle of a read
    write(pack(Ready(spec.index, os.getpid())))
    worker = Worker(
        spec,
        prompts,
        target,
        lambda delta: write(pack(delta)),
        inbox.end,
        inbox.read,
        lambda: not writer.get_write_buffer_size(),
        second=second,
    )
    inbox.join(worker)
    return worker


def _rehearse() -> None:
    """Plans a second of load of each kind. What NumPy does for the first time (make a generator, choose a
    function's inner loop) takes 6 ms together, which would make the first request of the run late."""
    for arrivals in get_args(Kind):
        schedule = Schedule((PhasePlan("", 1.0, 2.0, 1.0, arrivals=arrivals),), 0, 0, 1)
        schedule.apply(PlanEvent(0, "phase", 0))
        schedule.apply(PlanEvent(0, "rate", 5.0))
        schedule.due(1_000_000_000)


def main() -> None:
    """The process's entry point."""
    faulthandler.enable()  # stderr is the run's session.log
    # Ctrl-C in the terminal reaches the whole process group: the session decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    uvloop.run(_serve())
    leave(0)
