"""The way of an engine's lines to the process that started the batch: a TCP connection to the node that the
driver is on, because Ray gives an actor's results only when the whole batch of rows is done."""

from __future__ import annotations

import hmac
import json
import logging
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

log = logging.getLogger("backends.batch.channel")

_CONNECT_LIMIT_S = _CLOSE_LIMIT_S = 10.0
#: What a line may have, in bytes; a row of 100 000 tokens has less.
_LONGEST = 1 << 24


@dataclass(frozen=True)
class Place:
    """Where lines are taken, and the word that each connection has to begin with."""

    host: str
    port: int
    secret: str = field(repr=False)  # Ray tells in its logs what actors are made with


class Listener:
    """Takes lines of engines and hands each to ``forward``, in threads of its own."""

    def __init__(self, host: str, forward: Callable[[bytes], None]) -> None:
        self._socket = socket.create_server((host, 0))
        self._forward = forward
        self.place = Place(host, self._socket.getsockname()[1], secrets.token_hex(16))
        self._readers: list[threading.Thread] = []
        threading.Thread(target=self._accept, name="batch lines", daemon=True).start()

    def close(self) -> None:
        """Takes no more connections, and waits until all that was said on those there were is handed on: they
        end with their actors, which Ray ends behind the last row."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        until = time.monotonic() + _CLOSE_LIMIT_S
        for reader in self._readers:
            reader.join(max(0.0, until - time.monotonic()))

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # closed
                return
            reader = threading.Thread(target=self._read, args=(connection,), daemon=True)
            self._readers.append(reader)
            reader.start()

    def _read(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            try:
                said = lines.readline(256).strip()
                if not hmac.compare_digest(said, self.place.secret.encode()):
                    return
                while (line := lines.readline(_LONGEST)).endswith(b"\n"):
                    self._forward(line)
            except OSError as error:
                log.warning("an engine's connection broke: %s", error)


class Channel:
    """An engine's end. A driver that is gone is no reason to fail here: Ray ends its actors."""

    def __init__(self, place: Place) -> None:
        self._socket = socket.create_connection((place.host, place.port), _CONNECT_LIMIT_S)
        self._socket.settimeout(None)
        self._socket.sendall(place.secret.encode() + b"\n")
        self._lock = threading.Lock()

    def emit(self, event: str, **fields: Any) -> None:
        line = json.dumps({"event": event, **fields}, ensure_ascii=False).encode() + b"\n"
        with self._lock:
            try:
                self._socket.sendall(line)
            except OSError as error:
                log.debug("the driver is gone: %s", error)

    def close(self) -> None:
        """Everything that was said is on its way; the other end reads it to its end."""
        self._socket.close()
