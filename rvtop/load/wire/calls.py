"""What carries requests that are no HTTP: calls of gRPC (``rvtop/load/rpc``), in place of connections. A pool
holds both alike while they are in flight."""

from __future__ import annotations

from typing import Protocol

from rvtop.load.wire.completion import Fresh
from rvtop.load.wire.record import Record


class InFlight(Protocol):
    """A request that was sent: a connection that is busy with it, or a call."""

    @property
    def answered(self) -> bool:
        """Whether a token has come, or else the server has reported how the request ends."""

    @property
    def last_read_ns(self) -> int:
        """When the last of the response came."""

    def abort(self, kind: str, text: str) -> None:
        """Ends the request now with an error of ours."""

    def give_up(self, kind: str, text: str) -> None:
        """Ends a request that has waited too long."""


class CallOwner(Protocol):
    """The pool, as its calls see it."""

    fresh: Fresh
    most: int

    def call_ended(self, record: Record) -> None:
        """A call is over, as its record says."""


class Calls(Protocol):
    """The calls to one target."""

    def begin(self, record: Record, request: bytes) -> InFlight:
        """Sends a request, made by the target's ``request``. ``call_ended`` follows once, always, and never
        before this returns."""

    def retire(self) -> None:
        """No further request is sent here; what the calls in flight need goes with the last of them."""
