"""The web view's other end, in whoever shows the session: it starts the view's process and ends it.

The process gets one line on stdin (the session's socket and the options) and says one on stdout: its address,
or why there is none. It ends when its stdin does, and its viewers with it. The token is in the address alone:
no argument, variable or file holds it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import select
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import orjson

from rvtop.errors import UserError
from rvtop.ipc.child import module_command
from rvtop.ipc.exit_reason import exit_reason, last_line
from rvtop.net.place import host_and_port

LOOPBACK = "127.0.0.1"
_START_S = 60.0
_END_S = 5.0


@dataclass(frozen=True, slots=True)
class WebOptions:
    """Where to listen (port 0: a free one), and whether viewers may steer the session."""

    host: str = LOOPBACK
    port: int = 0
    control: bool = False


@dataclass(frozen=True, slots=True)
class WebAddress:
    """A web view that runs: its address, which has the token, and the session's control socket."""

    url: str
    socket: Path

    @property
    def public(self) -> str:
        """The address without its token: opens nothing."""
        return self.url.partition("?")[0]


def web_options(place: str | None, *, control: bool) -> WebOptions:
    """The options of ``--serve-on HOST:PORT``; None: this machine alone and a free port. Raises UserError."""
    for need in ("textual_serve", "aiohttp"):
        if importlib.util.find_spec(need) is None:
            raise UserError(f"--serve: {need} is not installed; pip install 'rvtop[web]'")
    if place is None:
        return WebOptions(control=control)
    found = host_and_port(place)
    if found is None:
        raise UserError(f"--serve-on {place}: must look like 127.0.0.1:8080, [::1]:8080 or HOST")
    return WebOptions(found[0], found[1] or 0, control)


def address(host: str, port: int) -> str:
    """The URL of ``host`` and ``port``; where it listens at all addresses, that of this machine."""
    if host in ("0.0.0.0", "::"):
        host = os.uname().nodename
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def web_view(options: WebOptions, socket: Path | None) -> Iterator[WebAddress]:
    """The web view of the session whose control socket is, or will be, ``socket``; None: makes up a path,
    in a folder for us alone. Raises UserError (exit code 2 where it can't listen, 5 where it died)."""
    folder = Path(tempfile.mkdtemp(prefix="rvtop-web-"))  # mode 0700
    socket = folder / "session" if socket is None else socket.absolute()
    try:
        with (folder / "log").open("w+b") as log:
            process = subprocess.Popen(
                module_command("rvtop.web"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # a Ctrl-C in our terminal is ours to handle
            )
            try:
                line = {"socket": os.fspath(socket), "folder": os.fspath(folder), "options": asdict(options)}
                yield WebAddress(_url(process, orjson.dumps(line) + b"\n", log), socket)
            finally:
                _end(process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _url(process: subprocess.Popen[bytes], line: bytes, log: IO[bytes]) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(line)
        process.stdin.flush()
    ready, _, _ = select.select([process.stdout], [], [], _START_S)
    said = process.stdout.readline() if ready else b""
    if not said:
        process.kill()
        why = last_line(log.fileno()) or exit_reason(process.wait())
        raise UserError(f"--serve: the web view could not start: {why}", 5)
    answer = orjson.loads(said)
    if "error" in answer:
        raise UserError(answer["error"])
    return str(answer["url"])


def _end(process: subprocess.Popen[bytes]) -> None:
    """Its stdin ends, and so does it; a process that hangs is killed, and its viewers see that."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
