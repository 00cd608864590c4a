"""One connection that C reads: what C does on it by itself becomes events for the connection, in order.

C begins scheduled requests, reads response heads that it has a template of, and counts tokens; Python
is not called for any of this. :meth:`NativeReads.report` catches up before anything else is decided about
the connection: ``begun`` for the request in flight, then ``counted`` for what C read of its response; what C
did not count follows as ``chunk``.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from typing import TYPE_CHECKING, Protocol

from rvtop.load.wire.arm import arm_of
from rvtop.load.wire.completion import Completion, Fresh
from rvtop.load.wire.record import Record
from rvtop.load.wire.tls import Tls

if TYPE_CHECKING:
    from rvtop.load.native._native import Conn, Poller
    from rvtop.load.native.templates import Templates


class Events(Protocol):
    """The connection, as far as its reads concern it."""

    record: Record | None
    transport: asyncio.Transport | None

    @property
    def tls(self) -> Tls | None:
        """What encrypts it."""

    def begun(self, record: Record | None) -> None:
        """C has ``record`` in flight here now; None: no request."""

    def counted(self, head_ns: int, opened: bool, first_ns: int, gaps: bytes, last_ns: int) -> None:
        """C read this much of the response; 0 and empty where it did not (see ``Conn``). ``gaps`` are those
        since the last call. May be called again with the same."""

    def chunk(self, data: bytes, read_ns: int) -> None:
        """Bytes of the response that C did not count."""

    def write_rest(self, request: bytes) -> None:
        """The end of a request, which the socket did not take at once."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The server closed the connection, or it broke."""

    def drop(self) -> None:
        """Closes the connection at once."""

    @property
    def pattern(self) -> tuple[bytes, bytes] | None:
        """See ``Connection.pattern``."""

    @property
    def beginning(self) -> tuple[bytes, bytes, bytes] | None:
        """See ``Connection.beginning``."""


class NativeReads:
    """The reads of one socket in C (``conn``), reported to ``connection``. Raises OSError where the system's
    limit of watched descriptors is reached."""

    __slots__ = ("_begun", "_connection", "_fed", "_templates", "conn")

    def __init__(self, poller: Poller, templates: Templates, connection: Events, fd: int) -> None:
        self._connection = connection
        self._templates = templates
        self._fed = False  # whether the parser has got any of this response
        self._begun = b""  # the response's head and what came first, until a template is made of it
        calls = (self._read, self._lost, connection.write_rest)
        self.conn: Conn = poller.add(fd, connection, *calls, connection.tls)

    def send(self, record: Record, request: bytes) -> None:
        """Writes one request at once; asyncio would write at the end of this turn of the loop."""
        self.conn.send(record, request, record.intended_ns, record.sent_ns, record.body is None)

    def report(self) -> None:
        """Reports to the connection what C did by itself since the last call. May be called at any time."""
        conn, connection = self.conn, self._connection
        if conn.record is not connection.record:
            self._fed = False
            self._begun = b""
            connection.begun(conn.record)
        if connection.record is not None:
            if conn.head_ns and connection.record.arm is None:
                connection.record.arm = arm_of(conn.arm())
            connection.counted(conn.head_ns, bool(conn.opened), conn.first_ns, conn.take_gaps(), conn.last_ns)

    def _read(self, data: bytes) -> None:
        """What C did not count, from the boundary of an HTTP chunk on."""
        conn, connection = self.conn, self._connection
        self.report()
        if not self._fed and connection.record is not None:
            self._fed = True
            self._feed_head(data)
        connection.chunk(data, conn.read_ns)
        # Between two chunks, and no byte of the next one's size has come yet.
        pattern = connection.pattern if data.endswith(b"\r\n") else None
        if pattern is not None and connection.record is not None:
            conn.expect_tokens(*pattern, connection.record.last_ns)
            if self._begun:
                self._set_template()

    def _feed_head(self, data: bytes) -> None:
        """Before the parser gets its first bytes of a response, ``data``, it needs the head that C read."""
        conn, templates = self.conn, self._templates
        if not conn.head_ns:
            self._begun = data
            return
        head = templates.head  # means the same as the one that came
        self._connection.chunk(head, conn.head_ns)
        if not conn.opened:  # this server begins in another way now
            self._begun = head + data
        elif not conn.first_ns:
            templates.clear()

    def _set_template(self) -> None:
        """Lets C read the next responses that begin as this one did."""
        head, blank, _ = self._begun.partition(b"\r\n\r\n")
        self._begun = b""
        beginning = self._connection.beginning
        if blank and beginning is not None:
            self._templates.set(head + blank, *beginning)

    def _lost(self, code: int | ssl.SSLError) -> None:
        if isinstance(code, int):
            self._connection.connection_lost(OSError(code, os.strerror(code)) if code else None)
        else:
            self._connection.connection_lost(code)
        self._connection.drop()


def read_natively(poller: Poller, templates: Templates, connection: Events) -> NativeReads | None:
    """Moves the reading of ``connection`` from asyncio to C; None where asyncio keeps it: a connection that
    is closing, and at the system's limit of watched descriptors."""
    transport = connection.transport
    assert transport is not None
    if transport.is_closing():
        return None
    transport.pause_reading()
    try:
        return NativeReads(poller, templates, connection, transport.get_extra_info("socket").fileno())
    except OSError:
        transport.resume_reading()
        return None


def fill_record(
    fresh: Fresh,
    record: Record,
    head_ns: int,
    first_ns: int,
    read_ns: int,
    last_ns: int,
    gaps: bytes,
    body: bytes,
    arm: bytes,
) -> None:
    """Fills the record of a request whose response C has read to its end; ``body`` is what C did not
    count, ``arm`` what the head said of it."""
    record.headers_ns = head_ns
    if arm:
        record.arm = arm_of(arm)
    completion = Completion(record, fresh)
    completion.join(first_ns)
    add_gaps(record, gaps, last_ns)
    completion.feed(body, read_ns)
    completion.end(read_ns)


def add_gaps(record: Record, gaps: bytes, last_ns: int) -> None:
    """Adds tokens that C has counted, by the gaps before them (int64 nanoseconds); the last one came at
    ``last_ns``."""
    if gaps:
        record.gaps.frombytes(gaps)
        record.chunks += len(gaps) // 8
        record.last_ns = last_ns
