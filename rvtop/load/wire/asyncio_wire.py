"""The wire in Python: asyncio reads and writes, and requests are sent when their timer fires."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from rvtop.load.plan.schedule import NEVER
from rvtop.load.wire.completion import Fresh
from rvtop.load.wire.connection import Connection
from rvtop.load.wire.native_reads import NativeReads
from rvtop.load.wire.record import Record
from rvtop.load.wire.timer import Timer
from rvtop.load.wire.turn import LoopTurn
from rvtop.load.wire.wire import IDLE_LIMIT_NS, Completed


class IdleConnections:
    """Idle connections that asyncio reads, in the order of their last use."""

    def __init__(self) -> None:
        self._idle: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self._idle)

    def add(self, connection: Connection) -> None:
        """One more is idle."""
        self._idle[connection] = None

    def forget(self, connection: Connection) -> None:
        """One is closed; it need not be idle."""
        self._idle.pop(connection, None)

    def send(self, record: Record, request: bytes) -> Connection | None:
        """Begins a request on the connection that was idle last, and returns it; None: none is idle."""
        while self._idle:
            connection, _ = self._idle.popitem()
            transport = connection.transport
            if transport is None or transport.is_closing():
                continue
            if record.sent_ns - connection.idle_since <= IDLE_LIMIT_NS:
                connection.send(record, request)
                return connection
            connection.drop()
        return None

    def stale(self, now_ns: int) -> list[Connection]:
        """Takes out those that are retired (see ``ConnectionPool.retarget``) or idle for too long."""
        out: list[Connection] = []
        while self._idle:
            connection = next(iter(self._idle))
            if not connection.retired and now_ns - connection.idle_since <= IDLE_LIMIT_NS:
                break
            del self._idle[connection]
            out.append(connection)
        return out

    def clear(self) -> None:
        """Forgets all."""
        self._idle.clear()


class AsyncioWire:
    """A :class:`~rvtop.load.wire.wire.Wire` without C. Nothing is scheduled, sent or completed by itself."""

    can_schedule = False
    scheduled = 0

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.turn = LoopTurn(loop.time)
        self._idle = IdleConnections()
        self._due = Timer(loop, self.turn.on_due)
        self._tick = Timer(loop, lambda: None)

    def call_when_due(self, on_due: Callable[[], None], on_tick: Callable[[], None]) -> None:
        """See Wire."""
        self.turn.on_due = self._due.fire = on_due
        self._tick.fire = on_tick

    def set_due(self, at_ns: int, /) -> None:
        """See Wire."""
        self.turn.due_ns = at_ns
        if at_ns < NEVER:
            self._due.arm(at_ns)
        else:
            self._due.disarm()

    def set_tick(self, at_ns: int, /) -> None:
        """See Wire."""
        self._tick.arm(at_ns)

    def watch(self, fd: int, on_command: Callable[[], None]) -> bool:
        """Not possible here."""
        return False

    def schedule(self, record: Record, request: bytes, intended_ns: int, /) -> None:
        """Raises RuntimeError: requests can't be scheduled here."""
        raise RuntimeError("requests can't be scheduled without the C poller")

    def unschedule(self, from_ns: int, /) -> int | None:
        """Nothing is scheduled here."""
        return None

    def send_due(self) -> None:
        """Nothing is scheduled here."""

    def take_sent(self) -> Sequence[tuple[Record, Connection, int]]:
        """Nothing is scheduled here."""
        return ()

    def send(self, record: Record, request: bytes) -> Connection | None:
        """See Wire."""
        return self._idle.send(record, request)

    def deliver_now(self, now: bool) -> None:
        """Responses are always reported as they end."""

    def take_completed(self) -> Sequence[Completed]:
        """Connections report their responses themselves."""
        return ()

    def take_fresh(self, fresh: Fresh) -> None:
        """Connections add to ``fresh`` themselves."""

    @property
    def idle(self) -> int:
        """See Wire."""
        return len(self._idle)

    def adopt(self, connection: Connection) -> NativeReads | None:
        """Asyncio keeps all connections."""
        return None

    def give_back(self, connection: Connection) -> None:
        """See Wire."""
        self._idle.add(connection)

    def forget(self, connection: Connection) -> None:
        """See Wire."""
        self._idle.forget(connection)

    def stale(self, now_ns: int) -> Sequence[Connection]:
        """See Wire."""
        return self._idle.stale(now_ns)

    def close(self) -> None:
        """See Wire."""
        self._idle.clear()
        self._due.close()
        self._tick.close()
