"""A Connection whose bytes are encrypted. C calls ``tls`` itself (``native/records.c``); here is what asyncio
reads, and how such a connection ends."""

from __future__ import annotations

from rvtop.load.wire.connection import Connection
from rvtop.load.wire.owner import Owner
from rvtop.load.wire.tls import Tls


class TlsConnection(Connection):
    """See Connection."""

    __slots__ = ("_tls",)

    def __init__(self, owner: Owner[Connection], tls: Tls) -> None:
        super().__init__(owner)
        self._tls = tls

    @property
    def tls(self) -> Tls:
        """What encrypts it."""
        return self._tls

    def data_received(self, data: bytes) -> None:
        """Takes bytes as they came over the network."""
        assert self.transport is not None
        got = self._tls.decrypt(data)
        plain, reply, end = (got, b"", None) if isinstance(got, bytes) else got
        if reply:
            self.transport.write(reply)
        if plain:
            super().data_received(plain)
        if end is not None:
            self.connection_lost(None if isinstance(end, int) else end)
            self.drop()

    def connection_lost(self, exc: Exception | None) -> None:
        """See Connection. Anyone on the way can close a TCP connection: a body without a length ends with
        close_notify alone (RFC 9112 §9.8), and without it was cut."""
        if not self._tls.closed:
            self._framed = True
        super().connection_lost(exc)


def connection_of(owner: Owner[Connection], tls: Tls | None) -> Connection:
    """A new connection of ``owner``'s."""
    return Connection(owner) if tls is None else TlsConnection(owner, tls)
