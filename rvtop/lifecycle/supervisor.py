"""The supervisor of one deployment: ``python -P -m rvtop.lifecycle.supervisor``, started by ``rvtop up``.

It owns the backend by its lease, so the backend ends when it ends, however that happens. stdin: one JSON line
(the Spec), then ``keep`` once ``up`` has printed that it is ready; when stdin ends before that (Ctrl-C,
kill -9 of ``up``), everything is taken down again. stdout: JSON lines for ``up`` (step, ready, failed).
From then on it is alone: it watches the backend, starts it again when it dies, and stops on SIGTERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import rvtop
from rvtop.contract.snapshot import StartStep
from rvtop.errors import UserError
from rvtop.ipc import stdio
from rvtop.lifecycle import state
from rvtop.lifecycle.health import Health, health
from rvtop.lifecycle.processes import MARK_ENV, Process, end_members, process
from rvtop.lifecycle.start_times import StartTimes
from rvtop.lifecycle.state import Deployment
from rvtop.target.backend import Backend, BackendOptions
from rvtop.target.probe import TargetError

log = logging.getLogger("supervisor")

_LOG_BYTES = 32 * 2**20
_LEFT_S = 10.0


@dataclass(frozen=True)
class Spec:
    """What to keep up. ``mark`` is in the environment of all its processes."""

    name: str
    mark: str
    topology: str
    host: str = "127.0.0.1"
    port: int = 0
    models: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Policy:
    """When to start again, in seconds. It gives up after ``crashes`` of them within ``within_s``."""

    first_delay_s: float = 1.0
    max_delay_s: float = 30.0
    healthy_s: float = 60.0  # a backend that lived this long was well: the delays begin anew
    crashes: int = 6
    within_s: float = 600.0
    health_s: float = 2.0
    grace_s: float = 15.0  # for requests in flight, and for Ray, on a stop that was asked for


class BackendLike(Protocol):
    """``rvtop.target.backend.Backend``."""

    url: str
    models: tuple[str, ...]

    @property
    def pid(self) -> int | None: ...
    async def start(self) -> str: ...
    async def wait(self) -> int: ...
    def log_tail(self, lines: int = 5) -> str: ...
    def terminate(self) -> None: ...
    async def stop(self) -> None: ...


MakeBackend = Callable[[BackendOptions, Path, Callable[[StartStep], None]], BackendLike]
Report = Callable[[dict[str, Any]], None]


class Stopped(Exception):
    """The deployment is to be taken down."""


class Supervisor:
    """Keeps one deployment up. ``stop`` may be called at any time, from the same loop."""

    def __init__(
        self,
        spec: Spec,
        folder: Path,
        report: Report,
        policy: Policy | None = None,
        make: MakeBackend = Backend,
    ) -> None:
        self._spec = spec
        self._folder = folder
        self._report = report
        self._policy = policy or Policy()
        self._make = make
        self._stop = asyncio.Event()
        self._keep = asyncio.Event()
        self._backend: BackendLike | None = None
        self._group: Process | None = None  # who leads the process group of the last backend
        self._restarts = 0  # of backends, and of engines in those that are gone
        self._known = Deployment(
            name=spec.name,
            topology=spec.topology,
            state="starting",
            mark=spec.mark,
            supervisor=process(os.getpid()),
            started_at=time.time(),
            version=rvtop.__version__,
        )

    def stop(self) -> None:
        """Takes the deployment down."""
        self._stop.set()

    def keep(self) -> None:
        """``up`` has printed its last line: go on alone."""
        self._keep.set()

    def abandon(self) -> None:
        """``up`` is gone; without its ``keep`` the deployment goes too."""
        if not self._keep.is_set():
            self._stop.set()

    async def run(self) -> int:
        """Until it is stopped or gives up; the exit code. Nothing runs when it returns."""
        self._set()
        try:
            await self._start(self._spec.port)
        except TargetError as error:
            # The message says all about a wrong option; a backend that failed says more in its log.
            state.forget(self._folder, keep_log=error.exit_code != 2)
            self._report({"event": "failed", "message": str(error), "code": error.exit_code})
            return error.exit_code
        except Stopped:
            self._report({"event": "failed", "message": "taken down while it started", "code": 4})
            return await self._end()
        log.info("%s is up at %s", self._spec.name, self._known.url)
        self._report({"event": "ready", "url": self._known.url, "models": self._known.models})
        try:
            await self._unless_stopped(self._keep.wait())
            await self._watch()
        except Stopped:
            return await self._end()
        return 4

    # -- one backend -------------------------------------------------------------------------

    async def _start(self, port: int) -> None:
        """Starts a backend and waits until it is ready. Raises TargetError, Stopped."""
        spec = self._spec
        options = BackendOptions(spec.topology, spec.host, port, spec.models, spec.arguments)
        _turn_over(self._folder / state.LOG_FILE)
        times, began = StartTimes(options, os.environ), time.monotonic()
        self._backend = self._make(options, self._folder / state.LOG_FILE, times.watch(self._step))
        try:
            await self._unless_stopped(self._backend.start())
        except BaseException:
            await self._clear()
            raise
        times.keep(time.monotonic() - began)
        self._group = process(self._backend.pid or 0)
        self._set(
            state="ready",
            url=self._backend.url,
            models=self._backend.models,
            backend=self._group,
            message="",
        )

    async def _clear(self) -> None:
        """Ends what is left of a backend."""
        backend, self._backend = self._backend, None
        if backend is None:
            return
        await backend.stop()
        left = await asyncio.to_thread(end_members, self._spec.mark, self._group, _LEFT_S)
        if left:
            log.error("these processes can't be ended: %s", ", ".join(str(other.pid) for other in left))

    def _step(self, step: StartStep) -> None:
        self._report({"event": "step", **asdict(step)})
        if step.state != "wait" and self._known.state == "starting":
            self._set(message=f"{step.name}: {step.state}")

    # -- all its life ------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Returns when it gives up. Raises Stopped."""
        crashes: deque[float] = deque()
        delays = self._delays()
        while True:
            since = time.monotonic()
            code = await self._until_exit()
            now = time.monotonic()
            if now - since > self._policy.healthy_s:
                delays = self._delays()
            reason = self._exit_reason(code)
            while True:
                self._set(state="restarting", message=reason, backend=None)
                crashes.append(time.monotonic())
                while crashes[0] < crashes[-1] - self._policy.within_s:
                    crashes.popleft()
                await self._clear()
                if len(crashes) >= self._policy.crashes:
                    minutes = self._policy.within_s / 60
                    reason = f"gave up after {len(crashes)} crashes in {minutes:g} min; the last: {reason}"
                    log.error("%s", reason)
                    self._set(state="failed", message=reason)
                    return
                delay = next(delays)
                log.error("%s; again in %g s", reason, delay)
                self._set(message=f"{reason}; again in {delay:g} s")
                await self._unless_stopped(asyncio.sleep(delay))
                try:
                    await self._start(int(_port(self._known.url)))
                except TargetError as error:
                    reason = str(error)
                else:
                    self._restarts = self._known.restarts + 1
                    self._set(restarts=self._restarts)
                    log.info("the backend is back")
                    break

    def _delays(self) -> Iterator[float]:
        delay = self._policy.first_delay_s
        while True:
            yield delay
            delay = min(2 * delay, self._policy.max_delay_s)

    async def _until_exit(self) -> int:
        """Checks the backend's health until it ends; its exit code. Raises Stopped."""
        assert self._backend is not None
        ending = asyncio.ensure_future(self._backend.wait())
        try:
            while True:
                await self._unless_stopped(asyncio.wait([ending], timeout=self._policy.health_s))
                if ending.done():
                    return ending.result()
                _turn_over(self._folder / state.LOG_FILE)
                found: Health = await self._unless_stopped(asyncio.to_thread(health, self._known.url or ""))
                if not ending.done():
                    self._set(state="ready" if found.ok else "unhealthy", message=found.message)
                    if found.restarts is not None:  # an engine comes back inside a backend that lives on
                        self._set(restarts=self._restarts + found.restarts)
        finally:
            ending.cancel()

    async def _end(self) -> int:
        self._set(state="stopping", message="")
        if self._backend is not None and self._known.backend is not None:
            self._backend.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._backend.wait(), self._policy.grace_s)
        await self._clear()
        log.info("down")  # before the entry goes: `rvtop logs -f` ends with it, and prints this line
        state.forget(self._folder)
        return 0

    async def _unless_stopped(self, work: Awaitable[Any]) -> Any:
        """What ``work`` returns or raises; raises Stopped when that comes first."""
        task, stop = asyncio.ensure_future(work), asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
            if self._stop.is_set():
                raise Stopped
            return task.result()
        finally:
            for each in (task, stop):
                each.cancel()
            await asyncio.gather(task, stop, return_exceptions=True)

    def _exit_reason(self, code: int) -> str:
        if code < 0:
            return f"the backend was killed by {signal.Signals(-code).name}"
        assert self._backend is not None
        return f"the backend ended with exit code {code}: {self._backend.log_tail(1)}"

    def _set(self, **changes: Any) -> None:
        after = replace(self._known, **changes)
        if changes and after == self._known:
            return
        self._known = after
        try:
            state.write(self._folder, after)
        except OSError as error:  # a full disk is no reason to end a server
            log.error("the state file can't be written: %s", error)


def _port(url: str | None) -> str:
    return (url or "").rpartition(":")[2]


def _turn_over(path: Path) -> None:
    """Keeps the log from growing for ever: its writers append, so its text can move away beneath them."""
    with contextlib.suppress(OSError):
        if path.stat().st_size > _LOG_BYTES:
            path.with_name(f"{path.name}.1").write_bytes(path.read_bytes())
            os.truncate(path, 0)


# -- the process -------------------------------------------------------------------------------


def main() -> int:
    control, events = _own_pipes()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    spec = _read_spec(control.readline())
    os.environ[MARK_ENV] = spec.mark
    try:
        state.lock(spec.name)
    except UserError as error:
        events({"event": "failed", "message": str(error), "code": 2})
        return 2
    return asyncio.run(_main(spec, state.folder_of(spec.name), control, events))


async def _main(spec: Spec, folder: Path, control: BinaryIO, events: Report) -> int:
    supervisor = Supervisor(spec, folder, events)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, supervisor.stop)
    parent = asyncio.create_task(_follow_parent(supervisor, control))
    try:
        return await supervisor.run()
    finally:
        parent.cancel()


async def _follow_parent(supervisor: Supervisor, control: BinaryIO) -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), control)
    while line := await reader.readline():
        if line.strip() == b"keep":
            supervisor.keep()
    supervisor.abandon()


def _read_spec(line: bytes) -> Spec:
    data = json.loads(line)
    return Spec(**{**data, "models": tuple(data["models"]), "arguments": tuple(data["arguments"])})


def _own_pipes() -> tuple[BinaryIO, Report]:
    """Takes stdin and stdout for us alone: nothing else shall read the one, or print to the other."""
    control = os.fdopen(stdio.own_stdin(), "rb", buffering=0)
    events = stdio.own_stdout()

    def report(event: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # nobody reads it once `up` is gone
            os.write(events, json.dumps(event, ensure_ascii=False).encode() + b"\n")

    return control, report


if __name__ == "__main__":
    sys.exit(main())
