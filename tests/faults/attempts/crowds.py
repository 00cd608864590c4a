"""Very many connections, and the limits of a machine."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import resource
import socket
import time
from collections.abc import Iterator
from time import perf_counter_ns

import uvloop

from rvtop.load.wire.endpoint import Address, Endpoint
from rvtop.load.wire.pool import ConnectionPool
from rvtop.load.wire.record import Record
from rvtop.load.worker.process import raise_file_limit
from tests.faults.attempts import Skip, attempt
from tests.faults.attempts.cli import mock, ran, scenario
from tests.faults.attempts.network import network, set_ports
from tests.faults.attempts.said import STREAM, chunked


def _mute(port_end, answer: bytes, count: int) -> None:  # type: ignore[no-untyped-def]
    """Accepts, reads, and answers nothing until ``count`` requests wait; then ``answer`` to all of them."""
    raise_file_limit()

    async def go() -> None:
        waiting: list[asyncio.StreamWriter] = []

        async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while True:
                    await reader.readuntil(b"\r\n\r\n")
                    await reader.readexactly(2)
                    waiting.append(writer)
                    if len(waiting) == count:
                        for each in waiting:
                            each.write(answer)
                        waiting.clear()

        server = await asyncio.start_server(one, "127.0.0.1", 0, backlog=8192)
        port_end.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(go())


@contextlib.contextmanager
def mute(answer: bytes, count: int) -> Iterator[int]:
    """The port of such a server, in a process of its own."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(
        target=_mute, args=(theirs, answer, count), daemon=True
    )
    process.start()
    try:
        assert ours.poll(30), "the server did not start"
        yield ours.recv()
    finally:
        process.kill()
        process.join()


async def crowd(port: int, count: int, then: str) -> dict[str, int]:
    """``count`` requests at once; how they ended. ``then``: "answer" waits, "cancel" gives them up."""
    target = Endpoint(Address(f"http://127.0.0.1:{port}"))
    await target.resolve()
    ended: list[Record] = []
    pool = ConnectionPool(target, ended.append)
    for number in range(count):
        pool.submit(Record(number, 0, 0, 0, perf_counter_ns()), target.request(b"{}", "x"))
        if number % 500 == 499:
            await asyncio.sleep(0.05)
    if then == "cancel":
        until = asyncio.get_running_loop().time() + 40
        while pool._connecting and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.1)
            pool.sweep(perf_counter_ns(), 60 * 10**9, None, 60 * 10**9)
        pool.cancel_all("unfinished", "cut")
    async with asyncio.timeout(60):
        while len(ended) < count:
            await asyncio.sleep(0.05)
            pool.sweep(perf_counter_ns(), 60 * 10**9, None, 60 * 10**9)
    pool.close()
    async with asyncio.timeout(20):
        while pool._open:
            await asyncio.sleep(0.05)
    found: dict[str, int] = {}
    for record in ended:
        found[record.error or "ok"] = found.get(record.error or "ok", 0) + 1
    return found


def _descriptors(wanted: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < wanted:
        raise Skip(f"ulimit -Hn is {hard}")
    raise_file_limit()


@attempt("9000 connections that are answered all at once", 150, own_network=True)
def crowds_9000_answered() -> None:
    network()  # ports that wait for their end are not everybody's
    _descriptors(10_000)
    with mute(chunked(STREAM), 9000) as port:
        assert uvloop.run(crowd(port, 9000, "answer")) == {"ok": 9000}


@attempt("9000 connections that are never answered, and given up", 150, own_network=True)
def crowds_9000_never() -> None:
    network()  # ports that wait for their end are not everybody's
    _descriptors(10_000)
    with mute(b"", 100_000) as port:
        before = _memory_mb()
        assert uvloop.run(crowd(port, 9000, "cancel")) == {"unfinished": 9000}
        assert _memory_mb() - before < 700


def _memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@attempt("ulimit -n 200 with 400 in flight: client_limit says so, and the run is marked")
def crowds_few_descriptors() -> None:
    path = scenario(
        "name: many\nworkload: {kind: synthetic, prompt_tokens: 5, output_tokens: 8}\n"
        "phases: [{name: p, rate: 130, duration: 3s, drain: 9s}]\n"
    )
    with mock(ttft_ms=4000) as server:
        before = ("sh", "-c", 'ulimit -n 200; exec "$@"', "sh")
        done = ran(server.url, path, before=before)
    assert done.errors.get("client_limit", 0) > 50, done.errors
    assert set(done.errors) == {"client_limit"}, done.errors
    assert done.summary["client_limited"]
    assert any("ulimit -n" in (row["error_text"] or "") for row in done.rows())


@attempt("forty ephemeral ports for a hundred in flight: client_limit", own_network=True)
def crowds_few_ports() -> None:
    network()
    set_ports(40_000, 40_040)
    path = scenario(
        "name: many\nworkload: {kind: synthetic, prompt_tokens: 5, output_tokens: 8}\n"
        "phases: [{name: p, rate: 40, duration: 3s, drain: 9s}]\n"
    )
    with mock(ttft_ms=4000, port=30_000) as server:
        done = ran(server.url, path)
    assert done.errors.get("client_limit", 0) > 30 and set(done.errors) == {"client_limit"}, done.errors
    assert done.ok >= 20


@attempt("a server that accepts one connection at a time")
def crowds_one_at_a_time() -> None:
    async def go() -> None:
        listener = socket.create_server(("127.0.0.1", 0), backlog=1)
        listener.setblocking(False)
        loop = asyncio.get_running_loop()

        async def serve() -> None:
            while True:
                taken, _ = await loop.sock_accept(listener)
                with taken:
                    taken.setblocking(False)
                    while b"\r\n\r\n{}" not in (await loop.sock_recv(taken, 4096)):
                        pass
                    await loop.sock_sendall(taken, chunked(STREAM, fields=(b"connection: close",)))

        task = asyncio.create_task(serve())
        found = await crowd(listener.getsockname()[1], 20, "answer")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        listener.close()
        assert found == {"ok": 20}, found

    uvloop.run(go())


@attempt("2000 requests a second for two seconds: every one accounted for", own_network=True)
def crowds_rate_2000() -> None:
    network()
    with mock() as server:
        began = time.monotonic()
        done = ran(server.url, "--rate", 2000, "--duration", "2s", "--arrivals", "constant", limit_s=80)
        assert time.monotonic() - began < 70
    assert done.summary["requests"]["planned"] in range(3990, 4011)
