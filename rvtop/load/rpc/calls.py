"""The calls of one pool to a gRPC target, by grpcio's asyncio API.

A call shares an HTTP/2 connection with others: up to MOST_STREAMS of them, as many as servers usually admit
on one, since a call beyond that would wait in the client and look like a slow server. A message is dated when
it is received: grpcio reads sockets in a thread of its own, so no turn of the loop dates it. What the client
lacks in speed shows in its lag and its ticks, as over HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import perf_counter_ns

import grpc
from grpc import aio

from rvtop.load.rpc.codes import kind_of
from rvtop.load.rpc.dialects import Dialect
from rvtop.load.rpc.reader import BREAK, CallReader
from rvtop.load.wire.calls import CallOwner
from rvtop.load.wire.record import Record

MOST_STREAMS = 100
_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),  # a channel is a connection of its own
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),  # nothing is sent twice
    # A server that is back is found within a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.primary_user_agent", "rvtop"),
)
Metadata = Sequence[tuple[str, str]]


def ready() -> None:
    """Has grpcio start its threads, which takes milliseconds."""
    aio.init_grpc_aio()


class _Connection:
    """A channel, and how many calls are on it."""

    def __init__(self, place: str, method: str) -> None:
        self.channel = aio.insecure_channel(place, options=_OPTIONS)
        self.start = self.channel.unary_stream(method)  # bytes in, bytes out
        self.calls = 0


class GrpcCalls:
    """See :class:`rvtop.load.wire.calls.Calls`."""

    def __init__(self, place: str, metadata: Metadata, dialect: Dialect, owner: CallOwner) -> None:
        self._place = place
        self._metadata = tuple(metadata)
        self.dialect = dialect
        self.owner = owner
        self._connections: list[_Connection] = []
        self._retired = False
        self._closing: set[asyncio.Task[None]] = set()
        self.loop = asyncio.get_running_loop()

    def begin(self, record: Record, request: bytes) -> GrpcCall:
        """See Calls."""
        head, _, message = request.partition(BREAK)
        if not message:
            return GrpcCall(self, record, None).refuse(
                "http_400", f"no message can say this: {head.decode()}"
            )
        lines = (line.partition(": ") for line in head.decode("latin-1").split("\r\n"))
        metadata = (*self._metadata, *((name.lower(), value) for name, _, value in lines))
        held = sum(connection.calls for connection in self._connections)
        if held >= self.owner.most:
            text = f"{held} calls are in flight, as many as this worker may hold: add workers (--workers N)"
            return GrpcCall(self, record, None).refuse("client_limit", text)
        connection = next((one for one in self._connections if one.calls < MOST_STREAMS), None)
        if connection is None:
            connection = _Connection(self._place, self.dialect.method)
            self._connections.append(connection)
        connection.calls += 1
        return GrpcCall(self, record, connection).send(message, metadata)

    def ended(self, connection: _Connection | None, record: Record) -> None:
        """A call is over."""
        if connection is not None:
            connection.calls -= 1
        self.owner.call_ended(record)
        if self._retired:
            self._close_idle()

    def retire(self) -> None:
        """See Calls."""
        self._retired = True
        self._close_idle()

    def _close_idle(self) -> None:
        for connection in [one for one in self._connections if not one.calls]:
            self._connections.remove(connection)
            self._closing.add(task := self.loop.create_task(connection.channel.close()))
            task.add_done_callback(self._closing.discard)


class GrpcCall:
    """A request in flight."""

    __slots__ = ("_calls", "_connection", "_reader", "_task", "record")

    def __init__(
        self,
        calls: GrpcCalls,
        record: Record,
        connection: _Connection | None,
    ) -> None:
        self._calls = calls
        self._connection = connection
        self.record: Record | None = record
        self._reader = CallReader(record, calls.owner.fresh)
        self._task: asyncio.Task[None] | None = None

    def send(self, message: bytes, metadata: Metadata) -> GrpcCall:
        """Begins it now, not when its task gets a turn. Returns itself."""
        assert self._connection is not None
        call = self._connection.start(message, metadata=metadata)
        self._task = self._calls.loop.create_task(self._run(call))
        return self

    def refuse(self, kind: str, text: str) -> GrpcCall:
        """Ends it, without being sent, once the pool knows it. Returns itself."""
        self._calls.loop.call_soon(self._refused, kind, text)
        return self

    async def _run(self, call: aio.UnaryStreamCall[bytes, bytes]) -> None:
        read, reader, record = self._calls.dialect.read, self._reader, self._reader.record
        try:
            while (data := await call.read()) is not aio.EOF:
                read(data, reader, perf_counter_ns())
            code, text = await call.code(), await call.details()
            self._settle(code, text or "")
        except aio.AioRpcError as error:
            self._settle(error.code(), error.details() or "")
        except ValueError as error:
            record.fail("bad_stream", f"a message can't be read: {error}")
            call.cancel()
        except asyncio.CancelledError:  # abort() has ended the record
            call.cancel()
            return
        self._over()

    def _settle(self, code: grpc.StatusCode, text: str) -> None:
        record = self._reader.record
        if code is grpc.StatusCode.OK:
            self._reader.end()
            return
        kind = kind_of(code.name, text, begun=self._reader.read_ns > 0)
        record.fail(kind, f"{code.name}: {text}" if text else code.name)

    def _refused(self, kind: str, text: str) -> None:
        if self.record is not None:
            self.record.fail(kind, text)
            self._over()

    def _over(self) -> None:
        record, self.record = self.record, None
        if record is not None:
            self._calls.ended(self._connection, record)

    # -- what the pool asks ----------------------------------------------------------------------

    @property
    def answered(self) -> bool:
        """See InFlight."""
        return self._reader.record.first_ns > 0

    @property
    def last_read_ns(self) -> int:
        """See InFlight."""
        return self._reader.read_ns

    def abort(self, kind: str, text: str) -> None:
        """See InFlight. The server is told, so that its engine is free."""
        if self.record is None:
            return
        self.record.fail(kind, text)
        if self._task is not None:
            self._task.cancel()
        self._over()

    def give_up(self, kind: str, text: str) -> None:
        """See InFlight."""
        self.abort(kind, text)
