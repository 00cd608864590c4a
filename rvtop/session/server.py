"""The process of a Session that a dashboard holds: frames on stdin and stdout."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import signal
import sys
from dataclasses import replace

from rvtop.contract.command import Stop
from rvtop.contract.snapshot import Series
from rvtop.ipc import stdio
from rvtop.ipc.frames import Unpacker, pack
from rvtop.session.request import Outcome, SessionRequest
from rvtop.session.session import Session

_PERIOD_S = 0.1


async def _serve() -> int:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    writer = await stdio.frames_out()
    unpacker = Unpacker()
    session: Session | None = None
    running: asyncio.Task[Outcome] | None = None
    sending: asyncio.Task[None] | None = None

    async def read_commands() -> None:
        nonlocal session, running, sending
        while data := await reader.read(1 << 16):
            for message in unpacker.feed(data):
                if isinstance(message, SessionRequest):
                    session = Session(message, apart=True)
                    running = asyncio.create_task(session.run())
                    sending = asyncio.create_task(_send_snapshots(session, writer))
                elif session is not None:
                    session.command(message)
        if session is not None:
            session.command(Stop("interrupted"))  # the dashboard is gone

    await read_commands()
    outcome = await running if running is not None else Outcome(2, "no request came")
    if sending is not None:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    with contextlib.suppress(OSError):
        if session is not None:
            writer.write(pack(session.snapshot()))
        writer.write(pack(outcome))
        await stdio.close(writer)
    return outcome.exit_code


async def _send_snapshots(session: Session, writer: asyncio.WriteTransport) -> None:
    """Sends what is new, ten times a second at most. The charts' history goes only when it has grown."""
    sent = -1
    series: Series | None = None
    while True:
        snapshot = session.snapshot()
        if snapshot.seq != sent and not writer.is_closing() and writer.get_write_buffer_size() < 1 << 20:
            sent = snapshot.seq
            if snapshot.series is not series:
                series = snapshot.series
                writer.write(pack(series))
            writer.write(pack(replace(snapshot, series=Series())))
        await asyncio.sleep(_PERIOD_S)


def main() -> None:
    """The process's entry point."""
    import uvloop

    faulthandler.enable()
    # The dashboard decides when the session ends: by a Stop, or by going away.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(uvloop.run(_serve()))


if __name__ == "__main__":
    main()
