"""The HTTP/1.1 client under load: a pool of keep-alive connections, and what becomes of each request.

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

from rvtop.load.native.loader import make_poller
from rvtop.load.native.templates import response_template
from rvtop.load.plan.schedule import NEVER
from rvtop.load.wire.completion import Fresh
from rvtop.load.wire.connection import Connection, settle
from rvtop.load.wire.endpoint import Endpoint
from rvtop.load.wire.record import Record
from rvtop.load.wire.timer import Timer

_IDLE_LIMIT_NS = 3_000_000_000
#: Ends of answers that may wait to be told together, while there is no hurry.
_MOST_WAITING = 32
#: So long the poller sees to itself before the loop gets a turn, while nothing else is known to be open
#: there.
_LINGER_NS = 50_000_000
#: Answers that never begin like the one before them should not cost more than they do anyway.
_TEMPLATE_EVERY_NS = 100_000_000
_OUT_OF_DESCRIPTORS = {errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS}

Told = Callable[[Record], None]


class ConnectionPool:
    """Keep-alive connections to one target. Opens as many as the load needs; an open loop has no limit."""

    def __init__(self, target: Endpoint, on_done: Told, on_sent: Told = lambda record: None) -> None:
        """``on_done`` is called once for each request, ``on_sent`` before it for those that were tried."""
        self._target = target
        self._on_done = on_done
        self._on_sent = on_sent
        self._idle: dict[Connection, None] = {}  # in the order of their last use; the poller has its own
        self._open: set[Connection] = set()
        self._on_loop: set[Connection] = set()  # those that the loop reads or writes
        self._connecting: dict[Record, asyncio.Task[None]] = {}
        self._opening = 0  # connections that are being made
        self.most = sys.maxsize  # connections at once; a request that would need one more fails
        self.busy: dict[Record, Connection | None] = {}
        self.fresh = Fresh()
        self.due_ns = NEVER  # heeded by connections without a poller
        self.on_due: Callable[[], None] = lambda: None
        #: Whether the loop has nothing else open than what is ours.
        self.alone: Callable[[], bool] = lambda: False
        self._loop = asyncio.get_running_loop()
        self.poller = make_poller()
        self._due_timer: Timer | None = None
        self._tick_timer: Timer | None = None
        self._completed: deque[tuple[Record, int, int, int, int, bytes, bytes]] = deque()
        self.template_head = b""  # one that is as those that the poller knows
        self._template_set_ns = -_TEMPLATE_EVERY_NS
        if self.poller is not None:
            self.poller.idle_limit_ns = _IDLE_LIMIT_NS
            self.poller.on_no_connection = lambda schedule: self.submit(*schedule)
            self.poller.on_completed = self.reap
            self._loop.add_reader(self.poller.fileno(), self._poll)
        self.turn = self._loop.time  # stands still during a turn of uvloop's
        self.turn_ms = 0.0
        self.turn_ns = 0  # when the turn began, as far as we saw
        self.seen_ns = 0  # the last read

    def _poll(self) -> None:
        assert self.poller is not None
        alone = not (self._on_loop or self._connecting) and self.alone()
        self.poller.poll(_LINGER_NS if alone else 0)

    # -- times -------------------------------------------------------------------------------

    def call_when_due(self, on_due: Callable[[], None], on_tick: Callable[[], None] = lambda: None) -> None:
        """What is to be called when the time of :meth:`due` has come: at once, also in a burst of reads,
        where a timer of the loop's would wait for the last of them; and when that of :meth:`tick` has, which
        does wait, and so tells how late the loop is."""
        self.on_due = on_due
        if self.poller is not None:
            self.poller.on_due, self.poller.on_tick = on_due, on_tick
        else:
            self._due_timer, self._tick_timer = Timer(self._loop, on_due), Timer(self._loop, on_tick)

    def due(self, at_ns: int) -> None:
        """Sets the time (perf_counter) for ``on_due``; NEVER takes it back."""
        self.due_ns = at_ns
        if self.poller is not None:
            self.poller.due(at_ns)
        elif self._due_timer is not None and at_ns < NEVER:
            self._due_timer.arm(at_ns)
        elif self._due_timer is not None:
            self._due_timer.disarm()

    def tick(self, at_ns: int) -> None:
        """Sets the time (perf_counter) for ``on_tick``."""
        if self.poller is not None:
            self.poller.tick(at_ns)
        elif self._tick_timer is not None:
            self._tick_timer.arm(at_ns)

    def watch(self, fd: int, on_command: Callable[[], None]) -> bool:
        """Has ``on_command`` called whenever ``fd`` is readable: before anything that was scheduled is sent
        in that turn, or 5 ms later; below 0: no more. False: the loop has to do it."""
        try:
            if self.poller is not None:
                self.poller.watch(fd, on_command)
        except OSError:  # the system's limit of watched descriptors
            return False
        return self.poller is not None

    # -- requests that wait for their time ---------------------------------------------------

    @property
    def can_schedule(self) -> bool:
        """Whether requests can be scheduled; TLS is asyncio's."""
        return self.poller is not None and not self._target.tls

    def schedule(self, record: Record, request: bytes) -> None:
        """Sends ``request`` at its intended time, whatever the interpreter does then."""
        assert self.poller is not None
        self.poller.schedule(record, request, record.intended_ns)

    @property
    def scheduled(self) -> int:
        """How many wait for their time."""
        return 0 if self.poller is None else self.poller.scheduled

    def unschedule(self, from_ns: int) -> int | None:
        """Takes back what was scheduled for ``from_ns`` or later and has not been sent: nobody is told of it.
        Returns the intended time of the first, None if there was none."""
        return None if self.poller is None else self.poller.unschedule(from_ns)

    # -- requests in flight ------------------------------------------------------------------

    def deliver_now(self, now: bool) -> None:
        """Whether ``on_done`` is to be called in the turn in which a request ends; else it may wait for some
        others, or for :meth:`reap`, as long as others are in flight."""
        if self.poller is not None:
            self.poller.most_waiting = 0 if now else _MOST_WAITING

    def register_sent(self) -> None:
        """Takes those that were scheduled and sent among the busy ones."""
        if self.poller is not None:
            for record, connection, sent_ns in self.poller.take_sent():
                record.sent_ns = sent_ns
                self.busy[record] = connection
                self._on_sent(record)

    def reap(self) -> None:
        """Calls ``on_sent`` and ``on_done`` for the requests that were sent and that have ended by now."""
        poller = self.poller
        if poller is None:
            return
        poller.send_due()
        self.register_sent()
        self._completed.extend(poller.take_completed())
        while self._completed:
            completed = self._completed.popleft()
            settle(self.fresh, *completed)
            self.finished(completed[0])
            poller.send_due()  # a row of them takes milliseconds

    def submit(self, record: Record, request: bytes) -> None:
        """Sends ``request`` on an idle connection or a new one. ``on_done`` is called once, always."""
        self.busy[record] = None
        record.sent_ns = perf_counter_ns()
        self._on_sent(record)
        if self.poller is not None:
            known = record.body is None
            sender = self.poller.send(record, request, record.intended_ns, record.sent_ns, known)
            if sender is not None:
                self.busy[record] = sender
                return
        connection = self._take_idle(record.sent_ns)
        self.busy[record] = connection
        if connection is not None:
            connection.send(record, request)
        else:
            self._connecting[record] = self._loop.create_task(self._connect(record, request))

    def _take_idle(self, now_ns: int) -> Connection | None:
        while self._idle:
            connection, _ = self._idle.popitem()
            transport = connection.transport
            if transport is None or transport.is_closing():
                continue
            if now_ns - connection.idle_since <= _IDLE_LIMIT_NS:
                return connection
            connection.drop()
        return None

    async def _connect(self, record: Record, request: bytes) -> None:
        if len(self._open) + self._opening >= self.most:
            self._connecting.pop(record, None)
            record.fail(
                "client_limit",
                f"{self.most} connections are open, as many as this worker may hold: raise the open-file "
                "limit (ulimit -n) or add workers (--workers N)",
            )
        else:
            self._opening += 1
            try:
                connection = await self._target.open(lambda: Connection(self))
            except asyncio.CancelledError:
                return  # whoever cancelled has settled the record
            except OSError as error:
                kind, text = _connect_error(error)
                record.fail(kind, text)
            finally:
                self._opening -= 1
                self._connecting.pop(record, None)
        if record.error is not None:
            self.busy.pop(record, None)
            self._on_done(record)
            return
        self.busy[record] = connection
        connection.join()
        connection.send(record, request)

    def take(self) -> Fresh:
        """What the streams brought since the last call."""
        # Streams keep their hold on the object, so its lists change hands, not the object itself.
        taken = Fresh()
        taken.ttft_ns, self.fresh.ttft_ns = self.fresh.ttft_ns, taken.ttft_ns
        taken.gaps_ns, self.fresh.gaps_ns = self.fresh.gaps_ns, taken.gaps_ns
        if self.poller is not None:
            taken.ttft_ns.frombytes(self.poller.take_ttfts())
            taken.gaps_ns.frombytes(self.poller.take_gaps())
        return taken

    def set_template(self, head: bytes, preamble: bytes, before: bytes, after: bytes) -> None:
        """How an answer began that was plain (see ``response_template``): the poller knows the next ones like
        it."""
        now = perf_counter_ns()
        if self.poller is None or now - self._template_set_ns < _TEMPLATE_EVERY_NS:
            return
        found = response_template(head, preamble, before, after)
        if found is not None:
            self._template_set_ns = now
            self.template_head = head
            self.poller.set_template(*found)

    def clear_template(self) -> None:
        """What was learned does not fit any more: the next answer is read the careful way."""
        if self.poller is not None and perf_counter_ns() - self._template_set_ns >= _TEMPLATE_EVERY_NS:
            self.poller.set_template(b"", b"", b"")

    def cancel(self, record: Record, kind: str, text: str) -> None:
        """Ends one request that is in flight with error ``kind``."""
        self.reap()
        connection = self.busy.get(record)
        if connection is not None:
            connection.abort(kind, text)
            return
        task = self._connecting.pop(record, None)
        if task is not None and record in self.busy:
            task.cancel()
            record.fail(kind, text)
            del self.busy[record]
            self._on_done(record)

    def cancel_all(self, kind: str, text: str) -> None:
        """Ends every request that is in flight with error ``kind``."""
        self.reap()
        self.unschedule(0)
        for record in list(self.busy):
            self.cancel(record, kind, text)

    def sweep(self, now_ns: int, connect_ns: int, ttft_ns: int | None, stall_ns: int | None) -> None:
        """Ends what has waited too long: called a few times a second, so no request needs a timer."""
        self.reap()
        self._drop_stale(now_ns)
        for record, connection in list(self.busy.items()):
            if connection is None:
                if now_ns - record.sent_ns > connect_ns:
                    self.cancel(record, "timeout_connect", f"no connection within {connect_ns / 1e9:g} s")
            elif not connection.answered:
                if ttft_ns is not None and now_ns - record.sent_ns > ttft_ns:
                    connection.give_up("timeout_ttft", f"no token within {ttft_ns / 1e9:g} s")
            elif stall_ns is not None and now_ns - connection.last_read_ns > stall_ns:
                connection.give_up("stalled", f"no bytes for {stall_ns / 1e9:g} s")

    def _drop_stale(self, now_ns: int) -> None:
        """Closes connections that no request may use any more: after a stall there can be thousands."""
        if self.poller is not None:
            for connection in self.poller.stale(now_ns):
                connection.drop()
        while self._idle:
            connection = next(iter(self._idle))  # in the order of their last use
            if now_ns - connection.idle_since <= _IDLE_LIMIT_NS:
                return
            del self._idle[connection]
            connection.drop()

    def finished(self, record: Record) -> None:
        """A request has ended, as its record says."""
        self.busy.pop(record, None)
        self._on_done(record)

    # -- connections -------------------------------------------------------------------------

    @property
    def idle(self) -> int:
        """How many connections a request may use."""
        return len(self._idle) + (0 if self.poller is None else self.poller.idle)

    def give_back(self, connection: Connection) -> None:
        """One that asyncio reads is idle."""
        self._idle[connection] = None

    def opened(self, connection: Connection) -> None:
        """One more is open."""
        self._open.add(connection)
        self._on_loop.add(connection)

    def needs_loop(self, connection: Connection, yes: bool) -> None:
        """Whether the loop has to read or to write for it."""
        if yes:
            self._on_loop.add(connection)
        else:
            self._on_loop.discard(connection)

    def forget(self, connection: Connection) -> None:
        """One is closed."""
        self._open.discard(connection)
        self._on_loop.discard(connection)
        self._idle.pop(connection, None)

    def close(self) -> None:
        """Closes every connection; requests in flight end as ``cancelled``."""
        self.cancel_all("cancelled", "the run was stopped")
        for connection in list(self._open):
            connection.drop()
        self._idle.clear()
        if self.poller is not None:
            self._loop.remove_reader(self.poller.fileno())
            self.poller.close()
        for timer in (self._due_timer, self._tick_timer):
            if timer is not None:
                timer.close()


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
