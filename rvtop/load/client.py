"""The HTTP/1.1 client under load: one connection, one request at a time, one clock read per socket read.

A read is dated by the turn of the event loop that brought it: whatever one turn finds readable had
arrived when the turn began, so the time that we spend on a burst of reads is not added to those at
its end. The loop's own clock tells turns apart (uvloop's stands still during one, in milliseconds);
two turns of one millisecond count as one only while reads follow each other without a pause, so a
date is never early by more than that millisecond.

Built on ``asyncio.Protocol`` and ``httptools`` because every layer above them costs more per token
than the token does, and what the client spends there shows up as latency the server never had.
Nothing is retried. A connection that has been idle for long is not used again: servers close
theirs after a few seconds (uvicorn: 5), and a request that meets the closing would be lost.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import zlib
from collections.abc import Callable, Iterator
from time import perf_counter_ns

import httptools

from rvtop.load.answer import HeardCompletion
from rvtop.load.record import Record
from rvtop.load.schedule import NEVER
from rvtop.load.stream import Completion, Fresh
from rvtop.load.target import Target

_IDLE_LIMIT_NS = 3_000_000_000
_ERROR_BODY_LIMIT = 4096
_HEAD_LIMIT = 1 << 16
_PIECE = 1 << 20  # most that is decompressed at once
_TURN_GAP_NS = 200_000
_OUT_OF_DESCRIPTORS = {errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS}

Done = Callable[[Record], None]


class Connection(asyncio.Protocol):
    """One connection to the target; idle in the pool, or busy with one Record."""

    __slots__ = (
        "_body",
        "_close",
        "_completion",
        "_decoder",
        "_framed",
        "_head",
        "_parser",
        "_pool",
        "_status",
        "idle_since",
        "read_ns",
        "record",
        "transport",
    )

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self.transport: asyncio.Transport | None = None
        self.record: Record | None = None
        self.idle_since = 0
        self.read_ns = 0  # last bytes of the response
        self._status = 0
        self._head = 0  # bytes of a head that is not complete yet
        self._parser = httptools.HttpResponseParser(self)

    # -- sending -----------------------------------------------------------------------------

    def send(self, record: Record, request: bytes) -> None:
        """Writes one request; its response is read into ``record``."""
        assert self.transport is not None
        self.record = record
        reader = Completion if record.heard is None else HeardCompletion
        self._completion = reader(record, self._pool.fresh)
        self._decoder: _Decompressor | None = None
        self._body = b""
        self._framed = False
        self._close = False
        self._status = 0
        self._head = 0
        self.read_ns = 0
        if self.transport.is_closing():  # the server accepted and closed at once
            self.abort("reset", "the server closed the connection before the request was sent")
            return
        self.transport.write(request)

    def abort(self, kind: str, text: str) -> None:
        """Ends the request now with an error of ours, and the connection with it."""
        if self.record is not None:
            self.record.fail(kind, text)
        if self.transport is not None:
            self.transport.abort()
        self._finish(reuse=False)

    @property
    def told(self) -> bool:
        """Whether the server has said how the request ends: by an error's status, or the stream's end."""
        return self._completion.whole if self._status == 200 else self._status > 200

    def give_up(self, kind: str, text: str) -> None:
        """Ends a request that nothing more is hoped of; what the server has told by now stands."""
        if not self.told:
            self.abort(kind, text)
            return
        if self._status == 200:
            self._completion.end(self.read_ns, text)
        else:
            self._http_error()
        self._finish(reuse=False)

    # -- asyncio.Protocol --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._pool.opened(self)

    def data_received(self, data: bytes) -> None:
        pool, now = self._pool, perf_counter_ns()
        if now >= pool.due_ns and self.record is not None:
            pool.on_due()  # in a burst of reads a timer would wait for the last of them
        turn = pool.turn()
        if turn != pool.turn_ms or now - pool.seen_ns > _TURN_GAP_NS:
            pool.turn_ms, pool.turn_ns = turn, now
        pool.seen_ns = now
        self.read_ns = pool.turn_ns if self.record is None or pool.turn_ns > self.record.sent_ns else now
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._broken(error)
        if not self._status:
            self._head += len(data)
            if self._head > _HEAD_LIMIT:
                self.abort("bad_stream", f"a response head longer than {_HEAD_LIMIT} bytes")

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.forget(self)
        record = self.record
        if record is None:
            return
        if self._status == 200:
            # A body without a length ends with the connection (RFC 9112 §6.3); any other was cut.
            cut = self._framed or exc is not None
            self._completion.end(perf_counter_ns(), _why(exc) if cut else "", reset=exc is not None)
        elif self._status:
            self._http_error()
        elif isinstance(exc, ssl.SSLError):  # TLS 1.3 refuses a client's certificate behind the handshake
            record.fail("tls", exc.reason or str(exc))
        else:
            record.fail("reset", f"{_why(exc)} before an answer")
        self._finish(reuse=False)

    def _broken(self, error: Exception) -> None:
        """The bytes are no HTTP any more."""
        if self.record is not None:
            self.give_up("bad_stream", f"not an HTTP/1.1 response: {error}")
        elif self.transport is not None:
            self.transport.abort()

    # -- httptools ---------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.record is None and self.transport is not None:
            self.transport.abort()  # nobody asked: this connection can't be trusted with the next request

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.lower()
        if key == b"content-encoding":
            self._decoder = _decompressor(value)
        elif key == b"transfer-encoding" or key == b"content-length":
            self._framed = True
        elif key == b"connection":
            self._close = value.lower() == b"close"

    def on_headers_complete(self) -> None:
        if self.record is not None:
            self._status = self._parser.get_status_code()
            if self._status >= 200:
                self.record.headers_ns = self.read_ns

    def on_body(self, body: bytes) -> None:
        if self.record is None:  # the request was ended by us; the parser finishes its buffer
            return
        if self._decoder is not None:
            self._compressed(self._decoder, body)
        elif self._status == 200:
            self._completion.feed(body, self.read_ns)
            if self.record.error is not None:
                self.abort(self.record.error, "")  # nothing that follows can mend it; let the server stop
        elif len(self._body) < _ERROR_BODY_LIMIT:
            self._body += body[:_ERROR_BODY_LIMIT]

    def _compressed(self, decoder: _Decompressor, body: bytes) -> None:
        try:
            self._decoder = None  # a piece is as good as a body that came as it is
            for piece in decoder.decompress(body):
                self.on_body(piece)
        except zlib.error as error:
            self.abort("bad_stream", f"the compressed body is damaged: {error}")
        self._decoder = decoder

    def on_message_complete(self) -> None:
        if self.record is None:
            return
        if self._status < 200:  # 1xx: the answer is still to come
            self._status = 0
            return
        if self._status == 200:
            self._completion.end(self.read_ns)
        else:
            self._http_error()
        self._finish(reuse=not self._close and self._parser.should_keep_alive())

    # -- the end of a request ----------------------------------------------------------------

    def _http_error(self) -> None:
        if self.record is not None:
            said = self._body.decode("utf-8", "replace").strip()
            text = "redirects are not followed" if 300 <= self._status < 400 else said or "no body"
            self.record.fail(f"http_{self._status}", text)

    def _finish(self, *, reuse: bool) -> None:
        record, self.record = self.record, None
        if record is None:
            return
        if reuse and self.transport is not None and not self.transport.is_closing():
            self.idle_since = perf_counter_ns()
            self._pool.give_back(self)
        elif self.transport is not None:
            self.transport.abort()
        self._pool.finished(self, record)


class ConnectionPool:
    """Keep-alive connections to one target. Opens as many as the load needs; an open loop has no limit."""

    def __init__(self, target: Target, on_done: Done) -> None:
        self._target = target
        self._on_done = on_done
        self._idle: dict[Connection, None] = {}  # in the order of their last use
        self._open: set[Connection] = set()
        self._connecting: dict[Record, asyncio.Task[None]] = {}
        self.busy: dict[Record, Connection | None] = {}
        self.fresh = Fresh()
        self.due_ns = NEVER  # when ``on_due`` wants to be called, by whoever looks at the clock first
        self.on_due: Callable[[], None] = lambda: None
        self.turn = asyncio.get_running_loop().time  # stands still during a turn of uvloop's
        self.turn_ms = 0.0
        self.turn_ns = 0  # when the turn began, as far as we saw
        self.seen_ns = 0  # the last read

    def submit(self, record: Record, request: bytes) -> None:
        """Sends ``request`` on an idle connection or a new one. ``on_done`` is called once, always."""
        now = record.sent_ns = perf_counter_ns()
        while self._idle:
            connection, _ = self._idle.popitem()
            transport = connection.transport
            if transport is None or transport.is_closing():
                continue
            if now - connection.idle_since > _IDLE_LIMIT_NS:
                transport.abort()
                continue
            self.busy[record] = connection
            connection.send(record, request)
            return
        self.busy[record] = None
        self._connecting[record] = asyncio.get_running_loop().create_task(self._connect(record, request))

    async def _connect(self, record: Record, request: bytes) -> None:
        try:
            connection = await self._target.open(lambda: Connection(self))
        except asyncio.CancelledError:
            return  # whoever cancelled has settled the record
        except OSError as error:
            kind, text = _connect_error(error)
            record.fail(kind, text)
        finally:
            self._connecting.pop(record, None)
        if record.error is not None:
            self.busy.pop(record, None)
            self._on_done(record)
            return
        self.busy[record] = connection
        connection.send(record, request)

    def take(self) -> Fresh:
        """What the streams brought since the last call."""
        # Streams keep their hold on the object, so its lists change hands, not the object itself.
        taken = Fresh()
        taken.ttft_ns, self.fresh.ttft_ns = self.fresh.ttft_ns, taken.ttft_ns
        taken.gaps_ns, self.fresh.gaps_ns = self.fresh.gaps_ns, taken.gaps_ns
        return taken

    def cancel(self, record: Record, kind: str, text: str) -> None:
        """Ends one request that is in flight with error ``kind``."""
        connection = self.busy.get(record)
        if connection is not None:
            connection.abort(kind, text)
            return
        task = self._connecting.pop(record, None)
        if task is not None and record in self.busy:
            task.cancel()
            record.fail(kind, text)
            del self.busy[record]
            self._on_done(record)

    def cancel_all(self, kind: str, text: str) -> None:
        """Ends every request that is in flight with error ``kind``."""
        for record in list(self.busy):
            self.cancel(record, kind, text)

    def sweep(self, now_ns: int, connect_ns: int, ttft_ns: int | None, stall_ns: int | None) -> None:
        """Ends what has waited too long: called a few times a second, so no request needs a timer."""
        self._let_go(now_ns)
        for record, connection in list(self.busy.items()):
            if connection is None:
                if now_ns - record.sent_ns > connect_ns:
                    self.cancel(record, "timeout_connect", f"no connection within {connect_ns / 1e9:g} s")
            elif not (record.first_ns or connection.told):
                if ttft_ns is not None and now_ns - record.sent_ns > ttft_ns:
                    connection.give_up("timeout_ttft", f"no token within {ttft_ns / 1e9:g} s")
            elif stall_ns is not None and now_ns - connection.read_ns > stall_ns:
                connection.give_up("stalled", f"no bytes for {stall_ns / 1e9:g} s")

    def _let_go(self, now_ns: int) -> None:
        """Closes connections that no request may use any more: after a stall there can be thousands."""
        while self._idle:
            connection = next(iter(self._idle))  # in the order of their last use
            if now_ns - connection.idle_since <= _IDLE_LIMIT_NS:
                return
            del self._idle[connection]
            if connection.transport is not None:
                connection.transport.abort()

    def finished(self, connection: Connection, record: Record) -> None:
        self.busy.pop(record, None)
        self._on_done(record)

    def give_back(self, connection: Connection) -> None:
        self._idle[connection] = None

    def opened(self, connection: Connection) -> None:
        self._open.add(connection)

    def forget(self, connection: Connection) -> None:
        self._open.discard(connection)
        self._idle.pop(connection, None)

    def close(self) -> None:
        """Closes every connection; requests in flight end as ``cancelled``."""
        self.cancel_all("cancelled", "the run was stopped")
        for connection in list(self._open):
            if connection.transport is not None:
                connection.transport.abort()
        self._idle.clear()


class _Decompressor:
    """gzip or deflate, told apart by the first two bytes (deflate is sent with and without zlib's header)."""

    def __init__(self, bits: int) -> None:
        self._inner = zlib.decompressobj(bits)
        self._first: bytes | None = b""

    def decompress(self, data: bytes) -> Iterator[bytes]:
        """What ``data`` holds, in pieces of at most 1 MiB: a few bytes can stand for a gigabyte.

        Raises zlib.error.
        """
        if self._first is not None:
            data = self._first + data
            self._first = data if len(data) < 2 else None
            if self._first is not None:
                return
            try:
                zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(data[:2])
            except zlib.error:
                self._inner = zlib.decompressobj(-zlib.MAX_WBITS)
        piece = self._inner.decompress(data, _PIECE)
        while piece:
            yield piece
            piece = self._inner.decompress(self._inner.unconsumed_tail, _PIECE)


def _decompressor(encoding: bytes) -> _Decompressor | None:
    return (
        _Decompressor(zlib.MAX_WBITS | 32) if encoding.lower() in (b"gzip", b"x-gzip", b"deflate") else None
    )


def _why(exc: Exception | None) -> str:
    if exc is None:
        return "the server closed the connection"
    return f"the connection broke ({type(exc).__name__})"


def _connect_error(error: OSError) -> tuple[str, str]:
    """The class and text of a failure to connect."""
    if isinstance(error, ssl.SSLError):
        return "tls", error.reason or str(error)
    if isinstance(error, socket.gaierror):
        return "dns", str(error)
    if isinstance(error, ConnectionResetError):
        return "reset", error.strerror or "the connection broke before it stood"
    if error.errno in _OUT_OF_DESCRIPTORS:
        return "client_limit", f"{error.strerror}: raise the open-file limit (ulimit -n) or add workers"
    if isinstance(error, TimeoutError):
        return "timeout_connect", str(error) or "the network gave up"
    return "refused", error.strerror or str(error)
