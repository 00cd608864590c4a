"""TLS of one connection over two memory BIOs: bytes in, bytes out, and whoever owns the socket moves them. So
both wires, C's and asyncio's, read their sockets themselves and date what they read.

Kernel TLS, which would decrypt in recv, is not used: Python offers it from 3.12 on, for sockets that ``ssl``
itself reads, and the kernel needs a module that few machines have loaded.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import ref

_P = TypeVar("_P", bound=asyncio.Protocol)

#: The most plain bytes of one record (RFC 8446 §5.1): a read of so many takes it whole.
_RECORD = 1 << 14

#: Plain bytes; or, where TLS itself has something to say, these, a reply to be sent and how the connection
#: has ended: 0 by close_notify, an error otherwise, None not at all.
Decrypted = bytes | tuple[bytes, bytes, ssl.SSLError | int | None]


class Tls:
    """A client's end. What is wrong with the connection is told by :meth:`handshake` and :meth:`decrypt`.

    While ``even``, no record is begun, and one that comes whole may be decrypted by ``put`` and ``take``.
    """

    __slots__ = (
        *("__weakref__", "_incoming", "_object", "_outgoing", "_unsent"),
        *("closed", "even", "offered", "put", "take"),
    )

    def __init__(
        self, context: ssl.SSLContext, server_hostname: str | None, session: ssl.SSLSession | None = None
    ) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(
            self._incoming, self._outgoing, server_hostname=server_hostname, session=session
        )
        self.offered = session is not None
        # Each token calls both, so without the wrapper that Python's ssl puts around an object of OpenSSL's.
        self.put = self._incoming.write
        self.take: Callable[[int], bytes] = getattr(self._object, "_sslobj", self._object).read
        self.even = False
        self._unsent = b""  # plain bytes that wait for the end of a renegotiation
        self.closed = False  # close_notify has come: what came before it is all there is

    @property
    def ticket(self) -> ssl.SSLSession | None:
        """By which the next connection resumes this one's session; None as long as the server gave none."""
        session = self._object.session
        return session if session is not None and session.has_ticket else None

    @property
    def resumed(self) -> bool:
        """Whether it stands by a ticket."""
        return bool(self._object.session_reused)

    def handshake(self, data: bytes) -> tuple[bool, bytes, ssl.SSLError | None]:
        """Takes the server's next bytes (none at first). Returns whether the connection stands, what is to be
        sent, and why it can't be made."""
        done, error = False, None
        self._incoming.write(data)
        try:
            self._object.do_handshake()
            done = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as failure:
            error = failure
        return done, self._outgoing.read(), error

    def encrypt(self, data: bytes) -> bytes:
        """What is to be sent for ``data``. While the server renegotiates that is nothing yet: it follows in a
        reply of :meth:`decrypt`."""
        self._unsent += data
        self._write_unsent()
        return self._outgoing.read()

    def _write_unsent(self) -> None:
        try:
            while self._unsent:  # a call takes one record's worth
                self._unsent = self._unsent[self._object.write(self._unsent) :]
        except ssl.SSLError:  # the server's turn in a renegotiation; a lasting error meets the next read too
            pass

    def decrypt(self, data: bytes, failure: ssl.SSLError | None = None) -> Decrypted:
        """What the server's next bytes bring, be they several records or part of one. ``failure``: what
        ``take`` has raised, if that was called before."""
        pieces: list[bytes] = []
        end: ssl.SSLError | int | None = None
        self.even = False
        self.put(data)
        try:
            if failure is not None:
                raise failure
            pieces.append(self.take(_RECORD))
            while pieces[-1] and self._incoming.pending:
                pieces.append(self.take(_RECORD))
            self.even = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            end = error
        if pieces and not pieces[-1]:
            self.closed, end = True, 0
        if self._unsent:
            self._write_unsent()
        plain = b"".join(pieces)
        return plain if end is None and not self._outgoing.pending else (plain, self._outgoing.read(), end)


class Tickets:
    """The session of the connections to one server, which the next ones resume: that spares both ends most of
    a handshake. A server that takes a ticket no more shakes hands as with a stranger, and gives another."""

    def __init__(self) -> None:
        self._giver: ref[Tls] | None = None  # the connection whose ticket is the one that is used
        self._session: ssl.SSLSession | None = None

    def session(self) -> ssl.SSLSession | None:
        """For a connection that begins now."""
        if self._session is None and self._giver is not None and (tls := self._giver()) is not None:
            self._session = tls.ticket  # it came with what was read behind the handshake
        return self._session

    def stands(self, tls: Tls) -> None:
        """A connection stands."""
        refused = tls.offered and not tls.resumed
        if refused or self._giver is None or (self._session is None and self._giver() is None):
            self._giver, self._session = ref(tls), None


class Handshake(asyncio.Protocol, Generic[_P]):
    """The protocol of a transport until the connection stands: then one made by ``factory`` takes over.
    ``made`` is that, or raises OSError (also ssl.SSLError); the transport is closing then."""

    def __init__(self, tls: Tls, factory: Callable[[Tls], _P]) -> None:
        self.made: asyncio.Future[_P] = asyncio.get_running_loop().create_future()
        self.made.add_done_callback(lambda made: made.cancelled() or made.exception())  # none may wait
        self._tls = tls
        self._factory = factory

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.data_received(b"")

    def data_received(self, data: bytes) -> None:
        """Goes on with what the server says."""
        done, reply, error = self._tls.handshake(data)
        if reply:
            self._transport.write(reply)
        if self.made.done():  # given up by the one who waited
            return
        if error is not None:
            self.made.set_exception(error)
            self._transport.close()  # behind the alert
        elif done:
            made = self._factory(self._tls)
            self._transport.set_protocol(made)
            made.connection_made(self._transport)
            made.data_received(b"")  # what came behind the handshake's end
            self.made.set_result(made)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection broke before it stood."""
        if not self.made.done():
            text = "the server closed the connection in the TLS handshake"
            self.made.set_exception(exc or ConnectionResetError(errno.ECONNRESET, text))
