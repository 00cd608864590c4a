"""One request without a body over one connection, blocking. The standard library's client, because the first
frame waits for this import."""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import select
import socket
import ssl
import threading
import zlib
from collections.abc import Mapping
from time import monotonic
from urllib.parse import urlsplit

from rvtop.net.decompress import decompressor
from rvtop.net.transport import NEXT_ADDRESS_S, Transport, names_of

#: A list of 10 000 models is 2 MiB.
BODY_LIMIT = 8 << 20


class AnswerTooLong(Exception):
    """The body is longer than BODY_LIMIT; it was not read to its end."""


def get(
    url: str,
    transport: Transport,
    headers: Mapping[str, str],
    timeout_s: float,
    method: str = "GET",
    data: bytes | None = None,
) -> tuple[int, bytes]:
    """Status and body, whole. ``headers`` go along with those of ``transport``;
    ``data`` is the body of a POST.

    ``timeout_s`` bounds each wait until the connection stands, and then the whole: a server that drips is
    late too. Raises OSError (also ssl.SSLError, TimeoutError), UnicodeError for an impossible host,
    http.client.HTTPException for what is no HTTP, AnswerTooLong, TransportError.
    """
    parts = urlsplit(url)
    tls = transport.ssl_context() if parts.scheme == "https" else None
    host, said = names_of(parts)
    connection = _Connection(said, parts.port, timeout_s, tls, transport.unix_socket, host)
    late = threading.Event()

    def cut() -> None:
        late.set()
        with contextlib.suppress(OSError, AttributeError):  # it is over, or not there yet
            connection.sock.shutdown(socket.SHUT_RDWR)

    watch = threading.Timer(timeout_s, cut)
    watch.daemon = True
    try:
        connection.connect()
        watch.start()
        connection.request(method, parts.path, data, {**headers, **transport.headers})
        answer = connection.getresponse()
        body = _plain(answer.read(BODY_LIMIT + 1), answer.getheader("Content-Encoding") or "")
    except (OSError, http.client.HTTPException, ValueError) as error:
        if late.is_set():
            raise TimeoutError(f"no whole answer within {timeout_s:g} s") from error
        raise
    finally:
        watch.cancel()
        connection.close()
    if late.is_set():
        raise TimeoutError(f"no whole answer within {timeout_s:g} s")
    if len(body) > BODY_LIMIT:
        raise AnswerTooLong(f"over the limit of {BODY_LIMIT >> 20} MiB")
    return answer.status, body


def _plain(body: bytes, encoding: str) -> bytes:
    """The body without the encoding that nobody asked for; at most one byte over BODY_LIMIT. Raises
    HTTPException."""
    try:
        decoder = decompressor(encoding.encode("latin-1"))
        if decoder is None:
            return body
        plain = b""
        for piece in decoder.decompress(body):
            plain += piece
            if len(plain) > BODY_LIMIT:
                break
        return plain[: BODY_LIMIT + 1]
    except (ValueError, zlib.error) as error:
        raise http.client.HTTPException(f"its body can't be read: {error}") from error


class _Connection(http.client.HTTPConnection):
    """Over TCP or a unix socket, with or without TLS."""

    def __init__(
        self,
        host: str,
        port: int | None,
        timeout_s: float,
        tls: ssl.SSLContext | None,
        path: str | None,
        looked_up: str,
    ) -> None:
        self.default_port = 80 if tls is None else 443
        super().__init__(host, port, timeout=timeout_s)
        self._tls = tls
        self._path = path
        self._looked_up = looked_up
        self._seconds = timeout_s

    def connect(self) -> None:
        if self._path is None:
            self.sock = _connected(self._looked_up, self.port, self._seconds)
        else:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self._seconds)
            self.sock.connect(self._path)
        if self._tls is not None:
            self.sock = self._tls.wrap_socket(self.sock, server_hostname=self.host)


def _connected(host: str, port: int, limit_s: float) -> socket.socket:
    """A connection to the first address of ``host`` that answers; while one does not, the next ones are tried
    beside it. Raises OSError as the last address failed, TimeoutError."""
    until = monotonic() + limit_s
    rest = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    tried: list[socket.socket] = []
    failure = OSError(f"{host}: no address")
    try:
        while rest or tried:
            if rest:
                family, kind, protocol, _, address = rest.pop(0)
                try:
                    made = socket.socket(family, kind, protocol)
                    tried.append(made)
                    made.setblocking(False)
                    code = made.connect_ex(address)
                    if code not in (0, errno.EINPROGRESS):
                        tried.remove(made)
                        made.close()
                        raise OSError(code, os.strerror(code))
                except OSError as error:
                    failure = error
                    continue
            left_s = until - monotonic()
            if left_s <= 0:
                raise TimeoutError(f"no connection within {limit_s:g} s")
            ready = select.select([], tried, [], min(left_s, NEXT_ADDRESS_S) if rest else left_s)[1]
            for made in ready:
                tried.remove(made)
                code = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code == 0:
                    made.settimeout(limit_s)
                    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    return made
                made.close()
                failure = OSError(code, os.strerror(code))
    finally:
        for made in tried:
            made.close()
    raise failure
