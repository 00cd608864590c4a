"""One connection under load: one request at a time, one clock read per socket read.

A read is dated by the turn of the event loop that brought it: whatever one turn finds readable had
arrived when the turn began, so the time that we spend on a burst of reads is not added to those at
its end. The loop's own clock tells turns apart (uvloop's stands still during one, in milliseconds);
two turns of one millisecond count as one only while reads follow each other without a pause, so a
date is never early by more than that millisecond.

Where it can, a connection is left to the pool's poller (in C, ``native/``), which begins requests on it and
reads their answers; it hears only of what is out of the ordinary, and of requests that it did not begin when
it looks (``_sync``). TLS, and a machine that could not build the poller, go through asyncio. The poller dates
what a TTFT hangs on, and all that a late turn brings, by the kernel's own time of arrival; the rest by the
turn, or by now where a turn takes longer than a millisecond.

Built on ``asyncio.Protocol`` and ``httptools`` because every layer above them costs more per token than the
token does, and what the client spends there shows up as latency the server never had.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import zlib
from time import perf_counter_ns
from typing import TYPE_CHECKING

import httptools

from rvtop.load.wire.completion import Completion, Fresh
from rvtop.load.wire.record import Record
from rvtop.load.wire.response_text import KeptCompletion
from rvtop.net.decompress import Decompressor, decompressor

if TYPE_CHECKING:
    from rvtop.load.native._native import Conn
    from rvtop.load.wire.pool import ConnectionPool

_ERROR_BODY_LIMIT = 4096
#: What is read of a body that tells of an error, and of what follows the end of an answer (comments without
#: end, trailers): then the connection is closed.
_MOST_READ = 1 << 20
_HEAD_LIMIT = 1 << 16
_TURN_GAP_NS = 200_000


class Connection(asyncio.Protocol):
    """One connection to the target; idle in the pool, or busy with one Record."""

    __slots__ = (
        "_begun",
        "_beside",
        "_body",
        "_boundary",
        "_close",
        "_completion",
        "_conn",
        "_decoder",
        "_fed",
        "_framed",
        "_head",
        "_parser",
        "_pool",
        "_status",
        "_unreadable",
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
        self._boundary = False  # between two HTTP chunks, as far as the parser has come
        self._fed = False  # whether the parser has got any of this response from the poller
        self._begun = b""  # its head and what came first, until something is learned of it
        self._conn: Conn | None = None  # with the poller, if it is there
        self._parser = httptools.HttpResponseParser(self)

    # -- sending -----------------------------------------------------------------------------

    def send(self, record: Record, request: bytes) -> None:
        """Writes one request; its response is read into ``record``."""
        assert self.transport is not None
        if self.transport.is_closing():  # the server accepted and closed at once
            self._begin(record)
            record.fail("reset", "the server closed the connection before the request was sent")
            self.drop()
            self._finish(reuse=False)
        elif self._conn is not None:
            # At once: asyncio would write at the end of this turn of the loop.
            self._conn.send(record, request, record.intended_ns, record.sent_ns, record.body is None)
        else:
            self._begin(record)
            self.transport.write(request)

    def _sync(self) -> None:
        """The poller has requests begin and end by itself: which one is it?"""
        if self._conn is None or self._conn.record is self.record:
            return
        self.record = None
        if self._conn.record is not None:
            self._pool.register_sent()
            self._begin(self._conn.record)

    def _begin(self, record: Record) -> None:
        self.record = record
        reader = Completion if record.body is None else KeptCompletion
        self._completion = reader(record, self._pool.fresh)
        self._decoder: Decompressor | None = None
        self._unreadable = ""  # why the body can't be read
        self._body = b""
        self._beside = 0  # bytes that bring no token: of an error, or behind the end
        self._framed = False
        self._close = False
        self._status = 0
        self._head = 0
        self.read_ns = 0
        self._boundary = False
        self._fed = False
        self._begun = b""

    def abort(self, kind: str, text: str) -> None:
        """Ends the request now with an error of ours, and the connection with it."""
        self._sync()
        if self.record is not None:
            self._settle()
            self.record.fail(kind, text)
        self.drop()
        self._finish(reuse=False)

    def drop(self) -> None:
        """Closes the connection at once."""
        if self._conn is not None:
            self._conn.release()
        if self.transport is not None:
            self.transport.abort()

    @property
    def told(self) -> bool:
        """Whether the server has said how the request ends: by an error's status, or the stream's end."""
        return self._completion.whole if self._status == 200 else self._status > 200

    @property
    def answered(self) -> bool:
        """Whether a token came, or else how the request ends."""
        conn = self._conn
        if conn is not None and (conn.first_ns or conn.record is not self.record):
            return bool(conn.first_ns)
        return (self.record is not None and self.record.first_ns > 0) or self.told

    def give_up(self, kind: str, text: str) -> None:
        """Ends a request that nothing more is hoped of; what the server has told by now stands."""
        self._sync()
        if not self.told:
            self.abort(kind, text)
            return
        self._settle()
        if self._status == 200:
            self._completion.end(self.last_read_ns, text)
        else:
            self._http_error()
        self._finish(reuse=False)

    # -- the poller -----------------------------------------------------------------------------

    def join(self) -> None:
        """Hands the reading to the pool's poller; TLS stays asyncio's."""
        poller, transport = self._pool.poller, self.transport
        assert transport is not None
        if poller is None or transport.is_closing() or transport.get_extra_info("sslcontext") is not None:
            return
        transport.pause_reading()
        try:
            descriptor = transport.get_extra_info("socket").fileno()
            self._conn = poller.add(descriptor, self, self._read, self._lost, self._rest)
            self._pool.needs_loop(self, False)
        except OSError:  # the system's limit of watched descriptors
            transport.resume_reading()

    @property
    def last_read_ns(self) -> int:
        """When the last bytes of the response came: the poller's are newer than ``read_ns``."""
        return self.read_ns if self._conn is None else self._conn.read_ns

    def _settle(self) -> None:
        """What the poller has read by itself goes into the record."""
        conn, record = self._conn, self.record
        if conn is None or record is None:
            return
        if conn.head_ns:
            self._status = 200
            self._framed = True
            record.headers_ns = conn.head_ns
        if conn.opened:
            self._completion.join(conn.first_ns)
        _add_gaps(record, conn.take_gaps(), conn.last_ns)

    def _read(self, data: bytes) -> None:
        """What the poller did not count, from the boundary of a chunk on."""
        conn = self._conn
        assert conn is not None
        self._sync()
        self.read_ns = conn.read_ns
        self._settle()
        if not self._fed and self.record is not None:
            self._fed = True
            self._catch_up(self.record, conn, data)
        self._feed(data)
        # Between two chunks, and no byte of the next one's size has come yet.
        if self._boundary and self.record is not None and data.endswith(b"\r\n") and self._decoder is None:
            pattern = self._completion.pattern
            if pattern is not None:
                conn.expect_tokens(*pattern, self.record.last_ns)
                if self._begun:
                    self._set_template()

    def _catch_up(self, record: Record, conn: Conn, data: bytes) -> None:
        """Before the parser gets its first bytes of a response, ``data``: it has to know of the head."""
        if not conn.head_ns:
            self._begun = data
            return
        head = self._pool.template_head  # means the same as the one that came
        self._feed(head)
        record.headers_ns = conn.head_ns
        if not conn.opened:  # this server begins in another way now
            self._begun = head + data
        elif not conn.first_ns:
            self._pool.clear_template()

    def _set_template(self) -> None:
        """Lets the poller read the next answers that begin as this one did."""
        head, blank, _ = self._begun.partition(b"\r\n\r\n")
        self._begun = b""
        beginning = self._completion.beginning
        if blank and beginning is not None and not self._close and self._parser.should_keep_alive():
            self._pool.set_template(head + blank, *beginning)

    def _rest(self, request: bytes) -> None:
        """Of a request the socket did not take this."""
        if self.transport is not None:
            self._pool.needs_loop(self, True)
            self.transport.write(request)

    def _lost(self, code: int) -> None:
        self.connection_lost(OSError(code, os.strerror(code)) if code else None)
        self.drop()

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
        self._feed(data)

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._broken(error)
        if not self._status:
            self._head += len(data)
            if self._head > _HEAD_LIMIT:
                self.abort("bad_stream", f"a response head longer than {_HEAD_LIMIT} bytes")
        elif self.record is not None and self._status == 200 and self._completion.whole:
            self._beside += len(data)
            if self._beside > _MOST_READ:
                self._completion.end(self.read_ns)
                self._finish(reuse=False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.forget(self)
        self._sync()
        self._settle()
        if self._conn is not None:
            self._conn.release()
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
        else:
            self.abort("bad_stream", f"not an HTTP/1.1 response before this one's: {error}")

    # -- httptools ---------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.record is None:  # nobody asked: this connection can't be trusted with the next request
            self.abort("bad_stream", "an answer to no request came before this one's")

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.lower()
        if key == b"content-encoding":
            try:
                self._decoder = decompressor(value)
            except ValueError as error:
                self._unreadable = str(error)
        elif key == b"transfer-encoding" or key == b"content-length":
            self._framed = True
        elif key == b"connection":
            self._close = value.lower() == b"close"

    def on_headers_complete(self) -> None:
        if self.record is not None:
            self._status = self._parser.get_status_code()
            if self._status >= 200:
                self.record.headers_ns = self.read_ns
            if self._status == 200 and self._unreadable:
                self.abort("bad_stream", f"the body is {self._unreadable}")

    def on_chunk_header(self) -> None:
        self._boundary = False

    def on_chunk_complete(self) -> None:
        self._boundary = True

    def on_body(self, body: bytes) -> None:
        if self.record is None:  # the request was ended by us; the parser finishes its buffer
            return
        if self._decoder is not None:
            self._compressed(self._decoder, body)
        elif self._status == 200:
            self._completion.feed(body, self.read_ns)
            if self.record.error is not None:
                self.abort(self.record.error, "")  # nothing that follows can mend it; let the server stop
        else:
            self._body += body[: _ERROR_BODY_LIMIT - len(self._body)]
            self._beside += len(body)
            if self._beside > _MOST_READ:
                self._http_error()
                self.abort(self.record.error or "", "")  # the first error stays

    def _compressed(self, decoder: Decompressor, body: bytes) -> None:
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

    @property
    def _idle(self) -> bool:
        """Whether the next request may follow: a server that answers early has not read all of this one."""
        transport = self.transport
        return transport is not None and not transport.is_closing() and not transport.get_write_buffer_size()

    def _http_error(self) -> None:
        if self.record is not None:
            said = self._body.decode("utf-8", "replace").strip()
            if self._unreadable:
                said = f"a body {self._unreadable}"
            text = "redirects are not followed" if 300 <= self._status < 400 else said or "no body"
            self.record.fail(f"http_{self._status}", text)

    def _finish(self, *, reuse: bool) -> None:
        record, self.record = self.record, None
        if record is None:
            return
        if self._conn is not None:
            self._conn.finish()
        if not (reuse and self._idle):
            self.drop()
        elif self._conn is not None:
            self._pool.needs_loop(self, False)
            self._conn.rest()
        else:
            self.idle_since = perf_counter_ns()
            self._pool.give_back(self)
        self._pool.finished(record)


def settle(
    fresh: Fresh,
    record: Record,
    head_ns: int,
    first_ns: int,
    read_ns: int,
    last_ns: int,
    gaps: bytes,
    body: bytes,
) -> None:
    """Fills the record of a request whose answer the poller has read to its end; ``body`` is what it did not
    count."""
    record.headers_ns = head_ns
    completion = Completion(record, fresh)
    completion.join(first_ns)
    _add_gaps(record, gaps, last_ns)
    completion.feed(body, read_ns)
    completion.end(read_ns)


def _add_gaps(record: Record, gaps: bytes, last_ns: int) -> None:
    """Tokens that the poller has counted, by the gaps before them (int64); the last came at ``last_ns``."""
    if gaps:
        record.gaps.frombytes(gaps)
        record.chunks += len(gaps) // 8
        record.last_ns = last_ns


def _why(exc: Exception | None) -> str:
    if exc is None:
        return "the server closed the connection"
    return f"the connection broke ({type(exc).__name__})"
