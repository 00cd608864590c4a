"""One connection under load: one request at a time, one clock read per socket read.

A read is dated by the turn of the event loop that brought it: whatever one turn finds readable had
arrived when the turn began, so the time that we spend on a burst of reads is not added to those at
its end. The loop's own clock distinguishes turns (uvloop's stands still during one, in milliseconds);
two turns of one millisecond count as one only while reads follow each other without a pause, so a
date is never early by more than that millisecond.

Where it can, a connection leaves the socket to C (``native_reads.py``), which begins requests on it, reads
their responses and dates what it reads; the connection is a state machine over the events that C and asyncio
report in order: a request begun, tokens counted, a chunk of bytes, the connection lost. A machine that could
not build the C code goes through asyncio alone. ``tls_connection.py`` adds TLS.

Built on ``asyncio.Protocol`` and ``httptools`` because every layer above them costs more per token than the
token does, and what the client spends there shows up as latency the server never had.
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from time import perf_counter_ns

import httptools

from rvtop.load.wire.arm import ARM_HEADER, arm_of
from rvtop.load.wire.completion import Completion
from rvtop.load.wire.native_reads import NativeReads, add_gaps
from rvtop.load.wire.owner import Owner
from rvtop.load.wire.record import Record
from rvtop.load.wire.response_text import KeptCompletion
from rvtop.load.wire.tls import Tls
from rvtop.net.decompress import Decompressor, decompressor

_ERROR_BODY_LIMIT = 4096
#: What is read of the body of an error, and of what follows the end of an answer (comments without
#: end, trailers): then the connection is closed.
_MOST_READ = 1 << 20
_HEAD_LIMIT = 1 << 16
_TURN_GAP_NS = 200_000


class Connection(asyncio.Protocol):
    """One connection to the target; idle in the pool, or busy with one Record."""

    __slots__ = (
        "_beside",
        "_body",
        "_boundary",
        "_close",
        "_completion",
        "_decoder",
        "_framed",
        "_head",
        "_native",
        "_owner",
        "_parser",
        "_status",
        "_unreadable",
        "idle_since",
        "read_ns",
        "record",
        "retired",
        "transport",
    )

    def __init__(self, owner: Owner[Connection]) -> None:
        self._owner = owner
        self.transport: asyncio.Transport | None = None
        self.record: Record | None = None
        self.retired = False  # its target is not the pool's any more: it ends with its request
        self.idle_since = 0
        self.read_ns = 0  # last bytes of the response, of those that C did not count
        self._status = 0
        self._head = 0  # bytes of a head that is not complete yet
        self._boundary = False  # between two HTTP chunks, as far as the parser has come
        self._native: NativeReads | None = None  # None: asyncio reads
        self._parser = httptools.HttpResponseParser(self)

    def join(self) -> None:
        """Hands the reading to C, where that is possible."""
        self._native = self._owner.adopt(self)
        if self._native is not None:
            self._owner.needs_loop(self, False)
            if self.retired:
                self._native.conn.retire()

    def retire(self) -> None:
        """No further request is sent here; idle, now or later, it is one of the wire's stale ones."""
        self.retired = True
        if self._native is not None:
            self._native.conn.retire()

    # -- sending -----------------------------------------------------------------------------

    def send(self, record: Record, request: bytes) -> None:
        """Writes one request; its response is read into ``record``."""
        assert self.transport is not None
        if self.transport.is_closing():  # the server accepted and closed at once
            self._begin(record)
            record.fail("reset", "the server closed the connection before the request was sent")
            self.drop()
            self._finish(reuse=False)
        elif self._native is not None:
            self._native.send(record, request)
        else:
            self._begin(record)
            self.transport.write(request if self.tls is None else self.tls.encrypt(request))

    def _begin(self, record: Record) -> None:
        self.record = record
        reader = Completion if record.body is None else KeptCompletion
        self._completion = reader(record, self._owner.fresh)
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

    def abort(self, kind: str, text: str) -> None:
        """Ends the request now with an error of ours, and the connection with it."""
        self._report()
        if self.record is not None:
            self.record.fail(kind, text)
        self.drop()
        self._finish(reuse=False)

    def drop(self) -> None:
        """Closes the connection at once."""
        if self._native is not None:
            self._native.conn.release()
        if self.transport is not None:
            self.transport.abort()

    @property
    def outcome_known(self) -> bool:
        """Whether the server has reported how the request ends: by an error's status, or the stream's end."""
        return self._completion.whole if self._status == 200 else self._status > 200

    @property
    def answered(self) -> bool:
        """Whether a token has come, or else the server has reported how the request ends."""
        conn = None if self._native is None else self._native.conn
        if conn is not None and (conn.first_ns or conn.record is not self.record):
            return bool(conn.first_ns)
        return (self.record is not None and self.record.first_ns > 0) or self.outcome_known

    def give_up(self, kind: str, text: str) -> None:
        """Ends a request that has waited too long, with error ``kind`` unless the server has reported how it
        ends."""
        self._report()
        if not self.outcome_known:
            self.abort(kind, text)
            return
        if self._status == 200:
            self._completion.end(self.last_read_ns, text)
        else:
            self._http_error()
        self._finish(reuse=False)

    @property
    def last_read_ns(self) -> int:
        """When the last bytes of the response came, those that C counted included."""
        return self.read_ns if self._native is None else self._native.conn.read_ns

    # -- what C reports (see native_reads.Events) --------------------------------------------

    def _report(self) -> None:
        """Catches up with what C has done by itself."""
        if self._native is not None:
            self._native.report()

    def begun(self, record: Record | None) -> None:
        """C has ``record`` in flight here now; None: no request."""
        self.record = None
        if record is not None:
            self._owner.register_sent()
            self._begin(record)

    def counted(self, head_ns: int, opened: bool, first_ns: int, gaps: bytes, last_ns: int) -> None:
        """C read this much of the response."""
        record = self.record
        if record is None:
            return
        if head_ns:
            self._status = 200
            self._framed = True
            record.headers_ns = head_ns
        if opened:
            self._completion.join(first_ns)
        add_gaps(record, gaps, last_ns)

    def chunk(self, data: bytes, read_ns: int) -> None:
        """Bytes of the response that came at ``read_ns``."""
        self.read_ns = read_ns
        self._feed(data)

    def write_rest(self, request: bytes) -> None:
        """Writes the end of a request, which the socket did not take at once."""
        if self.transport is not None:
            self._owner.needs_loop(self, True)
            self.transport.write(request)

    @property
    def tls(self) -> Tls | None:
        """What encrypts it."""
        return None

    @property
    def pattern(self) -> tuple[bytes, bytes] | None:
        """What stands before and after the text in a chunk of one token, if the parser is between two HTTP
        chunks and no event is half read; else None."""
        if self._boundary and self.record is not None and self._decoder is None:
            return self._completion.pattern
        return None

    @property
    def beginning(self) -> tuple[bytes, bytes, bytes] | None:
        """``Completion.beginning``, if the response leaves the connection open; else None."""
        beginning = self._completion.beginning
        return None if self._close or not self._parser.should_keep_alive() else beginning

    # -- asyncio.Protocol --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        turn, now = self._owner.turn, perf_counter_ns()
        if now >= turn.due_ns and self.record is not None:
            turn.on_due()  # in a burst of reads a timer would wait for the last of them
        clock_s = turn.clock()
        if clock_s != turn.clock_s or now - turn.seen_ns > _TURN_GAP_NS:
            turn.clock_s, turn.began_ns = clock_s, now
        turn.seen_ns = now
        began_ns = turn.began_ns
        self.read_ns = began_ns if self.record is None or began_ns > self.record.sent_ns else now
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
        self._owner.closed(self)
        self._report()
        if self._native is not None:
            self._native.conn.release()
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
        if self.record is None:  # no request: this connection can't be trusted with the next request
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
        elif key == ARM_HEADER and self.record is not None and self.record.arm is None:
            self.record.arm = arm_of(value)  # of the head itself: a template has another's

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
                self.abort(self.record.error, "")  # nothing that follows changes that; let the server stop
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
            text = self._body.decode("utf-8", "replace").strip()
            if self._unreadable:
                text = f"a body {self._unreadable}"
            text = "redirects are not followed" if 300 <= self._status < 400 else text or "no body"
            self.record.fail(f"http_{self._status}", text)

    def _finish(self, *, reuse: bool) -> None:
        record, self.record = self.record, None
        if record is None:
            return
        native = self._native
        if native is not None:
            native.conn.finish()
        if self.retired or not (reuse and self._idle):
            self.drop()
        elif native is not None:
            self._owner.needs_loop(self, False)
            native.conn.rest()
        else:
            self.idle_since = perf_counter_ns()
            self._owner.give_back(self)
        self._owner.finished(record)


def _why(exc: Exception | None) -> str:
    if exc is None:
        return "the server closed the connection"
    return f"the connection broke ({type(exc).__name__})"
