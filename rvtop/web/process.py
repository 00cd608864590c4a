"""The life of the web view's process: it opens, says its address, and ends when its stdin does."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path

import orjson

from rvtop.errors import UserError
from rvtop.ipc import stdio
from rvtop.target.probe import KEY_ENV
from rvtop.web.client import WebOptions, address
from rvtop.web.gate import Gate
from rvtop.web.server import WebView

#: Below whatever measures: a frame for a browser can wait.
_NICE = 10


def main() -> None:
    os.environ.pop(KEY_ENV, None)  # no viewer needs it
    os.nice(_NICE)
    out = stdio.own_stdout()
    told = orjson.loads(sys.stdin.buffer.readline() or b"null")
    if told is None:
        return
    folder = Path(told["folder"])
    try:
        asyncio.run(_serve(Path(told["socket"]), WebOptions(**told["options"]), out))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _serve(socket: Path, options: WebOptions, out: int) -> None:
    gate = Gate(options.host)
    view = WebView(gate, socket, control=options.control)
    try:
        port = await view.open(options.host, options.port)
    except OSError as error:
        _say(out, {"error": str(_refusal(options, error))})
        return
    try:
        _say(out, {"url": f"{address(options.host, port)}/?token={gate.token}"})
        await _stdin_ends()
    finally:
        await view.close()


def _say(out: int, message: dict[str, str]) -> None:
    with suppress(BrokenPipeError):
        os.write(out, orjson.dumps(message) + b"\n")


async def _stdin_ends() -> None:
    """Waits until whoever shows the session is gone, or a signal asks for the end."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(name, ended.set)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    reading = asyncio.create_task(reader.read())
    reading.add_done_callback(lambda _: ended.set())
    await ended.wait()
    reading.cancel()


def _refusal(options: WebOptions, error: OSError) -> UserError:
    where = f"--serve-on {options.host}:{options.port}"
    if error.errno == errno.EADDRINUSE:
        return UserError(f"{where}: something listens there already; give another port, or 0 for a free one")
    return UserError(
        f"{where}: can't listen there: {error.strerror or error}; give an address of this machine"
    )
