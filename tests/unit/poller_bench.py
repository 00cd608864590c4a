"""Socket pairs on a poller of the read path in C, and bytes that it can be taught to know."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from rvtop.load.native.loader import make_poller

BEFORE, AFTER = b'data: {"c":"', b'"}\n\n'


def piece(data: bytes) -> bytes:
    """One HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def token(text: bytes = b"a") -> bytes:
    return piece(BEFORE + text + AFTER)


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return ours, server


@contextlib.contextmanager
def kernel_stamps() -> Iterator[None]:
    """The kernel stamps what comes: it begins to some time after the first socket has asked for it. Skips
    where it does not."""
    ours, server = tcp_pair()
    with ours, server:
        ours.setsockopt(socket.SOL_SOCKET, 35, 1)  # SO_TIMESTAMPNS
        seen: list[object] = []
        until = time.monotonic() + 30
        while not seen and time.monotonic() < until:
            server.sendall(b"x")
            _, seen, _, _ = ours.recvmsg(1, 64)
        if not seen:
            pytest.skip("this kernel does not tell when bytes came")
        yield


class Bench:
    """Socket pairs on one poller, by their number; what was not counted lands in ``read``."""

    def __init__(self) -> None:
        self.poller = make_poller()
        self.servers: list[socket.socket] = []
        self.conns = []
        self.read: list[tuple[int, bytes]] = []
        self.lost: list[int] = []
        self.rest: list[bytes] = []
        self.no_connection: list[tuple[object, bytes]] = []
        self.ended: list[tuple[object, bytes]] = []  # (record, what was not counted) …
        self.waits: list[int] = []  # … so many at a time
        self.poller.on_no_connection = self.no_connection.append
        self.poller.on_completed = self.reap
        self._ours: list[socket.socket] = []

    def reap(self) -> None:
        """Hears of the answers that have ended."""
        completed = self.poller.take_completed()
        self.waits.append(len(completed))
        self.ended += [(one[0], one[6]) for one in completed]

    def add(
        self, on_read: Callable[[bytes], None] | None = None, *, tcp: bool = False, tls: object = None
    ) -> int:
        number = len(self.conns)
        ours, server = tcp_pair() if tcp else socket.socketpair()
        ours.setblocking(False)
        take = on_read or (lambda data: self.read.append((number, data)))
        calls = (take, self.lost.append, self.rest.append)
        self.conns.append(self.poller.add(ours.fileno(), number, *calls, tls))
        self._ours.append(ours)
        self.servers.append(server)
        return number

    def add_idle(self) -> int:
        """One that the poller may send on."""
        number = self.add()
        self.conns[number].rest()
        return number

    def shrink(self, number: int) -> None:
        """The kernel takes a few hundred KiB at once from it at most, however it is set up."""
        self._ours[number].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)

    def expect_tokens(self, number: int) -> None:
        self.conns[number].expect_tokens(BEFORE, AFTER, time.perf_counter_ns())

    def close(self) -> None:
        for stream in self.conns:
            stream.release()
        self.poller.close()
        for sock in (*self._ours, *self.servers):
            sock.close()


def wait(poller: object) -> None:
    """Until the poller says that there is something to do."""
    ready, _, _ = select.select([poller.fileno()], [], [], 120)  # type: ignore[attr-defined]
    assert ready
