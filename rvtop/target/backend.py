"""A topology of ours as a child process: started, waited for until it is ready, and ended with us."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rvtop.contract.snapshot import StartStep
from rvtop.ipc import child
from rvtop.system.log_tail import last_lines
from rvtop.target.probe import TargetError
from rvtop.text import NAME_LIMIT, printable, told


@dataclass(frozen=True)
class BackendOptions:
    """How to start a topology of ours. ``arguments`` go to ``python -m backends`` as they are."""

    topology: str
    host: str = "127.0.0.1"
    port: int = 0
    models: Sequence[str] = ()  # name=path
    arguments: Sequence[str] = ()

    def command(self, *more: str) -> list[str]:
        """The command line of the backend, with ``more`` options."""
        models = [word for model in self.models for word in ("--model", model)]
        place = ("--host", self.host, "--port", str(self.port))
        return child.module_command("backends", self.topology, *more, *place, *self.arguments, *models)


class Backend:
    """A topology that this process started, so that it ends it too. Its stdin is its lease: while we write
    to it, it lives; when we are gone, however we went, it takes itself down."""

    def __init__(self, options: BackendOptions, log: Path, on_step: Callable[[StartStep], None]) -> None:
        self._options = options
        self._log = log
        self._on_step = on_step
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._error: Mapping[str, Any] = {}
        self.url = ""
        self.models: tuple[str, ...] = ()

    async def start(self) -> str:
        """Starts it and waits until it is ready; returns its URL. Raises TargetError (exit code 2 or 4)."""
        with child.open_log(self._log) as log:
            self._process = await child.start(*self._options.command("--lease"), stderr=log)
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        running = child.renew_lease(self._process), self._read_events(ready)
        self._tasks = [asyncio.create_task(one) for one in running]
        try:
            self.url = await ready
        except BaseException:
            await self.stop()
            raise
        return self.url

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def wait(self) -> int:
        """Waits until the process ends; its exit code."""
        assert self._process is not None
        return await self._process.wait()

    def log_tail(self, lines: int = 5) -> str:
        """The end of its log."""
        return "\n".join(last_lines(self._log, lines))

    def kill(self) -> None:
        """Ends it by force, with what shares its process group; ``stop`` then returns soon."""
        if self._process is not None and self._process.returncode is None:
            child.kill_group(self._process)

    def terminate(self) -> None:
        """Asks it to stop; requests in flight get their seconds of grace. ``stop`` waits for none."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()

    async def stop(self) -> None:
        """Ends it: gently, then by force, with all it started."""
        process = self._process
        if process is None:
            return
        await child.end(process)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _read_events(self, ready: asyncio.Future[str]) -> None:
        assert self._process is not None and self._process.stdout is not None
        async for line in self._process.stdout:
            event = child.event_of(line)
            if event is None:
                continue
            if event.get("event") == "step":
                self._on_step(
                    StartStep(
                        told(event["name"], NAME_LIMIT),
                        str(event["state"]),
                        event.get("elapsed_s"),
                        told(event.get("detail"), 4 * NAME_LIMIT),
                    )
                )
            elif event.get("event") == "ready" and not ready.done():
                self.models = tuple(str(name) for name in event.get("models") or ())
                ready.set_result(printable(str(event["url"])))
            elif event.get("event") == "error":
                self._error = event
        code = await self._process.wait()
        if not ready.done():
            message = self._error.get("message") or f"ended with exit code {code}: {self.log_tail(1)}"
            usage = self._error.get("kind") == "usage" or code == 2
            text = str(message) if usage else f"{self._options.topology} did not start: {message}"
            ready.set_exception(TargetError(text, 2 if usage else 4))
