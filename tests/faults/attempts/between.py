"""What may stand between client and server: a proxy that delays, splits, merges, resets, half-closes or
swallows; and servers that restart, freeze and crawl under load."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import uvloop

from rvtop.load.wire.endpoint import Address
from tests.faults.attempts import attempt
from tests.faults.attempts.cli import long_run, mock, ran, stopped
from tests.faults.attempts.said import STREAM, TWO, chunk, chunked, head
from tests.faults.attempts.wire import ask, heard, reading, serving, ways, write
from tests.mock.fast import any_mock

#: Hands one piece of an answer on; False: the connection ends.
Pass = Callable[[bytes, asyncio.StreamWriter], Awaitable[bool]]


@contextlib.asynccontextmanager
async def proxy(port: int, back: Pass) -> AsyncIterator[int]:
    """A TCP proxy in front of ``port``; what comes back goes through ``back``."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)

        async def forth() -> None:
            while data := await reader.read(1 << 16):
                up_writer.write(data)
            up_writer.close()

        async def backward() -> None:
            while data := await up_reader.read(1 << 16):
                if not await back(data, writer):
                    break
            writer.close()
            up_writer.close()

        tasks = [asyncio.create_task(forth()), asyncio.create_task(backward())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async with serving(serve) as front:
        yield front


def through(
    back: Pass, ends: set[str], count: int = 3, limits: tuple[float, float, float] = (9, 9, 9)
) -> None:
    """Requests to a good server through such a proxy end in one of ``ends``, for each way of reading."""

    async def good(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await heard(reader)
            for part in (head(b"transfer-encoding: chunked"), chunk(TWO), chunk(STREAM), b"0\r\n\r\n"):
                await write(writer, part)
                await asyncio.sleep(0.005)

    async def go() -> None:
        async with serving(good) as port, proxy(port, back) as front:
            found = [r.error or "ok" for r in await ask(Address(f"http://127.0.0.1:{front}"), count, limits)]
            assert set(found) <= ends, found

    for pure in ways():
        with reading(pure):
            uvloop.run(go())


@attempt("a proxy that delays each piece by 50 ms")
def between_delays() -> None:
    async def back(data: bytes, writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(0.05)
        writer.write(data)
        return True

    through(back, {"ok"})


@attempt("a proxy that splits at every byte")
def between_splits() -> None:
    async def back(data: bytes, writer: asyncio.StreamWriter) -> bool:
        await write(writer, data, 1)
        return True

    through(back, {"ok"})


@attempt("a proxy that merges: it holds all back for 60 ms")
def between_merges() -> None:
    held: dict[asyncio.StreamWriter, bytes] = {}

    async def back(data: bytes, writer: asyncio.StreamWriter) -> bool:
        if writer not in held:
            held[writer] = b""
            asyncio.get_running_loop().call_later(0.06, lambda: writer.write(held.pop(writer)))
        held[writer] += data
        return True

    through(back, {"ok"})


@attempt("a proxy that resets in the middle of each answer")
def between_resets() -> None:
    async def back(data: bytes, writer: asyncio.StreamWriter) -> bool:
        writer.write(data)
        if b"HTTP/1.1" in data:
            return True
        await asyncio.sleep(0.02)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        return False

    through(back, {"reset", "truncated"})


@attempt("a proxy that half-closes towards us in the middle of each answer")
def between_half_closes() -> None:
    async def back(data: bytes, writer: asyncio.StreamWriter) -> bool:
        writer.write(data)
        if b"HTTP/1.1" in data:
            return True
        with contextlib.suppress(RuntimeError, OSError):  # the client has gone
            writer.write_eof()
            await asyncio.sleep(0.3)
        return False

    through(back, {"truncated"})


@attempt("a proxy that swallows answers: timeout_ttft")
def between_swallows() -> None:
    async def back(data: bytes, writer: asyncio.StreamWriter) -> bool:
        return True

    through(back, {"timeout_ttft"}, limits=(5, 0.2, 5))


@attempt("a proxy that swallows all behind the head: timeout_ttft; behind the first token: stalled")
def between_swallows_later() -> None:
    async def back(data: bytes, writer: asyncio.StreamWriter) -> bool:
        if b"HTTP/1.1" in data or ("하나".encode() in data and b"usage" not in data):
            writer.write(data)
        return True

    through(back, {"timeout_ttft", "stalled"}, limits=(5, 0.2, 0.2))


@attempt("a proxy that sends every answer twice")
def between_repeats() -> None:
    async def back(data: bytes, writer: asyncio.StreamWriter) -> bool:
        writer.write(data + data)
        return True

    through(back, {"ok", "bad_stream", "truncated"})


@attempt("a gateway that answers 502 in HTML, closes, and answers well again")
def between_gateway_502() -> None:
    asked = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        while True:
            await heard(reader)
            asked += 1
            if asked % 2:
                writer.write(b"HTTP/1.1 502 Bad Gateway\r\nconnection: close\r\n\r\n<h1>502</h1>")
                return
            writer.write(chunked(STREAM))

    async def go() -> None:
        nonlocal asked
        asked = 0
        async with serving(serve) as port:
            found = [r.error or "ok" for r in await ask(Address(f"http://127.0.0.1:{port}"), 6)]
            assert found == ["http_502", "ok"] * 3, found

    for pure in ways():
        with reading(pure):
            uvloop.run(go())


@attempt("a server that restarts under load: refused or reset, then ok again, all accounted for")
def between_restart() -> None:
    with mock() as first:
        process, run = long_run(first.url)
        port = first.port
        first.stop()
        time.sleep(0.5)
        with mock(port=port):
            time.sleep(2)
            done = stopped(process, run)
    rows = done.rows()
    failed = [row["intended_ns"] for row in rows if row["error"] not in (None, "cancelled")]
    assert failed and set(done.errors) <= {"refused", "reset", "truncated", "cancelled"}, done.errors
    assert any(row["error"] is None and row["intended_ns"] > max(failed) for row in rows), (
        "it never came back"
    )


@attempt("a server that goes for good: target lost, exit 3, within ten seconds or so")
def between_gone() -> None:
    with mock() as server:
        process, run = long_run(server.url)
    from tests.faults.attempts.cli import check, ended

    done = ended(process, run, 40)
    check(done, 3, "lost")


@attempt("a server stopped for 3 s (SIGSTOP) and woken: late, but answered")
def between_freeze() -> None:
    with mock() as server:
        process, run = long_run(server.url)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            time.sleep(3)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        time.sleep(2)
        done = stopped(process, run)
    assert set(done.errors) <= {"cancelled"}, done.errors
    slow = [
        row
        for row in done.rows()
        if row["error"] is None and row["first_token_ns"] - row["intended_ns"] > 2e9
    ]
    assert len(slow) > 20, f"{len(slow)} requests felt it"


@attempt(
    "a server stopped for longer than --stall-timeout and --ttft-timeout: stalled, timeout_ttft, then ok"
)
def between_freeze_beyond_timeouts() -> None:
    with mock(ttft_ms=20, step_ms=30) as server:
        process, run = long_run(server.url, "--stall-timeout", 1, "--ttft-timeout", 1, "--connect-timeout", 1)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            time.sleep(3.5)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        time.sleep(1.5)
        done = stopped(process, run)
    assert {"stalled", "timeout_ttft"} <= set(done.errors), done.errors
    assert set(done.errors) <= {"stalled", "timeout_ttft", "timeout_connect", "cancelled"}, done.errors


@attempt("answers at a byte in 10 ms: the end of the drain cuts them as unfinished")
def between_crawls() -> None:
    async def crawl(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await heard(reader)
        for byte in chunked(STREAM):
            writer.write(bytes([byte]))
            await asyncio.sleep(0.01)

    async def go() -> None:
        async with serving(crawl) as port:
            (record,) = await ask(Address(f"http://127.0.0.1:{port}"), 1, (5, 50, 0.5))
            assert record.error is None, record.error

    uvloop.run(go())
    with any_mock(ttft_ms=5, step_ms=1000, tokens=64) as slow:
        path = "name: crawl\nworkload: {kind: synthetic, prompt_tokens: 5, output_tokens: 64}\n"
        path += "phases: [{name: p, rate: 10, duration: 1s, drain: 1s}]\n"
        from tests.faults.attempts.cli import scenario

        done = ran(slow.url, scenario(path), code=1)
    assert set(done.errors) == {"unfinished"}, done.errors
