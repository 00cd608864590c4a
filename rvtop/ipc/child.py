"""The parent's end of a child process that runs a module of ours.

A child of ours ends when its stdin does, so that it never outlives its parent; ``rvtop.ipc.stdio`` is its end
of the pipes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

#: asyncio's own: bytes that a reader holds before the child has to wait.
_BUFFER = 1 << 16
_LEASE_S = 2.0
_END_LIMIT_S = 15.0


def module_command(module: str, *arguments: str) -> list[str]:
    """The command line that runs a module with this interpreter. ``-P``: the working folder is no place for
    modules, whatever lies in it."""
    return [sys.executable, "-P", "-m", module, *arguments]


async def start(
    *command: str,
    stdin: int = asyncio.subprocess.PIPE,
    stderr: int | IO[bytes] | None = None,
    env: Mapping[str, str] | None = None,
    limit: int = _BUFFER,
) -> asyncio.subprocess.Process:
    """Starts ``command`` with pipes for stdin and stdout. ``stderr``: a descriptor or file, asyncio's PIPE;
    None: ours. Raises OSError."""
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
        start_new_session=True,  # a Ctrl-C in our terminal is ours to handle
        env=env,
        limit=limit,
    )


async def run(*command: str) -> tuple[int, bytes, str]:
    """Runs ``command`` to its end: its exit code, its stdout, and the last line of its stderr. It ends with
    us, in whatever way we go. Raises OSError."""
    process = await start(*command, stderr=asyncio.subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    try:
        out, err = await asyncio.gather(process.stdout.read(), process.stderr.read())
        code = await process.wait()
    finally:
        kill(process)
        await process.wait()
        close_stdin(process)
    return code, out, err.decode("utf-8", "replace").strip().rpartition("\n")[2]


@contextmanager
def open_log(path: Path, mode: int = 0o644) -> Iterator[int]:
    """A descriptor that appends to ``path``, for a child's stderr; ours is closed once the child has it."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, mode)
    try:
        yield log
    finally:
        os.close(log)


def write(process: asyncio.subprocess.Process, data: bytes) -> None:
    """Hands ``data`` to the child's stdin; once that is closed, it is dropped."""
    if process.stdin is not None and not process.stdin.is_closing():
        process.stdin.write(data)


def close_stdin(process: asyncio.subprocess.Process) -> None:
    """Asks the child to end."""
    if process.stdin is not None:
        process.stdin.close()


async def renew_lease(process: asyncio.subprocess.Process) -> None:
    """Writes what a child that was started with ``--lease`` lives by, until that is gone. Cancel it."""
    assert process.stdin is not None
    with contextlib.suppress(ConnectionError):
        while True:
            process.stdin.write(b"\n")
            await process.stdin.drain()
            await asyncio.sleep(_LEASE_S)


async def end(process: asyncio.subprocess.Process) -> None:
    """Ends the child: gently, then by force, with all that it has started."""
    close_stdin(process)
    try:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _END_LIMIT_S)
    finally:
        kill_group(process)  # its own children too: none may outlive it
        await process.wait()


def event_of(line: bytes) -> dict[str, Any] | None:
    """An event of a backend's (docs/architecture.md); None where a library printed something (the log has its
    stderr)."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def kill(process: asyncio.subprocess.Process) -> None:
    """Ends the child by force, if it has not ended."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


def kill_group(process: asyncio.subprocess.Process) -> None:
    """Ends by force all that share the child's process group: itself, and what it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
