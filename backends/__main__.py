"""``python -P -m backends TOPOLOGY …``: serves one topology until it is told to stop; with ``--check`` it
only reports which models it would serve, or why it would not start. ``--list`` prints the topologies as JSON.

stdout carries JSON lines only (see :mod:`backends.process.events`); people read stderr. Exit codes: 0
stopped, 2 bad usage, 4 failed to start.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import NoReturn

from backends import registry
from backends.cli import parse_options
from backends.errors import StartFailure, UsageError
from backends.errors.text import log_to_stderr, visible
from backends.models.adapters import adapter_folder
from backends.process import again
from backends.process.events import Events, Steps
from backends.process.lease import StdinLease
from backends.process.notices import NOTICES
from backends.process.running import Running, StartAgain
from backends.settings.options import Options

log = logging.getLogger("backends")

# How long requests may go on after SIGTERM; when the lease ends they are cut at once.
GRACE_S = 5.0
# A stop that hangs (a native call that never returns) ends like this.
LAST_RESORT_S = 12.0


class StopSignal:
    """A request to stop, from a signal or the lease: the first one counts."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._event = asyncio.Event()
        self.grace_s = GRACE_S

    def request(self, reason: str, grace_s: float) -> None:
        """Safe from any thread."""
        threading.Thread(target=_last_resort, name="last-resort", daemon=True).start()
        self._loop.call_soon_threadsafe(self._set, reason, grace_s)

    def _set(self, reason: str, grace_s: float) -> None:
        if not self._event.is_set():
            log.info("stopping: %s", reason)
            self.grace_s = grace_s
            self._event.set()

    async def wait(self) -> None:
        await self._event.wait()


def main() -> NoReturn:
    said = again.remember()
    try:
        options, lease, check = parse_options(sys.argv[1:])
    except UsageError as error:
        Events.on_stdout().emit("error", kind=error.kind, message=str(error))
        print(f"backends: {visible(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)
    events = Events.on_stdout()
    if check:
        known = dict.fromkeys([*options.names, *(spec.name for spec in options.models)])
        folder = adapter_folder(options.lora)
        adapters = folder.names() if folder is not None else []
        events.emit("checked", models=list(known), adapters=adapters, topology=options.topology)
        sys.exit(0)
    log_to_stderr()
    if said:
        NOTICES.say(said, "error")
    loop = _new_loop()
    code = loop.run_until_complete(_run(options, events, lease))
    logging.shutdown()
    sys.stderr.flush()
    # Not sys.exit: a thread inside a native call (loading weights) must not hold up a process that
    # has to stop. All that has to be closed is closed by now.
    os._exit(code)


async def _run(options: Options, events: Events, lease: bool) -> int:
    for line in options.autoscale.warned if options.autoscale is not None else ():
        log.warning("--autoscale: %s", line)
    stop = StopSignal(asyncio.get_running_loop())
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        name = signal.Signals(number).name
        asyncio.get_running_loop().add_signal_handler(number, stop.request, name, GRACE_S)
    if lease:
        StdinLease(sys.stdin.fileno(), lambda reason: stop.request(reason, 0.0)).start()
    try:
        return await _serve(options, events, stop)
    except (StartFailure, ModuleNotFoundError) as error:
        return events.failed(error)
    except Exception as error:
        log.exception("failed to start")
        events.emit("error", kind="start", message=f"{type(error).__name__}: {_one_line(error)}")
        return StartFailure.exit_code


async def _serve(options: Options, events: Events, stop: StopSignal) -> int:
    stopping = asyncio.create_task(stop.wait())
    absence = again.Absence(options.listener) if again.is_again() else None
    starting = asyncio.create_task(_start(options, Steps(events.emit)))
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if absence is not None:
        await asyncio.to_thread(absence.end)
    if not starting.done():
        starting.cancel()
        with suppress(asyncio.CancelledError, StartFailure):
            await starting
        events.emit("stopped")
        return 0
    running = starting.result()
    if options.grpc is not None:
        with Steps(events.emit).step("grpc", options.grpc.url):
            pass  # it answers already: this says where
    facts = {"models": options.names, "pid": os.getpid(), "topology": options.topology}
    grpc_url = {} if options.grpc is None else {"grpc": options.grpc.url}
    events.emit("ready", url=options.url, **facts, **grpc_url)
    failing = asyncio.create_task(running.failed())
    await asyncio.wait({failing, stopping}, return_when=asyncio.FIRST_COMPLETED)
    code = 0
    if failing.done():
        reason = failing.result()
        if isinstance(reason, StartAgain) and not stopping.done():
            grpc = options.grpc.port if options.grpc is not None else None
            await again.start_again(reason, running, options.listener, events.fd, grpc)
        code = StartFailure.exit_code
        events.emit("error", kind="start", message=reason)
    failing.cancel()
    await running.close(stop.grace_s)
    events.emit("stopped")
    return code


async def _start(options: Options, steps: Steps) -> Running:
    with steps.step("import", options.topology):
        module = await asyncio.to_thread(registry.load, options.topology)
    return await module.start(options, steps)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _last_resort() -> None:
    threading.Event().wait(LAST_RESORT_S)
    log.error("the stop hung for %g s: ending now", LAST_RESORT_S)
    os._exit(0)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


if __name__ == "__main__":
    main()
