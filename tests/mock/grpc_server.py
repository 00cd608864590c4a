"""A mock that speaks gRPC: HTTP/2 by hand (RFC 9113), as much of it as grpcio's client needs, so that it
costs a few microseconds a message where a server of grpcio's would be the limit itself.

Options and log are the HTTP mock's. An empty message asks for the health or, else, for the models; any other
is a request for tokens. ``python -m tests.mock.grpc_server --port 0 …``, or tests.mock.process.GrpcMock.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import struct
import time
from dataclasses import dataclass, field

from rvtop.load.rpc import rvtop_v1_pb2 as pb
from tests.mock.server import Server, main
from tests.mock.wire import Stream

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_WINDOW_AT_FIRST = 65_535


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def _literal(name: bytes, value: bytes) -> bytes:
    """A header that is not indexed (RFC 7541, 6.2.2)."""
    return b"\x00" + bytes((len(name),)) + name + bytes((len(value),)) + value


#: ``:status: 200`` is entry 8 of HPACK's static table.
_HEAD = b"\x88" + _literal(b"content-type", b"application/grpc")
_OK = _literal(b"grpc-status", b"0")


def _message(data: bytes) -> bytes:
    return b"\x00" + struct.pack(">I", len(data)) + data


_TOKEN = _message(pb.GenerateResponse(text=" token", tokens=1).SerializeToString())


@dataclass(order=True)
class _Answer:
    """A request under way. ``connection`` gets its tokens at their times."""

    due: int
    number: int
    stream: Stream = field(compare=False)
    connection: Connection = field(compare=False)


class GrpcServer(Server):
    """What connections share: the answers under way, by the time of their next token."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        self.answers: list[_Answer] = []
        self._timer: asyncio.TimerHandle | None = None

    def connect(self) -> asyncio.Protocol:
        """See Server."""
        return Connection(self)

    def begin(self, answer: _Answer) -> None:
        """Has an answer's tokens written from now on."""
        self.open.add(answer.stream)
        heapq.heappush(self.answers, answer)
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if self.answers:
            self._timer = asyncio.get_running_loop().call_at(self.answers[0].due / 1e9, self._write)

    def _write(self) -> None:
        now = time.monotonic_ns()
        touched: dict[Connection, list[bytes]] = {}
        while self.answers and self.answers[0].due <= now:
            answer = heapq.heappop(self.answers)
            s, connection = answer.stream, answer.connection
            if s not in self.open:
                continue  # its client has gone
            late = now - answer.due
            s.late_sum += late
            s.late_max = max(s.late_max, late)
            if not s.sent:
                s.first, s.late_first = now, late
            s.sent, s.last = s.sent + 1, now
            touched.setdefault(connection, []).append(connection.token(answer.number, s))
            if s.sent < s.n:
                answer.due = self.deadline(s, s.sent)
                heapq.heappush(self.answers, answer)
            else:
                self.end(s, "done")
        for connection, frames in touched.items():
            connection.write(b"".join(frames))
        self._timer = None
        self._arm()

    def end(self, s: Stream, how: str) -> None:
        """Logs an answer that is over."""
        if s in self.open:
            self.open.discard(s)
            self.rows.append(s.row(how))


class Connection(asyncio.Protocol):
    """One client's connection, with any number of calls on it."""

    transport: asyncio.Transport

    def __init__(self, server: GrpcServer) -> None:
        self._server = server
        self._buffer = bytearray()
        self._begun = False
        self._paths: dict[int, bytes] = {}
        self._bodies: dict[int, bytearray] = {}
        self._streams: dict[int, Stream] = {}
        self._window = _WINDOW_AT_FIRST  # bytes that the client takes, over all streams
        self._waiting: list[tuple[bytes, int]] = []  # frames that it does not take yet

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        many = struct.pack(">HI", 3, 10_000)  # SETTINGS_MAX_CONCURRENT_STREAMS
        transport.write(_frame(_SETTINGS, 0, 0, many) + _frame(_WINDOW, 0, 0, struct.pack(">I", 1 << 30)))

    def connection_lost(self, exc: Exception | None) -> None:
        for s in self._streams.values():
            self._server.end(s, "cut")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._begun:
            if len(self._buffer) < len(_PREFACE):
                return
            assert self._buffer.startswith(_PREFACE)
            del self._buffer[: len(_PREFACE)]
            self._begun = True
        while len(self._buffer) >= 9:
            size = int.from_bytes(self._buffer[:3])
            if len(self._buffer) < 9 + size:
                return
            kind, flags = self._buffer[3], self._buffer[4]
            stream = int.from_bytes(self._buffer[5:9]) & 0x7FFFFFFF
            payload = bytes(self._buffer[9 : 9 + size])
            del self._buffer[: 9 + size]
            self._take(kind, flags, stream, payload)

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _HEADERS:
            self._paths[stream], self._bodies[stream] = payload, bytearray()
        elif kind == _DATA:
            self._bodies[stream] += payload
            self.transport.write(_frame(_WINDOW, 0, 0, struct.pack(">I", len(payload))) if payload else b"")
            if flags & _END_STREAM:
                self._request(stream, self._paths.pop(stream), bytes(self._bodies.pop(stream)[5:]))
        elif kind == _RESET and stream in self._streams:
            self._server.end(self._streams.pop(stream), "cut")
        elif kind == _SETTINGS and not flags & _ACK:
            self.transport.write(_frame(_SETTINGS, _ACK, 0))
        elif kind == _PING and not flags & _ACK:
            self.transport.write(_frame(_PING, _ACK, 0, payload))
        elif kind == _WINDOW and stream == 0:
            self._window += int.from_bytes(payload)
            held, self._waiting = self._waiting, []
            for data, cost in held:
                self._send(data, cost)

    def _request(self, stream: int, head: bytes, message: bytes) -> None:
        if not message:
            health = b"/grpc.health" in head
            models = [pb.Model(id=name, max_model_len=8192, owned_by="mock") for name in self._server.models]
            told = b"\x08\x01" if health else pb.ListModelsResponse(models=models).SerializeToString()
            data = _message(told)
            self._send(self._headers(stream) + _frame(_DATA, 0, stream, data), len(data))
            self._send(_frame(_HEADERS, _END_HEADERS | _END_STREAM, stream, _OK), 0)
            return
        asked, now, server = pb.GenerateRequest.FromString(message), time.monotonic_ns(), self._server
        server.requests += 1
        self._streams[stream] = s = Stream(
            id=f"{server.requests:016x}",
            model=server.models[asked.model],
            chat=True,
            sse=True,
            usage=True,
            continuous=False,
            n=asked.max_tokens or server.tokens,
            prompt_tokens=(len(message) + 3) // 4,
            created=int(time.time()),
            arrival=now,
        )
        self._send(self._headers(stream), 0)
        server.begin(_Answer(server.deadline(s, 0), stream, s, self))

    def _headers(self, stream: int) -> bytes:
        return _frame(_HEADERS, _END_HEADERS, stream, _HEAD)

    def token(self, stream: int, s: Stream) -> bytes:
        """The frames of the next token; the last brings the end."""
        if s.sent < s.n:
            return _frame(_DATA, 0, stream, _TOKEN)
        usage = pb.Usage(prompt_tokens=s.prompt_tokens, completion_tokens=s.n)
        last = pb.GenerateResponse(text=" end", tokens=1, finish_reason="length", usage=usage)
        self._streams.pop(stream, None)
        return _frame(_DATA, 0, stream, _message(last.SerializeToString())) + _frame(
            _HEADERS, _END_HEADERS | _END_STREAM, stream, _OK
        )

    def write(self, frames: bytes) -> None:
        """Writes frames of tokens, as soon as the client's window has room."""
        self._send(frames, len(frames))  # a little more than what counts

    def _send(self, data: bytes, cost: int) -> None:
        if self._waiting or cost > self._window:
            self._waiting.append((data, cost))
            return
        self._window -= cost
        self.transport.write(data)


if __name__ == "__main__":
    main(GrpcServer)
