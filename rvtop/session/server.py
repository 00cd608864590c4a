"""The process of a Session that a dashboard holds: lines of the codec on stdin and stdout."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import signal
import sys
from collections.abc import AsyncIterator

from rvtop.contract.command import Stop
from rvtop.contract.snapshot import Snapshot
from rvtop.contract.stream import SnapshotWriter
from rvtop.ipc import stdio
from rvtop.ipc.lines import LineSplitter
from rvtop.session.messages import LONGEST, UP, down_codec, with_secrets
from rvtop.session.session import Session

_PERIOD_S = 0.1


async def _serve() -> int:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    writer = await stdio.frames_out()
    commands = _lines(reader)
    codec = down_codec()
    secrets, line = await anext(commands, b""), await anext(commands, b"")
    if not line:
        return 2
    session = Session(with_secrets(codec.decode(line), secrets), apart=True)
    running = asyncio.create_task(session.run())
    snapshots, commanded = SnapshotWriter(), asyncio.Event()
    sending = asyncio.create_task(_send_snapshots(session, snapshots, writer, commanded))
    async for line in commands:
        session.command(codec.decode(line))
        commanded.set()
    session.command(Stop("interrupted"), "signal")  # the dashboard is gone
    outcome = await running
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    with contextlib.suppress(OSError):
        _write(writer, snapshots, session.snapshot())
        writer.write(UP.encode(outcome))
        await stdio.close(writer)
    return outcome.exit_code


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The lines on stdin, until it ends."""
    splitter = LineSplitter(LONGEST)
    while data := await reader.read(1 << 16):
        for line in splitter.feed(data):
            yield line


async def _send_snapshots(
    session: Session, snapshots: SnapshotWriter, writer: asyncio.WriteTransport, commanded: asyncio.Event
) -> None:
    """Sends what is new, ten times a second at most, and at once what comes of a command."""
    sent = -1
    while True:
        await session.news(sent)
        if not writer.is_closing() and writer.get_write_buffer_size() < 1 << 20:
            snapshot = session.snapshot()
            sent = snapshot.seq
            _write(writer, snapshots, snapshot)
        commanded.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PERIOD_S):
                await commanded.wait()


def _write(writer: asyncio.WriteTransport, snapshots: SnapshotWriter, snapshot: Snapshot) -> None:
    writer.write(b"".join(map(UP.encode, snapshots.messages(snapshot))))


def main() -> None:
    """The process's entry point."""
    import uvloop

    faulthandler.enable()
    # The dashboard decides when the session ends: by a Stop, or by going away.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(uvloop.run(_serve()))
