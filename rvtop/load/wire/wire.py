"""What carries requests to the target and their responses back: C (``native_wire``) or asyncio alone
(``asyncio_wire``). A pool has one wire and does not ask which."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from rvtop.load.wire.completion import Fresh
from rvtop.load.wire.connection import Connection
from rvtop.load.wire.native_reads import NativeReads
from rvtop.load.wire.record import Record
from rvtop.load.wire.turn import LoopTurn

#: Servers close connections that are idle for a few seconds (uvicorn: 5); a request that meets the closing
#: would be lost. So connections that are idle for longer than this are not used again.
IDLE_LIMIT_NS = 3_000_000_000

#: A response that was read to its end without Python: the arguments of ``fill_record`` from ``record`` on.
Completed = tuple[Record, int, int, int, int, bytes, bytes, bytes]


class Wire(Protocol):
    """Times are nanoseconds of ``perf_counter_ns``. Methods with positional arguments only may be methods of
    the C poller itself, so that a request costs no call more."""

    turn: LoopTurn  # of the connections that asyncio reads

    # -- times ---------------------------------------------------------------------------------

    def call_when_due(self, on_due: Callable[[], None], on_tick: Callable[[], None]) -> None:
        """``on_due`` is called at the time of :meth:`set_due`, also in the middle of a burst of reads, where
        a timer of the loop's would wait for the last of them. ``on_tick`` is called at the time of
        :meth:`set_tick` once the burst is over, and so shows how late the loop is."""

    def set_due(self, at_ns: int, /) -> None:
        """Sets the time for ``on_due``, once; replaces the one before. NEVER: no call."""

    def set_tick(self, at_ns: int, /) -> None:
        """Sets the time for ``on_tick``, once; replaces the one before."""

    def watch(self, fd: int, on_command: Callable[[], None]) -> bool:
        """Has ``on_command`` called whenever ``fd`` is readable: before a scheduled request is sent in that
        turn, or 5 ms later. ``fd`` below 0: no more. False: not possible here, the loop has to watch it."""

    # -- scheduled requests --------------------------------------------------------------------

    @property
    def can_schedule(self) -> bool:
        """Whether :meth:`schedule` may be called."""

    @property
    def scheduled(self) -> int:
        """Requests that were scheduled and not sent yet."""

    def schedule(self, record: Record, request: bytes, intended_ns: int, /) -> None:
        """Sends ``request`` at ``intended_ns``, whatever the interpreter does then."""

    def unschedule(self, from_ns: int, /) -> int | None:
        """Drops the scheduled requests for ``from_ns`` or later that were not sent. Returns the intended time
        of the first, None if there was none."""

    def send_due(self) -> None:
        """Sends the scheduled requests whose time has come."""

    def take_sent(self) -> Sequence[tuple[Record, Connection, int]]:
        """Scheduled requests that were sent since the last call, with the connection and the time."""

    # -- requests in flight --------------------------------------------------------------------

    def send(self, record: Record, request: bytes) -> Connection | None:
        """Begins a request on the connection that was idle last, and returns it; None: none is idle."""

    def deliver_now(self, now: bool) -> None:
        """Whether a completed response is to be reported in the turn in which it ends; else it may wait for
        some others, as long as others are in flight."""

    def take_completed(self) -> Sequence[Completed]:
        """Responses that were read to their end without Python since the last call."""

    def take_fresh(self, fresh: Fresh) -> None:
        """Adds to ``fresh`` what was counted without Python since the last call."""

    # -- connections ---------------------------------------------------------------------------

    @property
    def idle(self) -> int:
        """Connections that a request may use."""

    def adopt(self, connection: Connection) -> NativeReads | None:
        """Moves the reading of an open connection to C; None where asyncio keeps it."""

    def give_back(self, connection: Connection) -> None:
        """A connection that asyncio reads is idle."""

    def forget(self, connection: Connection) -> None:
        """A connection is closed."""

    def stale(self, now_ns: int) -> Sequence[Connection]:
        """Connections that are idle and retired, or idle for too long, to be closed by the caller."""

    def close(self) -> None:
        """Calls nothing any more. All connections are closed by now."""
