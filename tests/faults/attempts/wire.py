"""Requests against a scripted server, the way a load worker makes them, once for each way of reading."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from time import perf_counter_ns

import uvloop

from rvtop.load.native.loader import PURE_ENV, native
from rvtop.load.wire.endpoint import Address, Endpoint
from rvtop.load.wire.pool import ConnectionPool
from rvtop.load.wire.record import Record
from tests.faults.attempts import add

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
LONG = (50.0, 50.0, 50.0)  # connect, TTFT, stall: none may strike
BODY = b'{"model":"mock","stream":true}'
#: An answer may come in one write, or cut anywhere.
CUTS = (0, 1, 7)


async def heard(reader: asyncio.StreamReader) -> bytes:
    """Reads one request; its body. Raises IncompleteReadError when there is none."""
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
    return await reader.readexactly(int(fields.get(b"content-length", 0)))


async def write(writer: asyncio.StreamWriter, data: bytes, cut: int = 0) -> None:
    """Writes ``data`` at once, or ``cut`` bytes at a time."""
    step = cut or len(data) or 1
    for at in range(0, len(data), step):
        writer.write(data[at : at + step])
        if cut:
            await writer.drain()
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def serving(
    serve: Serve, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """A server on a free port of ``host``, in this loop; its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with contextlib.suppress(
                ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError
            ):
                await serve(reader, writer)
            writer.close()
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(one, host, 0, ssl=tls, limit=1 << 25, backlog=4096)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def reading(pure: bool) -> Iterator[None]:
    """Reads go through asyncio, or through C."""
    before = os.environ.pop(PURE_ENV, None)
    if pure:
        os.environ[PURE_ENV] = "1"
    try:
        yield
    finally:
        os.environ.pop(PURE_ENV, None)
        if before is not None:
            os.environ[PURE_ENV] = before


def ways() -> tuple[bool, ...]:
    """Values for :func:`reading`."""
    return (False, True) if native() else (True,)


async def ask(
    address: Address,
    count: int = 1,
    limits: tuple[float, float, float] = LONG,
    body: bytes = BODY,
    gap_s: float = 0.0,
) -> list[Record]:
    """``count`` requests in turn over one pool; how they ended. No callback of the loop may fail."""
    loop = asyncio.get_running_loop()
    failures: list[object] = []
    loop.set_exception_handler(lambda _, context: failures.append(context))
    target = Endpoint(address)
    await target.resolve()
    ended: list[Record] = []
    pool = ConnectionPool(target, ended.append)
    connect, ttft, stall = (round(limit * 1e9) for limit in limits)
    try:
        for number in range(count):
            if number:
                await asyncio.sleep(gap_s)
            record = Record(number, 0, 0, 0, perf_counter_ns())
            pool.submit(record, target.request(body, f"t-{number}"))
            async with asyncio.timeout(55):
                while len(ended) == number:
                    await asyncio.sleep(0.002)
                    pool.sweep(perf_counter_ns(), connect, ttft, stall)
        assert pool.busy == {}
    finally:
        pool.close()
    async with asyncio.timeout(10):
        while pool._open:  # aborted connections are told of a turn later
            await asyncio.sleep(0.002)
    assert failures == [], failures
    return ended


@dataclass(frozen=True)
class Row:
    """An answer, and how a request that gets it must end ("a|b": one way or the other). ``close``: the server
    closes behind it. ``chunks`` and ``tokens`` of answers that end well; ``says``: words of the error.
    ``cuts``: bytes a write (0: all)."""

    name: str
    about: str
    answer: bytes | Serve
    end: str = "ok"
    close: bool = False
    chunks: int | None = None
    tokens: int | None = None
    says: str = ""
    cuts: tuple[int, ...] = CUTS
    limits: tuple[float, float, float] = LONG
    connections: int | None = None  # for three requests
    gap_s: float = 0.0  # between two of them
    finish: str | None = field(default=None)


def rows(area: str, *table: Row) -> None:
    """Registers each row as an attempt: three requests in turn, for each way of reading and of cutting."""
    for row in table:
        add(f"{area}/{row.name}", row.about, lambda row=row: check(row))  # type: ignore[misc]


def check(row: Row) -> None:
    """Asserts that a row ends as it must."""
    for pure in ways():
        for cut in row.cuts if isinstance(row.answer, bytes) else (0,):
            with reading(pure):
                uvloop.run(_check(row, cut, f"{'asyncio' if pure else 'C'}, cut at {cut}"))


async def _check(row: Row, cut: int, how: str) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not isinstance(row.answer, bytes):
            await row.answer(reader, writer)
            return
        while True:
            await heard(reader)
            await write(writer, row.answer, cut)
            if row.close:
                return

    async with serving(serve) as port:
        ended = await ask(Address(f"http://127.0.0.1:{port}"), 3, row.limits, gap_s=row.gap_s)
    for number, record in enumerate(ended):
        where = f"{how}, request {number}"
        assert (record.error or "ok") in row.end.split("|"), f"{where}: {record.error}: {record.error_text}"
        judge(record, row, where)
    if row.connections is not None:
        assert connections == row.connections, f"{how}: {connections} connections"


def judge(record: Record, row: Row, where: str) -> None:
    """What must hold of every record, and what the row says of it."""
    text = record.error_text
    if record.error is not None:
        assert text and len(text) <= 300 and "\n" not in text, f"{where}: {text!r}"
        assert row.says in text, f"{where}: {text!r}"
        return
    assert record.sent_ns <= record.headers_ns <= record.first_ns <= record.last_ns, where
    assert len(record.gaps) == record.chunks - 1 and min(record.gaps, default=0) >= 0, where
    if row.chunks is not None:
        assert record.chunks == row.chunks, f"{where}: {record.chunks} chunks"
    if row.tokens is not None:
        assert record.tokens == row.tokens, f"{where}: {record.tokens} tokens"
    if row.finish is not None:
        assert record.finish == row.finish, f"{where}: finish {record.finish}"
