"""From any stream, however chunked and split, the read path in C learns what the reference reads from it."""

from __future__ import annotations

import socket
from array import array
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvtop.load.connection import Connection
from rvtop.load.reads import make_hub, native
from rvtop.load.record import Record
from rvtop.load.stream import Fresh
from tests.property.test_load_stream import Facts, bodies, cut_bodies, reference, vllm

pytestmark = pytest.mark.skipif(not native(), reason="the read path in C was not built here")

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Transport:
    """The end of a socket pair that asyncio would hold."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.closed = sock, False

    def get_extra_info(self, name: str) -> Any:
        return self.sock if name == "socket" else None

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        pass

    def write(self, data: bytes) -> None:
        self.sock.sendall(data)

    def abort(self) -> None:
        self.closed = True
        self.sock.close()


class Pool:
    """What a Connection needs of its pool; one connection on a socket pair."""

    def __init__(self) -> None:
        self.hub = make_hub()
        assert self.hub is not None
        self.fresh, self.ended = Fresh(), list[Record]()
        ours, self.server = socket.socketpair()
        ours.setblocking(False)
        self.connection = Connection(self)  # type: ignore[arg-type]
        self.connection.connection_made(Transport(ours))  # type: ignore[arg-type]
        self.connection.join()

    def opened(self, connection: Connection) -> None:
        pass

    forget = give_back = opened

    def finished(self, connection: Connection, record: Record) -> None:
        self.ended.append(record)

    def ask(self, number: int, wire: bytes, cuts: list[int]) -> Record:
        """One request whose answer is ``wire``, which comes in reads that are cut at ``cuts``."""
        record = Record(number, 0, 0, 0, 1)
        record.sent_ns = 1
        self.connection.send(record, b"x")
        for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True):
            if not self.ended:
                self.server.sendall(wire[a:b])
                self.hub.poll()
        return record

    def close(self) -> None:
        self.connection.drop()
        self.server.close()


def learned(wire: bytes, cuts: list[int]) -> Facts:
    """All but the times of what a connection learns; they are checked against each other."""
    pool = Pool()
    try:
        record = pool.ask(1, wire, cuts)
        if not pool.ended:  # a body without an end
            pool.server.close()
            pool.hub.poll()
        assert pool.ended == [record]
        live = array("q", pool.fresh.gaps_ns)
        live.frombytes(pool.hub.take_gaps())
        assert sorted(live) == sorted(record.gaps)
        assert sum(record.gaps) == record.last_ns - record.first_ns
        assert all(gap >= 0 for gap in record.gaps)
        return Facts(
            error=record.error,
            finish=record.finish,
            chunks=record.chunks,
            output=record.output_tokens,
            prompt=record.prompt_tokens,
            cached=record.cached_tokens,
            gaps=[0] * len(record.gaps),
            engine=record.engine,
        )
    finally:
        pool.close()


def expected(body: bytes) -> Facts:
    facts = reference(body, lambda offset: 0)
    return replace(facts, first=None, last=None)


def chunked(body: bytes, cuts: list[int], *, upper: bool = False) -> bytes:
    form = b"%X\r\n%b\r\n" if upper else b"%x\r\n%b\r\n"
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    return HEAD + b"".join(form % (len(piece), piece) for piece in pieces if piece) + b"0\r\n\r\n"


@settings(max_examples=400, deadline=None, derandomize=True)
@given(cut_bodies(), st.booleans(), st.lists(st.floats(0, 1), max_size=12), st.booleans())
def test_any_chunking_and_splitting_of_any_stream_tells_what_the_reference_reads(
    case: tuple[bytes, list[int]], upper: bool, at: list[float], by_chunk: bool
) -> None:
    body, cuts = case
    wire = chunked(body, cuts, upper=upper)
    where = {round(share * len(wire)) for share in at}
    if by_chunk:  # as most servers write: a chunk a packet
        where |= {i + 2 for i in range(len(wire)) if wire[i : i + 2] == b"\r\n"}
    assert learned(wire, sorted(where - {0, len(wire)})) == expected(body)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(bodies())
def test_a_byte_at_a_time(case: tuple[bytes, list[int]]) -> None:
    body, ends = case
    wire = chunked(body, ends[:-1])
    assert learned(wire, list(range(1, len(wire)))) == expected(body)


def test_of_a_plain_stream_python_sees_the_first_and_the_last_events() -> None:
    texts = [f" token{i}" for i in range(50)] + ['a "quoted" text\n', "back\\slash", 'both \\"', "안녕"]
    events = [vllm("a"), *map(vllm, texts), vllm("", "stop"), b"data: [DONE]\n\n"]
    wires = [chunked(event, []).removeprefix(HEAD).removesuffix(b"0\r\n\r\n") for event in events]
    pool, seen = Pool(), []
    try:
        record = Record(1, 0, 0, 0, 1)
        pool.connection.send(record, b"x")
        for wire in [HEAD, *wires, b"0\r\n\r\n"]:
            before = pool.connection.read_ns
            pool.server.sendall(wire)
            pool.hub.poll()
            seen.append(pool.connection.read_ns != before)
        last = len(wires) + 1
        assert [i for i, passed in enumerate(seen) if passed] == [0, 1, last - 2, last - 1, last]
        assert (record.chunks, record.finish, record.error) == (len(texts) + 1, "stop", None)
    finally:
        pool.close()
