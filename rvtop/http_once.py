"""One GET over one connection, blocking. The standard library's client, because the first frame waits for
this import."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Mapping
from urllib.parse import urlsplit

from rvtop.load.transport import Transport

#: A list of 10 000 models is 2 MiB.
BODY_LIMIT = 8 << 20


class AnswerTooLong(Exception):
    """The body is longer than BODY_LIMIT; it was not read to its end."""


def get(url: str, transport: Transport, headers: Mapping[str, str], timeout_s: float) -> tuple[int, bytes]:
    """Status and body, whole. ``headers`` go along with those of ``transport``.

    ``timeout_s`` bounds each wait until the connection stands, and then the whole: a server that drips is
    late too. Raises OSError (also ssl.SSLError, TimeoutError), UnicodeError for an impossible host,
    http.client.HTTPException for what is no HTTP, AnswerTooLong, TransportError.
    """
    parts = urlsplit(url)
    tls = transport.ssl_context() if parts.scheme == "https" else None
    connection = _Connection(parts.hostname or "", parts.port, timeout_s, tls, transport.unix_socket)
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
        connection.request("GET", parts.path, headers={**headers, **transport.headers})
        answer = connection.getresponse()
        body = answer.read(BODY_LIMIT + 1)
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


class _Connection(http.client.HTTPConnection):
    """Over TCP or a unix socket, with or without TLS."""

    def __init__(
        self, host: str, port: int | None, timeout_s: float, tls: ssl.SSLContext | None, path: str | None
    ) -> None:
        self.default_port = 80 if tls is None else 443
        super().__init__(host, port, timeout=timeout_s)
        self._tls = tls
        self._path = path
        self._seconds = timeout_s

    def connect(self) -> None:
        if self._path is None:
            super().connect()
        else:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self._seconds)
            self.sock.connect(self._path)
        if self._tls is not None:
            self.sock = self._tls.wrap_socket(self.sock, server_hostname=self.host)
