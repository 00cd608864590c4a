"""What a connection needs of the pool that it belongs to."""

from __future__ import annotations

from typing import Protocol, TypeVar

from rvtop.load.wire.answer import Answers
from rvtop.load.wire.completion import Fresh
from rvtop.load.wire.native_reads import NativeReads
from rvtop.load.wire.record import Record
from rvtop.load.wire.turn import LoopTurn

_Connection = TypeVar("_Connection", contravariant=True)


class Owner(Protocol[_Connection]):
    """The pool, as its connections see it."""

    fresh: Fresh

    @property
    def answers(self) -> Answers:
        """Makes the reader of an answer."""

    @property
    def turn(self) -> LoopTurn:
        """The turn of the event loop that reads are dated by."""

    def adopt(self, connection: _Connection) -> NativeReads | None:
        """Moves the reading of an open connection to C; None where asyncio keeps it."""

    def opened(self, connection: _Connection) -> None:
        """The connection is open; asyncio reads it."""

    def closed(self, connection: _Connection) -> None:
        """The connection is closed."""

    def needs_loop(self, connection: _Connection, yes: bool) -> None:
        """Whether asyncio has to read or to write for the connection."""

    def give_back(self, connection: _Connection) -> None:
        """A connection that asyncio reads is idle."""

    def register_sent(self) -> None:
        """Takes note of the scheduled requests that C has sent."""

    def finished(self, record: Record) -> None:
        """A request has ended, as its record says."""
