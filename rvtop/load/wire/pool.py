"""The HTTP/1.1 client under load: a pool of keep-alive connections, and the requests in flight on them.

Nothing is retried. A connection that has been idle for long is not used again: servers close
theirs after a few seconds (uvicorn: 5), and a request that meets the closing would be lost.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import sys
from collections import deque
from collections.abc import Callable
from time import perf_counter_ns

from rvtop.load.wire.completion import Fresh
from rvtop.load.wire.connection import Connection
from rvtop.load.wire.endpoint import Endpoint
from rvtop.load.wire.native_reads import NativeReads, fill_record
from rvtop.load.wire.native_wire import make_wire
from rvtop.load.wire.record import Record
from rvtop.load.wire.tls_connection import connection_of
from rvtop.load.wire.wire import Completed

_OUT_OF_DESCRIPTORS = {errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS}

OnRecord = Callable[[Record], None]


class ConnectionPool:
    """Keep-alive connections to one target at a time. Opens as many as the load needs; an open loop has no
    limit.

    Requests are sent at once by :meth:`submit`, or at their time by ``wire.schedule``.
    """

    def __init__(
        self,
        target: Endpoint,
        on_done: OnRecord,
        on_sent: OnRecord = lambda record: None,
        alone: Callable[[], bool] = lambda: False,
    ) -> None:
        """``on_done`` is called once for each request, ``on_sent`` before it for those that were tried.
        ``alone`` says whether the loop has nothing to do but this pool."""
        self._target = target
        self._on_done = on_done
        self._on_sent = on_sent
        self._open: set[Connection] = set()
        self._loop_work: set[object] = set()  # connections that asyncio reads or writes, and requests that …
        self._connecting: dict[Record, asyncio.Task[None]] = {}  # … wait for a new connection
        self._opening = 0  # connections that are being made
        self.most = sys.maxsize  # connections at once; a request that would need one more fails
        self.busy: dict[Record, Connection | None] = {}
        self.fresh = Fresh()
        self._loop = asyncio.get_running_loop()
        self._completed: deque[Completed] = deque()
        self.wire = make_wire(
            on_no_connection=self.submit,
            on_completed=self.reap,
            loop_work=self._loop_work,
            alone=alone,
        )
        self.turn = self.wire.turn

    def retarget(self, target: Endpoint) -> None:
        """Sends to ``target`` from now on, on new connections. Requests in flight end where they are; their
        connections are closed with them, idle ones at once."""
        self.wire.send_due()  # what was scheduled and has come due belongs to the target before
        self.register_sent()
        self._target = target
        for connection in self._open:
            connection.retire()
        for idle in self.wire.stale(perf_counter_ns()):
            idle.drop()

    # -- requests in flight ------------------------------------------------------------------

    def register_sent(self) -> None:
        """Takes those that were scheduled and sent among the busy ones."""
        for record, connection, sent_ns in self.wire.take_sent():
            record.sent_ns = sent_ns
            self.busy[record] = connection
            self._on_sent(record)

    def reap(self) -> None:
        """Calls ``on_sent`` and ``on_done`` for the requests that were sent and that have ended by now."""
        send_due = self.wire.send_due
        send_due()
        self.register_sent()
        self._completed.extend(self.wire.take_completed())
        while self._completed:
            completed = self._completed.popleft()
            fill_record(self.fresh, *completed)
            self.finished(completed[0])
            send_due()  # a row of them takes milliseconds

    def submit(self, record: Record, request: bytes) -> None:
        """Sends ``request`` on an idle connection or a new one. ``on_done`` is called once, always."""
        self.busy[record] = None
        record.sent_ns = perf_counter_ns()
        self._on_sent(record)
        connection = self.wire.send(record, request)
        if connection is not None:
            self.busy[record] = connection
        else:
            self._loop_work.add(record)
            connecting = self._connect(record, request, self._target)
            self._connecting[record] = self._loop.create_task(connecting)

    async def _connect(self, record: Record, request: bytes, target: Endpoint) -> None:
        if len(self._open) + self._opening >= self.most:
            self._stop_connecting(record)
            record.fail(
                "client_limit",
                f"{self.most} connections are open, as many as this worker may hold: raise the open-file "
                "limit (ulimit -n) or add workers (--workers N)",
            )
        else:
            self._opening += 1
            try:
                connection = await target.open(lambda tls: connection_of(self, tls))
            except asyncio.CancelledError:
                return  # cancel() has ended the record
            except OSError as error:
                kind, text = _connect_error(error)
                record.fail(kind, text)
            finally:
                self._opening -= 1
                self._stop_connecting(record)
        if record.error is not None:
            self.busy.pop(record, None)
            self._on_done(record)
            return
        self.busy[record] = connection
        connection.retired = target is not self._target
        connection.join()
        connection.send(record, request)

    def _stop_connecting(self, record: Record) -> asyncio.Task[None] | None:
        self._loop_work.discard(record)
        return self._connecting.pop(record, None)

    def take(self) -> Fresh:
        """First tokens and gaps of all responses since the last call."""
        # Responses being read refer to the object, so its lists change hands, not the object itself.
        taken = Fresh()
        taken.ttft_ns, self.fresh.ttft_ns = self.fresh.ttft_ns, taken.ttft_ns
        taken.gaps_ns, self.fresh.gaps_ns = self.fresh.gaps_ns, taken.gaps_ns
        self.wire.take_fresh(taken)
        return taken

    def cancel(self, record: Record, kind: str, text: str) -> None:
        """Ends one request that is in flight with error ``kind``."""
        self.reap()
        connection = self.busy.get(record)
        if connection is not None:
            connection.abort(kind, text)
            return
        task = self._stop_connecting(record)
        if task is not None and record in self.busy:
            task.cancel()
            record.fail(kind, text)
            del self.busy[record]
            self._on_done(record)

    def cancel_in_flight(self, kind: str, text: str) -> None:
        """Ends every request that is in flight with error ``kind``; what is scheduled will be sent."""
        self.reap()
        for record in list(self.busy):
            self.cancel(record, kind, text)

    def cancel_all(self, kind: str, text: str) -> None:
        """Ends every request that is in flight with error ``kind``, and drops what is scheduled."""
        self.reap()
        self.wire.unschedule(0)
        self.cancel_in_flight(kind, text)

    def sweep(self, now_ns: int, connect_ns: int, ttft_ns: int | None, stall_ns: int | None) -> None:
        """Ends what has waited too long: called a few times a second, so no request needs a timer."""
        self.reap()
        for idle in self.wire.stale(now_ns):  # after a stall there can be thousands
            idle.drop()
        for record, connection in list(self.busy.items()):
            if connection is None:
                if now_ns - record.sent_ns > connect_ns:
                    self.cancel(record, "timeout_connect", f"no connection within {connect_ns / 1e9:g} s")
            elif not connection.answered:
                if ttft_ns is not None and now_ns - record.sent_ns > ttft_ns:
                    connection.give_up("timeout_ttft", f"no token within {ttft_ns / 1e9:g} s")
            elif stall_ns is not None and now_ns - connection.last_read_ns > stall_ns:
                connection.give_up("stalled", f"no bytes for {stall_ns / 1e9:g} s")

    def finished(self, record: Record) -> None:
        """A request has ended, as its record says."""
        self.busy.pop(record, None)
        self._on_done(record)

    # -- connections -------------------------------------------------------------------------

    @property
    def idle(self) -> int:
        """Connections that a request may use."""
        return self.wire.idle

    def adopt(self, connection: Connection) -> NativeReads | None:
        """Moves the reading of an open connection to C; None where asyncio keeps it."""
        return self.wire.adopt(connection)

    def give_back(self, connection: Connection) -> None:
        """A connection that asyncio reads is idle."""
        self.wire.give_back(connection)

    def opened(self, connection: Connection) -> None:
        """A connection is open; asyncio reads it."""
        self._open.add(connection)
        self._loop_work.add(connection)

    def needs_loop(self, connection: Connection, yes: bool) -> None:
        """Whether asyncio has to read or to write for a connection."""
        if yes:
            self._loop_work.add(connection)
        else:
            self._loop_work.discard(connection)

    def closed(self, connection: Connection) -> None:
        """A connection is closed."""
        self._open.discard(connection)
        self._loop_work.discard(connection)
        self.wire.forget(connection)

    def close(self) -> None:
        """Closes every connection; requests in flight end as ``cancelled``."""
        self.cancel_all("cancelled", "the run was stopped")
        for connection in list(self._open):
            connection.drop()
        self.wire.close()


def _connect_error(error: OSError) -> tuple[str, str]:
    """The class and text of a failure to connect."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return "tls", f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return "tls", error.reason or str(error)
    if isinstance(error, socket.gaierror):
        return "dns", str(error)
    if isinstance(error, ConnectionResetError):
        return "reset", error.strerror or "the connection broke before it stood"
    if error.errno in _OUT_OF_DESCRIPTORS:
        return "client_limit", f"{error.strerror}: raise the open-file limit (ulimit -n) or add workers"
    if isinstance(error, TimeoutError):
        return "timeout_connect", str(error) or "the network gave up"
    return "refused", error.strerror or str(error)
