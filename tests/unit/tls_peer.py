"""A server's end of TLS without a socket, and papers for it."""

from __future__ import annotations

import contextlib
import functools
import ssl
from typing import Any

import pytest

from rvtop.load.wire.tls import Tls

NAME = "localhost"


@functools.cache
def _authority() -> Any:
    """Skips without trustme."""
    return pytest.importorskip("trustme").CA()


def server_context() -> ssl.SSLContext:
    """A server of its own, which knows no other's tickets."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _authority().issue_cert(NAME, "127.0.0.1").configure_cert(made)
    return made


@functools.cache
def contexts(most: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of a server and of a client that trusts it."""
    client = ssl.create_default_context()
    _authority().configure_trust(client)
    client.maximum_version = most
    return server_context(), client


class Peer:
    """The server's end of a connection whose client's end is ``client``; they have shaken hands. ``said`` is
    what the server said last of itself: its tickets."""

    def __init__(
        self,
        most: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        session: ssl.SSLSession | None = None,
        server: ssl.SSLContext | None = None,
    ) -> None:
        known, client = contexts(most)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = (server or known).wrap_bio(self._in, self._out, server_side=True)
        self.client = Tls(client, NAME, session)
        self.said, done = b"", False
        while not done:
            done, reply, error = self.client.handshake(self.said)
            assert error is None
            self.said = self._shake(reply)

    def _shake(self, data: bytes) -> bytes:
        self._in.write(data)
        with contextlib.suppress(ssl.SSLWantReadError):
            self._object.do_handshake()
        return self._out.read()

    def seal(self, data: bytes) -> bytes:
        """``data`` as one record, or as several if it is long."""
        while data:
            data = data[self._object.write(data) :]
        return self._out.read()

    def open(self, data: bytes) -> bytes:
        """What the client said."""
        self._in.write(data)
        return self._object.read(1 << 14)

    def close(self) -> bytes:
        """close_notify."""
        with contextlib.suppress(ssl.SSLError):
            self._object.unwrap()
        return self._out.read()
