"""The servers that a session started: it starts them, knows which are up, and ends them all."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter_ns

from rvtop.contract.run_files import BACKEND_LOG
from rvtop.lifecycle.start_times import StartTimes
from rvtop.session.ending import Ending
from rvtop.session.events import EventFeed
from rvtop.target.backend import Backend, BackendOptions
from rvtop.target.probe import TargetError

#: Lines of its log that are shown of a backend that did not start.
_LOG_LINES = 5
_START_FAILED = 4


@dataclass(eq=False)
class OwnServer:
    """A backend of ours. ``leaving``: it ends because we want it to."""

    options: BackendOptions
    backend: Backend
    log: Path
    leaving: bool = False
    watch: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """Where it is; "" before it is ready."""
        return self.backend.url


class OwnServers:
    """``folder`` gets their logs. ``on_exit`` is called when one of them ended that we did not end."""

    def __init__(
        self, folder: Path, feed: EventFeed, ending: Ending, on_exit: Callable[[OwnServer, int], None]
    ) -> None:
        self._folder = folder
        self._feed = feed
        self._ending = ending
        self._on_exit = on_exit
        self._servers: list[OwnServer] = []  # that start or are up
        self._started = 0
        self.log: Path | None = None  # of the newest

    @property
    def up(self) -> list[OwnServer]:
        """Those that are ready, oldest first."""
        return [server for server in self._servers if server.url and not server.leaving]

    @property
    def starting(self) -> OwnServer | None:
        """The one that starts now."""
        return next((server for server in self._servers if not server.url), None)

    def at(self, url: str) -> OwnServer | None:
        """The one at ``url``."""
        return next((server for server in self.up if server.url == url), None)

    def like(self, options: BackendOptions) -> OwnServer | None:
        """One that is up and was started with the same options."""
        return next((server for server in self.up if server.options == options), None)

    async def start(self, options: BackendOptions) -> OwnServer:
        """Starts one; its steps go to the feed. Raises TargetError, Interrupted."""
        self._started += 1
        stem, dot, end = BACKEND_LOG.partition(".")
        name = BACKEND_LOG if self._started == 1 else f"{stem}-{self._started}{dot}{end}"
        self.log = self._folder / name
        if self._started > 1:
            self._feed.begin_steps()
        times, began_ns = StartTimes(options, os.environ), perf_counter_ns()
        backend = Backend(options, self.log, times.watch(self._feed.step))
        server = OwnServer(options, backend, self.log)
        self._servers.append(server)
        ticking = asyncio.create_task(self._tick())
        try:
            await self._ending.unless_stopped(backend.start())
        except BaseException as error:
            self._servers.remove(server)  # Backend.start has ended it
            if isinstance(error, TargetError) and error.exit_code == _START_FAILED:
                self._feed.start_failed(backend.log_tail(_LOG_LINES).splitlines())
            raise
        finally:
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)
        times.keep((perf_counter_ns() - began_ns) / 1e9)
        server.watch = asyncio.create_task(self._watch(server))
        return server

    async def end(self, server: OwnServer) -> None:
        """Ends one; what is in flight there gets its seconds of grace."""
        server.leaving = True
        await server.backend.stop()
        await self._forget(server)

    async def stop(self) -> None:
        """Ends them all."""
        await asyncio.gather(*(self.end(server) for server in list(self._servers)))

    def kill(self) -> None:
        """Ends them all by force, for a user who does not want to wait."""
        for server in self._servers:
            server.backend.kill()

    async def _tick(self) -> None:
        """The seconds of the step that runs are shown, and nothing else may happen meanwhile."""
        while True:
            await asyncio.sleep(1.0)
            self._feed.touch()

    async def _watch(self, server: OwnServer) -> None:
        code = await server.backend.wait()
        if not server.leaving:
            server.leaving = True
            self._on_exit(server, code)

    async def _forget(self, server: OwnServer) -> None:
        if server.watch is not None:
            server.watch.cancel()
            await asyncio.gather(server.watch, return_exceptions=True)
        if server in self._servers:
            self._servers.remove(server)
