"""The client against scripted servers: what odd answers mean, and what a connection is good for."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import resource
import socket
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from time import perf_counter_ns
from typing import Any

import pytest
import uvloop

from rvtop.load.native.loader import PURE_ENV, native
from rvtop.load.wire.endpoint import Address, Endpoint
from rvtop.load.wire.native_wire import NativeWire
from rvtop.load.wire.pool import ConnectionPool
from rvtop.load.wire.record import Record

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


def event(text: str, finish: str | None = None) -> bytes:
    chunk = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


STREAM = event("a") + event("b") + event("c", "stop") + b"data: [DONE]\n\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Client:
    """A pool at a scripted server, and what its requests came to."""

    def __init__(self, target: Endpoint) -> None:
        self.target = target
        self.ended: list[Record] = []
        self.sent: list[Record] = []
        self.pool = ConnectionPool(target, self.ended.append, self.sent.append)

    def schedule(self, in_ms: float) -> Record:
        """A request is to go out by itself ``in_ms`` from now."""
        record = Record(len(self.sent), 0, 0, 0, perf_counter_ns() + round(in_ms * 1e6))
        self.pool.wire.schedule(record, self.target.request(b"{}", "x"), record.intended_ns)
        return record

    async def until(self, true: Callable[[], object]) -> None:
        async with asyncio.timeout(240):
            while not true():
                await asyncio.sleep(0.005)
                self.pool.reap()

    async def ask(self, *, stall_s: float = 50.0, ttft_s: float = 50.0) -> Record:
        """One request to its end."""
        before = len(self.ended)
        self.pool.submit(Record(before, 0, 0, 0, perf_counter_ns()), self.target.request(b"{}", "x"))
        async with asyncio.timeout(240):
            while len(self.ended) == before:
                await asyncio.sleep(0.005)
                self.pool.sweep(perf_counter_ns(), 50 * 10**9, int(ttft_s * 1e9), int(stall_s * 1e9))
        return self.ended[-1]


@pytest.fixture(params=[asyncio.DefaultEventLoopPolicy, uvloop.EventLoopPolicy], ids=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    """Workers run on uvloop; the client must not depend on it."""
    made: asyncio.AbstractEventLoopPolicy = request.param()
    return made


@pytest.fixture(params=["native", "python"])
async def served(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[[Serve], Awaitable[Client]]]:
    """Starts scripted servers. No callback of the loop may have failed by the end."""
    if request.param == "python":
        monkeypatch.setenv(PURE_ENV, "1")
    elif not native():
        pytest.skip("the read path in C was not built here")
    loop, failures = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: failures.append(context))
    stack = contextlib.AsyncExitStack()

    async def start(serve: Serve) -> Client:
        async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await serve(reader, writer)
            writer.close()

        server = await stack.enter_async_context(
            await asyncio.start_server(one, "127.0.0.1", 0, limit=1 << 22)
        )
        # A fixed size, which connections inherit: what grows by itself takes 8 MiB at once, now and then.
        server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
        client = Client(Endpoint(Address(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")))
        stack.callback(client.pool.close)
        return client

    yield start
    await stack.aclose()
    assert failures == []


async def hear(reader: asyncio.StreamReader) -> None:
    """Reads one request (its body is {})."""
    await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(2)


async def hold(reader: asyncio.StreamReader) -> None:
    while await reader.read(4096):
        pass


async def test_a_stream_that_said_done_but_never_ends_is_whole(served: Any) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hear(reader)
        writer.write(CHUNKED + chunk(STREAM))
        await hold(reader)

    client = await served(serve)
    record = await client.ask(stall_s=0.2)
    assert (record.error, record.chunks, record.finish) == (None, 3, "stop")
    assert client.pool.idle == 0


async def test_a_finish_reason_is_enough_when_the_rest_never_comes(served: Any) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hear(reader)
        writer.write(CHUNKED + chunk(event("a")) + chunk(event("b", "length")) + b"5\r\ndata:")
        await hold(reader)

    record = await (await served(serve)).ask(stall_s=0.2)
    assert (record.error, record.chunks, record.finish) == (None, 2, "length")


async def test_done_without_a_token_is_empty_even_when_it_hangs(served: Any) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hear(reader)
        writer.write(CHUNKED + chunk(b"data: [DONE]\n\n"))
        await hold(reader)

    assert (await (await served(serve)).ask(stall_s=0.2)).error == "empty"


async def test_an_error_whose_body_hangs_keeps_its_class(served: Any) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hear(reader)
        writer.write(b"HTTP/1.1 503 Busy\r\ncontent-length: 999\r\n\r\nthe engine restarts")
        await hold(reader)

    record = await (await served(serve)).ask(stall_s=0.2)
    assert (record.error, record.error_text) == ("http_503", "the engine restarts")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nxx", "bad_stream"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n", "reset"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 429 Later\r\ncontent-length: 0\r\n\r\n", "http_429"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "http_204"),
        (b"HTTP/1.1 200 OK\r\n", "reset"),
        (b"", "reset"),
        (CHUNKED, "truncated"),
        (OK + b"\r\n", "empty"),
        (OK + b"\r\n" + event("a") + b'data: {"choi', "truncated"),
        (OK + b"\r\n" + event("a", "stop") + b'data: {"choi', None),
        (OK + b"\r\n" + STREAM.rstrip(b"\n"), None),
        (OK + b"\r\n" + STREAM, None),
        (b"HTTP/1.0 200 OK\r\n\r\n" + STREAM, None),
        (OK + b"content-length: %d\r\n\r\n" % len(STREAM) + STREAM + b"more", None),
        (CHUNKED + chunk(STREAM) + b"nonsense\r\n", None),
        (CHUNKED + chunk(event("a")) + b"nonsense\r\n", "bad_stream"),
        (OK + b"content-encoding: br\r\n\r\n\x8b\x02\x80", "bad_stream"),
        (OK + b"content-encoding: gzip\r\n\r\n" + STREAM, "bad_stream"),
    ],
)
async def test_an_answer_and_a_close(served: Any, answer: bytes, error: str | None) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hear(reader)
        writer.write(answer)

    client = await served(serve)
    record = await client.ask()
    assert record.error == error, record.error_text
    async with asyncio.timeout(240):
        while client.pool._open:
            await asyncio.sleep(0.005)
    assert client.pool.idle == 0


def packed(data: bytes, wbits: int) -> bytes:
    packer = zlib.compressobj(wbits=wbits)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize(
    ("encoding", "wbits"), [("gzip", 31), ("x-gzip", 31), ("deflate", 15), ("DEFLATE", -15)]
)
async def test_compressed_streams_are_read_in_any_pieces(
    served: Any, encoding: str, wbits: int, size: int
) -> None:
    body = packed(STREAM, wbits)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hear(reader)
        writer.write(CHUNKED.replace(b"\r\n\r\n", f"\r\ncontent-encoding: {encoding}\r\n\r\n".encode()))
        for at in range(0, len(body), size):
            writer.write(chunk(body[at : at + size]))
        writer.write(b"0\r\n\r\n")
        await hold(reader)

    client = await served(serve)
    record = await client.ask()
    assert (record.error, record.chunks) == (None, 3), record.error_text
    assert client.pool.idle == 1


async def test_a_body_that_unpacks_to_hundreds_of_megabytes_is_refused_in_little_memory(served: Any) -> None:
    packer = zlib.compressobj(wbits=31)
    bomb = b"".join(packer.compress(b"\0" * (1 << 20)) for _ in range(256)) + packer.flush()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hear(reader)
        writer.write(OK + b"content-encoding: gzip\r\n\r\n" + bomb)
        await writer.drain()

    client = await served(serve)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (await client.ask()).error == "bad_stream"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB


async def test_connections_that_idled_too_long_are_let_go(served: Any) -> None:
    """After a stall there can be thousands of them, and each costs memory and a descriptor."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hear(reader)
        writer.write(CHUNKED + chunk(STREAM) + b"0\r\n\r\n")
        await hold(reader)

    client = await served(serve)
    assert (await client.ask()).error is None
    pool, now = client.pool, perf_counter_ns()
    pool.sweep(now + 2_000_000_000, 1, None, None)
    assert pool.idle == 1
    pool.sweep(now + 3_000_000_001, 1, None, None)
    assert pool.idle == 0
    async with asyncio.timeout(240):
        while pool._open:
            await asyncio.sleep(0.005)


async def test_a_server_that_speaks_before_it_is_asked_is_not_answered(served: Any) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        await hold(reader)

    assert (await (await served(serve)).ask()).error in ("reset", "bad_stream")


async def test_an_idle_connection_that_speaks_is_not_used_again(served: Any) -> None:
    connections, spoke = [], asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        await hear(reader)
        writer.write(CHUNKED + chunk(STREAM) + b"0\r\n\r\n")
        if len(connections) == 1:
            await spoke.wait()
            writer.write(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")
        await hold(reader)

    client = await served(serve)
    assert (await client.ask()).error is None
    assert client.pool.idle == 1
    spoke.set()
    async with asyncio.timeout(240):
        while client.pool._open:
            await asyncio.sleep(0.005)
    assert (await client.ask()).error is None
    assert len(connections) == 2


@pytest.mark.parametrize("junk", [b"SSH-2.0-OpenSSH_9.6\r\n", CHUNKED + chunk(STREAM) + b"0\r\n\r\n"])
async def test_whoever_submits_as_a_request_ends_hears_of_it_whatever_came_behind(
    served: Any, junk: bytes
) -> None:
    """In the same read as the end of the first answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hear(reader)
        writer.write(CHUNKED + chunk(STREAM) + b"0\r\n\r\n" + junk)
        await hold(reader)

    client = await served(serve)
    ended: list[Record] = []

    def go_on(record: Record) -> None:
        ended.append(record)
        if len(ended) == 1:
            client.pool.submit(Record(1, 0, 0, 0, perf_counter_ns()), client.target.request(b"{}", "x"))

    client.pool._on_done = go_on
    client.pool.submit(Record(0, 0, 0, 0, perf_counter_ns()), client.target.request(b"{}", "x"))
    await client.until(lambda: len(ended) == 2 or (client.sent[-1].seq and not client.pool.busy))
    assert [record.seq for record in ended] == [0, 1]
    assert ended[0].error is None
    assert not client.pool.busy


async def test_the_request_is_what_servers_expect(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    heads = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n"))
        await reader.readexactly(2)
        writer.write(CHUNKED + chunk(STREAM) + b"0\r\n\r\n")
        await hold(reader)

    client = await served(serve)
    monkeypatch.setenv("SOME_KEY", "secret")
    address = Address(client.target._address.url, "/v1/completions", "SOME_KEY", {"X-More": "yes"})
    client.target = client.pool._target = Endpoint(address)
    assert (await client.ask()).error is None
    port = address.url.rpartition(":")[2]
    assert heads[0][:2] == ["POST /v1/completions HTTP/1.1", f"Host: 127.0.0.1:{port}"]
    fields = dict(line.split(": ", 1) for line in heads[0][1:] if line)
    assert fields == {
        "Host": f"127.0.0.1:{port}",
        "Content-Type": "application/json",
        "Accept": "text/event-stream",
        "Accept-Encoding": "identity",
        "User-Agent": "rvtop",
        "Authorization": "Bearer secret",
        "X-More": "yes",
        "X-Request-Id": "x",
        "Content-Length": "2",
    }
    assert "secret" not in repr(address)


async def test_what_was_cancelled_while_it_connected_never_reaches_the_server(served: Any) -> None:
    heard = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(4096))

    client = await served(serve)
    records = [Record(n, 0, 0, 0, perf_counter_ns()) for n in range(50)]
    for record in records:
        client.pool.submit(record, client.target.request(b"{}", "x"))
    client.pool.cancel_all("unfinished", "cut")
    assert [record.error for record in client.ended] == ["unfinished"] * 50
    assert client.pool.busy == {}
    await client.until(lambda: not client.pool._open)
    await asyncio.sleep(0.1)
    assert not any(heard)
    assert len(client.ended) == 50


async def test_each_end_is_told_once(served: Any) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hear(reader)
        writer.write(CHUNKED + chunk(event("a")))
        await hold(reader)

    client = await served(serve)
    record = Record(0, 0, 0, 0, perf_counter_ns())
    client.pool.submit(record, client.target.request(b"{}", "x"))
    async with asyncio.timeout(240):
        while not record.first_ns:
            await asyncio.sleep(0.005)
    client.pool.cancel(record, "unfinished", "cut")
    client.pool.cancel(record, "cancelled", "later")
    client.pool.cancel_all("cancelled", "later")
    client.pool.close()
    await asyncio.sleep(0.02)
    assert [(r.error, r.chunks) for r in client.ended] == [("unfinished", 1)]


async def test_where_no_more_sockets_can_be_watched_asyncio_reads(served: Any) -> None:
    class Full:
        def add(self, *_: object) -> None:
            raise OSError(errno.ENOSPC, "no space left on device")

        watch = add

        def __getattr__(self, name: str) -> Any:
            return getattr(poller, name)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(CHUNKED + chunk(STREAM) + b"0\r\n\r\n")
        await hold(reader)

    client = await served(serve)
    wire = client.pool.wire
    if not isinstance(wire, NativeWire):
        pytest.skip("without the read path in C asyncio reads anyway")
    poller, wire.poller = wire.poller, Full()  # type: ignore[assignment]
    assert not client.pool.wire.watch(0, print)
    record = await client.ask()
    assert (record.error, record.chunks) == (None, 3)
    wire.poller = poller


async def test_a_connection_whose_request_was_not_read_to_its_end_is_not_used_again(served: Any) -> None:
    heads = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        if len(heads) == 1:  # an early answer; the rest of the body is read after it
            writer.write(b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 4\r\n\r\nfull")
            await asyncio.sleep(0.1)
        else:
            writer.write(CHUNKED + chunk(STREAM) + b"0\r\n\r\n")
        await hold(reader)

    client = await served(serve)
    big = Record(0, 0, 0, 0, perf_counter_ns())
    client.pool.submit(big, client.target.request(b"x" * (32 << 20), "big"))
    async with asyncio.timeout(240):
        while not client.ended:
            await asyncio.sleep(0.001)
    assert big.error == "http_429"
    record = await client.ask()
    assert (record.error, record.chunks, len(heads)) == (None, 3, 2)
    assert heads[1].startswith(b"POST /v1")


# -- requests that the poller sends by itself ---------------------------------------------------


class Scripted:
    """A server that answers the first request well, and then does as a test has it."""

    def __init__(self, then: Serve) -> None:
        self.heard: list[int] = []  # the number of its connection, for each request
        self._connections = 0
        self._then = then

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, self._connections = self._connections, self._connections + 1
        await hear(reader)
        self.heard.append(number)
        writer.write(CHUNKED + chunk(STREAM) + b"0\r\n\r\n")
        if number == 0:
            await self._then(reader, writer)
        else:
            await hold(reader)


@pytest.fixture
def scheduling(served: Any) -> Callable[[Serve], Awaitable[tuple[Client, Scripted]]]:
    """A client with a connection that a request could be scheduled on, and its server."""

    async def start(then: Serve) -> tuple[Client, Scripted]:
        server = Scripted(then)
        client = await served(server)
        record = await client.ask()
        assert (record.error, client.sent) == (None, [record])
        assert client.pool.idle == 1
        if not client.pool.wire.can_schedule:
            pytest.skip("without the read path in C nothing is scheduled")
        return client, server

    return start


async def test_a_launched_request_is_sent_at_its_time(scheduling: Any) -> None:
    async def again(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hear(reader)
        writer.write(CHUNKED + chunk(STREAM) + b"0\r\n\r\n")
        await hold(reader)

    client, server = await scheduling(again)
    record = client.schedule(40)
    assert (client.pool.wire.scheduled, client.pool.idle, len(client.pool.busy)) == (1, 1, 0)
    await client.until(lambda: len(client.ended) == 2)
    assert client.sent == client.ended
    assert (record.error, record.chunks, record.finish) == (None, 3, "stop")
    assert record.intended_ns <= record.sent_ns < record.first_ns
    assert (client.pool.wire.scheduled, client.pool.idle, len(client.pool.busy)) == (0, 1, 0)
    assert server.heard == [0]


async def test_what_finds_no_connection_idle_opens_one(scheduling: Any) -> None:
    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.02)
        writer.close()

    client, server = await scheduling(leave)
    record = client.schedule(1500)  # long after the server's word
    await client.until(lambda: len(client.ended) == 2)
    assert (record.error, record.chunks) == (None, 3)
    assert record.sent_ns >= record.intended_ns
    assert (server.heard, client.pool.wire.scheduled) == ([0, 1], 0)


async def test_what_comes_unasked_before_a_launch_is_not_its_answer(scheduling: Any) -> None:
    async def chatter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.02)
        writer.write(CHUNKED + chunk(event("x", "stop")) + b"0\r\n\r\n")
        await hold(reader)

    client, server = await scheduling(chatter)
    record = client.schedule(1500)  # long after the server's word
    await client.until(lambda: len(client.ended) == 2)
    assert (record.error, record.chunks, record.finish) == (None, 3, "stop")
    assert server.heard == [0, 1]


async def test_what_is_called_back_is_not_sent_and_not_told(scheduling: Any) -> None:
    async def watch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(100))

    heard: list[bytes] = []
    client, _ = await scheduling(watch)
    client.schedule(30)
    client.schedule(40)
    assert client.pool.wire.scheduled == 2
    client.pool.cancel_all("cancelled", "the run was stopped")
    assert client.pool.wire.scheduled == 0
    await asyncio.sleep(0.1)
    assert (heard, len(client.sent), len(client.ended)) == ([], 1, 1)


async def test_a_launched_request_ends_as_any_other(scheduling: Any) -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hold(reader)

    client, _ = await scheduling(never)
    late = client.schedule(0)
    await asyncio.sleep(0.05)  # nobody has looked since it was sent
    client.pool.sweep(perf_counter_ns() + 10**9, 50 * 10**9, 10**9, None)
    assert (late.error, client.ended[1:], client.sent[1:]) == ("timeout_ttft", [late], [late])
    assert late.intended_ns <= late.sent_ns <= perf_counter_ns()

    client, _ = await scheduling(never)
    given_up = client.schedule(0)
    await asyncio.sleep(0.05)
    client.pool.cancel_all("cancelled", "later")
    assert (given_up.error, client.ended[1:], client.sent[1:]) == ("cancelled", [given_up], [given_up])


async def test_a_server_that_leaves_instead_of_an_answer_is_a_reset(scheduling: Any) -> None:
    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hear(reader)

    client, server = await scheduling(leave)
    record = client.schedule(5)
    await client.until(lambda: len(client.ended) == 2)
    assert (record.error, server.heard) == ("reset", [0])
    assert record.sent_ns >= record.intended_ns


async def test_what_is_launched_out_of_turn_is_sent_in_turn(scheduling: Any) -> None:
    async def again(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await hear(reader)
            writer.write(CHUNKED + chunk(STREAM) + b"0\r\n\r\n")

    client, _ = await scheduling(again)
    later, sooner = client.schedule(120), client.schedule(40)
    await client.until(lambda: len(client.ended) == 3)
    assert client.ended[1:] == [sooner, later]
    assert [record.error for record in client.ended] == [None] * 3
    late = client.schedule(-1000)
    await client.until(lambda: len(client.ended) == 4)
    assert (late.error, late.chunks, late.sent_ns - late.intended_ns > 10**9) == (None, 3, True)


async def test_what_the_loop_has_to_do_it_gets_to_do(served: Any) -> None:
    """The poller lingers only while the loop reads and writes nothing: here a request is longer than what the
    socket takes at once."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            left = 8 << 20
            while left:
                left -= len(await reader.read(left))
                await asyncio.sleep(0)
            writer.write(CHUNKED + chunk(STREAM) + b"0\r\n\r\n")

    client = await served(serve)
    lingers: list[int] = []
    wire = client.pool.wire
    if not isinstance(wire, NativeWire):
        pytest.skip("without the read path in C there is no poller")
    poller = wire.poller

    class Noting:
        def poll(self, linger_ns: int) -> None:
            lingers.append(linger_ns)
            poller.poll(0)  # the server is on this loop

        def __getattr__(self, name: str) -> Any:
            return getattr(poller, name)

    wire.poller = Noting()  # type: ignore[assignment]
    wire.alone = lambda: True
    for number in range(2):
        lingers.clear()
        record = Record(number, 0, 0, 0, perf_counter_ns())
        client.pool.submit(record, client.target.request(b"x" * (8 << 20), "big"))
        await client.until(lambda record=record: record in client.ended)
        assert (record.error, record.chunks) == (None, 3)
        assert set(lingers) == {0}
    lingers.clear()
    poller.due(1)
    await client.until(lambda: lingers)
    assert lingers[0] > 0
    wire.poller = poller


async def test_no_connection_is_opened_while_one_waits_to_land(served: Any) -> None:
    """The second answer has ended, and nobody was told yet, when the third request is sent."""
    numbers: list[int] = []
    connections = answered = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections, answered
        number, connections = connections, connections + 1
        while True:
            await hear(reader)
            numbers.append(number)
            if len(numbers) == 2:
                await hold(reader)
            for part in (CHUNKED, chunk(event("a")), chunk(event("b", "stop")) + b"0\r\n\r\n"):
                writer.write(part)
                await asyncio.sleep(0.02)  # the first token comes by itself, so that something is learned
            answered += 1

    client = await served(serve)
    await client.ask()
    client.pool.wire.deliver_now(False)
    for number in (1, 2):
        client.pool.submit(Record(number, 0, 0, 0, perf_counter_ns()), client.target.request(b"{}", "x"))
        async with asyncio.timeout(240):
            while len(numbers) <= number:
                await asyncio.sleep(0.005)
    async with asyncio.timeout(240):
        while answered < 2:  # `until` would have it told
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.1)
    waiting = len(client.ended) == 1
    third = Record(3, 0, 0, 0, perf_counter_ns())
    client.pool.submit(third, client.target.request(b"{}", "x"))
    await client.until(lambda: third in client.ended)
    assert numbers == [0, 0, 1, 1]
    assert waiting == isinstance(client.pool.wire, NativeWire)
