"""Joins a session to load workers on the nodes of a Ray cluster.

It runs alone in its process (``python -P -m rvtop.load.fleet.ray.bridge``), with the session's
:class:`~rvtop.load.fleet.ray.pool.RayPool` at the other end of stdin and stdout: Ray's threads stay out of
the session. It connects as a driver, places one :class:`~rvtop.load.fleet.ray.actor.LoadActor` per worker,
measures the nodes' clocks, carries frames both ways, and ends with its stdin; its actors, being a driver's,
follow.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from dataclasses import replace
from pathlib import Path
from time import perf_counter_ns
from typing import Any
from urllib.parse import urlsplit

from rvtop.errors import UserError
from rvtop.ipc import stdio
from rvtop.ipc.frames import Unpacker, pack
from rvtop.load.fleet.ray.actor import LEASE_S, LoadActor, network
from rvtop.load.fleet.ray.clock import Exchange, NodeClock, Offset, offset_of, to_node
from rvtop.load.fleet.ray.cluster import attach, line_of, nodes
from rvtop.load.fleet.ray.messages import Begin, Ended, Measured, Output, Placed, Refused
from rvtop.load.worker.messages import WorkerSpec

_EXCHANGES = 50
_AGAIN_EXCHANGES = 20
_AGAIN_S = 10.0
_RENEW_S = LEASE_S / 5
#: The session is gone: whatever Ray is busy with, it has so long.
_END_LIMIT_S = 5.0
_FILES = ("ca_file", "cert_file", "key_file")


class Bridge:
    """The workers of one session. ``tell`` hands a message to the session."""

    def __init__(self, begin: Begin, tell: Any) -> None:
        self._spec = begin.spec
        self._address = begin.address
        self._tell = tell
        self._actors: list[Any] = []
        self._homes: list[tuple[str, str]] = []  # (node id, address) of each
        self._clocks: dict[str, NodeClock] = {}
        self._queues: list[asyncio.Queue[bytes]] = []
        self._ended: set[int] = set()
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Starts the workers and carries what they say until all have ended. Raises UserError."""
        files = _files(self._spec)
        await asyncio.to_thread(attach, self._address)
        await asyncio.to_thread(self._place)
        await self._greet()
        await self._measure_all()
        try:
            await self._start(files)
            self._tasks.append(asyncio.create_task(self._measure_again()))
            await asyncio.gather(*(self._listen(i) for i in range(len(self._actors))))
        finally:
            for task in self._tasks:
                task.cancel()

    def send(self, message: object) -> None:
        """Hands a message to every worker, its times on that worker's clock."""
        for index, queue in enumerate(self._queues):
            if index not in self._ended:
                queue.put_nowait(pack(to_node(message, self._clock(index).offset_ns)))

    def close(self) -> None:
        """Ends the actors, and leaves the cluster."""
        import ray
        from ray.exceptions import RayError

        for actor in self._actors:
            with contextlib.suppress(RayError, RuntimeError, ValueError):
                ray.kill(actor)
        ray.shutdown()

    # -- the way to the first frame ----------------------------------------------------------

    def _place(self) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        found = nodes()
        if not found:
            raise UserError("the Ray cluster has no living node")
        # It asks for no CPU of Ray's: a cluster that its owner keeps busy must not keep the load waiting.
        declare: Any = ray.remote
        remote = declare(num_cpus=0, max_restarts=0, max_task_retries=0, max_concurrency=8)(LoadActor)
        for index in range(self._spec.count):
            home = found[index % len(found)]
            strategy = NodeAffinitySchedulingStrategy(node_id=home[0], soft=False)
            self._homes.append(home)
            self._actors.append(remote.options(scheduling_strategy=strategy).remote())

    async def _greet(self) -> None:
        here = network()
        host = urlsplit(self._spec.address.url).hostname or ""
        alone = host in ("localhost", "::1") or host.startswith("127.")
        asked = [
            _answer(actor.hello.remote(), home[1])
            for home, actor in zip(self._homes, self._actors, strict=True)
        ]
        for (_, address), said in zip(self._homes, await asyncio.gather(*asked), strict=True):
            if said["missing"]:
                names = ", ".join(said["missing"])
                raise UserError(f"node {address} lacks {names}, which a load worker needs; install it there")
            if said["network"] == here:
                continue
            if alone:
                raise UserError(
                    f"{self._spec.address.url} is this machine alone, node {address} can't reach it; "
                    "give the target by an address that every node reaches"
                )
            if self._spec.address.unix_socket:
                raise UserError(f"{self._spec.address.unix_socket}: node {address} can't reach a unix socket")

    async def _measure_all(self) -> None:
        for (node, address), actor in zip(self._homes, self._actors, strict=True):
            if node not in self._clocks:
                try:
                    offset = await asyncio.to_thread(_measure, actor, _EXCHANGES)
                except Exception as error:
                    raise UserError(_unready(address, error)) from error
                self._clocks[node] = NodeClock(node, address, offset.offset_ns, offset.error_ns)

    async def _start(self, files: dict[str, bytes]) -> None:
        import ray

        key = self._spec.address.key_env
        # Sent in a call, as in the environment of the child: neither Ray's tables nor `ps` show it.
        secrets = {key: os.environ[key]} if key and key in os.environ else {}
        prompts = ray.put(files.pop("prompts"))  # goes to each node once

        async def start(index: int) -> None:
            spec = to_node(replace(self._spec, index=index), self._clock(index).offset_ns)
            begun = self._actors[index].start.remote(pack(spec), prompts, files, secrets)
            await _answer(begun, self._homes[index][1])
            self._tasks.append(asyncio.create_task(self._feed(index)))
            self._tell(Placed(index, self._clock(index)))

        self._queues = [asyncio.Queue() for _ in self._actors]
        await asyncio.gather(*(start(index) for index in range(len(self._actors))))

    # -- while it runs -----------------------------------------------------------------------

    async def _listen(self, index: int) -> None:
        why = "it ended"
        try:
            async for ref in self._actors[index].output.options(num_returns="streaming").remote():
                item = await ref
                if isinstance(item, int):
                    why = f"it ended with exit code {item}"
                else:
                    self._tell(Output(index, item))
        except Exception as error:  # noqa: BLE001 - the actor, its node or the network: that worker is lost
            why = line_of(error)
        self._ended.add(index)
        self._tell(Ended(index, f"node {self._homes[index][1]}: {why}"))

    async def _feed(self, index: int) -> None:
        """Calls are made one after another: Ray keeps no order among those under way."""
        queue = self._queues[index]
        while index not in self._ended:
            data = b""  # a sign of life
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_RENEW_S):
                    data = await queue.get()
            while not queue.empty():
                data += queue.get_nowait()
            try:
                await self._actors[index].send.remote(data)
            except Exception:  # noqa: BLE001 - _listen tells
                return

    async def _measure_again(self) -> None:
        while True:
            await asyncio.sleep(_AGAIN_S)
            for node, clock in list(self._clocks.items()):
                alive = (i for i, home in enumerate(self._homes) if home[0] == node and i not in self._ended)
                index = next(alive, None)
                if index is None:
                    continue
                try:
                    newest = await asyncio.to_thread(_measure, self._actors[index], _AGAIN_EXCHANGES)
                except Exception:  # noqa: BLE001, S112 - _listen tells
                    continue
                self._clocks[node] = clock.measured_again(newest)
                self._tell(Measured(self._clocks[node]))

    def _clock(self, index: int) -> NodeClock:
        return self._clocks[self._homes[index][0]]


def _files(spec: WorkerSpec) -> dict[str, bytes]:
    """What the paths in ``spec`` hold, by field. Raises UserError."""
    paths = {"prompts": spec.prompts}
    paths |= {name: path for name in _FILES if (path := getattr(spec.address, name))}
    out = {}
    for name, path in paths.items():
        try:
            out[name] = Path(path).read_bytes()
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from error
    return out


def _measure(actor: Any, count: int) -> Offset:
    """In a thread of its own: the way through an event loop would widen the bounds."""
    import ray

    exchanges = []
    for _ in range(count):
        before = perf_counter_ns()
        remote = ray.get(actor.clock.remote())
        exchanges.append(Exchange(before, remote, perf_counter_ns()))
    return offset_of(exchanges)


async def _answer(ref: Any, address: str) -> Any:
    try:
        return await ref
    except Exception as error:
        raise UserError(_unready(address, error)) from error


def _unready(address: str, error: BaseException) -> str:
    return f"node {address}: the load worker did not start: {line_of(error)}"


def _end_by_force() -> None:
    """A call of Ray's may hang for a minute; the cluster ends what a driver leaves behind."""
    timer = threading.Timer(_END_LIMIT_S, os._exit, args=(1,))
    timer.daemon = True
    timer.start()


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    writer = await stdio.frames_out()
    inbox: asyncio.Queue[Any] = asyncio.Queue()

    def read() -> None:
        unpacker = Unpacker()
        while data := os.read(sys.stdin.fileno(), 1 << 16):
            for message in unpacker.feed(data):
                loop.call_soon_threadsafe(inbox.put_nowait, message)
        _end_by_force()
        loop.call_soon_threadsafe(inbox.put_nowait, None)

    threading.Thread(target=read, daemon=True).start()
    begin = await inbox.get()
    if begin is None:
        return
    bridge = Bridge(begin, lambda message: writer.write(pack(message)))

    async def hand_down() -> None:
        while (message := await inbox.get()) is not None:
            bridge.send(message)

    work, commands = asyncio.create_task(bridge.run()), asyncio.create_task(hand_down())
    try:
        await asyncio.wait([work, commands], return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
    except UserError as error:
        writer.write(pack(Refused(str(error))))
    finally:
        for task in (work, commands):
            task.cancel()
        await stdio.close(writer)
        if "ray" in sys.modules:
            await asyncio.to_thread(bridge.close)


def main() -> None:
    """The process's entry point."""
    asyncio.run(_serve())


if __name__ == "__main__":
    main()
