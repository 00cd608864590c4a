"""The wire in C: a poller sends scheduled requests and reads plain responses without the interpreter, but for
TLS (``tls.py``), which is called for each request and read.

Connections that the poller does not take (at the system's limit of watched descriptors) are read by asyncio,
beside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from rvtop.load.native.loader import make_poller
from rvtop.load.native.templates import Templates
from rvtop.load.wire.asyncio_wire import AsyncioWire, IdleConnections
from rvtop.load.wire.completion import Fresh
from rvtop.load.wire.connection import Connection
from rvtop.load.wire.native_reads import NativeReads, read_natively
from rvtop.load.wire.record import Record
from rvtop.load.wire.turn import LoopTurn
from rvtop.load.wire.wire import IDLE_LIMIT_NS, Wire

if TYPE_CHECKING:
    from rvtop.load.native._native import Poller

#: Completed responses that may wait to be reported together, unless they are to be delivered now.
_MOST_WAITING = 32
#: How long the poller waits for more before the loop gets a turn, while the loop has nothing else to do.
_LINGER_NS = 50_000_000


class NativeWire:
    """A :class:`~rvtop.load.wire.wire.Wire` over a poller in C.

    ``on_no_connection(record, request)``: a scheduled request came due and no connection was idle.
    ``on_completed``: there is something for :meth:`take_completed`. ``loop_work`` holds whatever asyncio has
    to do for the pool, and ``alone`` says whether the loop has nothing else to do: only then may the poller
    keep the thread for a while.
    """

    can_schedule = True

    def __init__(
        self,
        poller: Poller,
        *,
        on_no_connection: Callable[[Record, bytes], None],
        on_completed: Callable[[], None],
        loop_work: Collection[object],
        alone: Callable[[], bool],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.poller = poller
        self.alone = alone
        self.turn = LoopTurn(self._loop.time)
        self._loop_work = loop_work
        self._idle = IdleConnections()
        self._templates = Templates(poller)
        poller.idle_limit_ns = IDLE_LIMIT_NS
        poller.on_no_connection = lambda scheduled: on_no_connection(*scheduled)
        poller.on_completed = on_completed
        # The poller's own methods: a wrapper in Python would cost a call for each request.
        self.schedule, self.unschedule, self.send_due = poller.schedule, poller.unschedule, poller.send_due
        self.set_tick = poller.tick
        self.take_sent, self.take_completed = poller.take_sent, poller.take_completed
        self._loop.add_reader(poller.fileno(), self._poll)

    def _poll(self) -> None:
        self.poller.poll(_LINGER_NS if not self._loop_work and self.alone() else 0)

    def call_when_due(self, on_due: Callable[[], None], on_tick: Callable[[], None]) -> None:
        """See Wire."""
        self.turn.on_due = on_due
        self.poller.on_due, self.poller.on_tick = on_due, on_tick

    def set_due(self, at_ns: int, /) -> None:
        """See Wire."""
        self.turn.due_ns = at_ns
        self.poller.due(at_ns)

    def watch(self, fd: int, on_command: Callable[[], None]) -> bool:
        """See Wire."""
        try:
            self.poller.watch(fd, on_command)
        except OSError:  # the system's limit of watched descriptors
            return False
        return True

    @property
    def scheduled(self) -> int:
        """See Wire."""
        return self.poller.scheduled

    def send(self, record: Record, request: bytes) -> Connection | None:
        """See Wire."""
        by_template = record.body is None
        connection: Connection | None = self.poller.send(
            record, request, record.intended_ns, record.sent_ns, by_template
        )
        return self._idle.send(record, request) if connection is None else connection

    def deliver_now(self, now: bool) -> None:
        """See Wire."""
        self.poller.most_waiting = 0 if now else _MOST_WAITING

    def take_fresh(self, fresh: Fresh) -> None:
        """See Wire."""
        fresh.ttft_ns.frombytes(self.poller.take_ttfts())
        fresh.gaps_ns.frombytes(self.poller.take_gaps())

    @property
    def idle(self) -> int:
        """See Wire."""
        return len(self._idle) + self.poller.idle

    def adopt(self, connection: Connection) -> NativeReads | None:
        """See Wire."""
        return read_natively(self.poller, self._templates, connection)

    def give_back(self, connection: Connection) -> None:
        """See Wire."""
        self._idle.add(connection)

    def forget(self, connection: Connection) -> None:
        """See Wire."""
        self._idle.forget(connection)

    def stale(self, now_ns: int) -> Sequence[Connection]:
        """See Wire."""
        return [*self.poller.stale(now_ns), *self._idle.stale(now_ns)]

    def close(self) -> None:
        """See Wire."""
        self._idle.clear()
        self._loop.remove_reader(self.poller.fileno())
        self.poller.close()


def make_wire(
    *,
    on_no_connection: Callable[[Record, bytes], None],
    on_completed: Callable[[], None],
    loop_work: Collection[object],
    alone: Callable[[], bool],
) -> Wire:
    """A NativeWire with these arguments, or an AsyncioWire where there is no poller."""
    poller = make_poller()
    if poller is None:
        return AsyncioWire()
    return NativeWire(
        poller,
        on_no_connection=on_no_connection,
        on_completed=on_completed,
        loop_work=loop_work,
        alone=alone,
    )
