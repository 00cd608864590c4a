"""From any stream, however chunked and split, the read path in C learns what the reference reads from it."""

from __future__ import annotations

import gzip
import re
import socket
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvtop.load.native.loader import make_poller, native
from rvtop.load.native.templates import Templates
from rvtop.load.wire.completion import Fresh
from rvtop.load.wire.connection import Connection
from rvtop.load.wire.native_reads import NativeReads, fill_record, read_natively
from rvtop.load.wire.record import Record
from rvtop.load.wire.response_text import answer_text
from rvtop.load.wire.turn import LoopTurn
from tests.property.test_load_stream import Facts, bodies, cut_bodies, reference, timeless, vllm

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

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes) -> None:
        self.sock.sendall(data)

    def abort(self) -> None:
        self.closed = True
        self.sock.close()


class Pool:
    """The owner of one connection on a socket pair, read in C or as asyncio would."""

    def __init__(self, *, in_c: bool = True) -> None:
        self.poller = make_poller() if in_c else None
        self.templates = None if self.poller is None else Templates(self.poller)
        self.fresh, self.ended = Fresh(), list[Record]()
        self.turn = LoopTurn(time.monotonic)
        self.ours, self.server = socket.socketpair()
        self.ours.setblocking(False)
        self.connection = self.connect()
        self.connection.connection_made(Transport(self.ours))  # type: ignore[arg-type]
        self.connection.join()
        if self.poller is not None:
            self.poller.on_completed = self.reap
            self.connection._native.conn.rest()  # type: ignore[union-attr]

    def connect(self) -> Connection:
        """A connection to be read."""
        return Connection(self)

    def say(self, data: bytes) -> None:
        """The server says this; it is read."""
        self.server.sendall(data)
        self.poll()

    def heard(self) -> bytes:
        """What the server has heard."""
        return self.server.recv(10)

    def hang_up(self) -> None:
        """The server closes the connection; that is read."""
        self.server.close()
        self.poll()

    def reap(self) -> None:
        self.register_sent()
        assert self.poller is not None
        for completed in self.poller.take_completed():
            fill_record(self.fresh, *completed)
            self.finished(completed[0])

    def poll(self) -> None:
        """Reads what has come; tells the connection when that was the end."""
        if self.poller is not None:
            self.poller.poll(0)
            return
        data = self.ours.recv(1 << 18)
        if data:
            self.connection.data_received(data)
        else:
            self.connection.connection_lost(None)

    def adopt(self, connection: Connection) -> NativeReads | None:
        if self.poller is None or self.templates is None:
            return None
        return read_natively(self.poller, self.templates, connection)

    def opened(self, connection: Connection) -> None:
        pass

    def needs_loop(self, connection: Connection, yes: bool) -> None:
        pass

    closed = give_back = opened

    def register_sent(self) -> None:
        assert self.poller is not None
        for record, connection, sent_ns in self.poller.take_sent():
            assert connection is self.connection
            record.sent_ns = sent_ns

    def finished(self, record: Record) -> None:
        self.ended.append(record)

    def ask(self, number: int, wire: bytes, cuts: list[int]) -> Record:
        """One request whose answer is ``wire``, which comes in reads that are cut at ``cuts``."""
        self.ended.clear()
        if self.templates is not None:
            self.templates.set_ns = -(1 << 62)  # each answer may be made a template, however fast they come
        record = Record(number, 0, 0, 0, 1)
        if self.poller is not None and number % 2:
            self.poller.schedule(record, b"x", 1)
            self.poller.send_due()
        else:
            record.sent_ns = 1
            self.connection.send(record, b"x")
        assert self.heard() == b"x"  # unread, it would make the closing a reset
        for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True):
            if not self.ended:
                self.say(wire[a:b])
        if not self.ended:  # a body without an end
            self.hang_up()
        assert self.ended == [record]
        return record

    def close(self) -> None:
        self.connection.drop()
        self.server.close()
        if self.poller is not None:
            self.poller.close()  # it holds us, and its descriptors

    def take_fresh(self) -> tuple[list[int], list[int]]:
        """(TTFTs, gaps) for the live view since the last call."""
        ttfts, gaps = array("q", self.fresh.ttft_ns), array("q", self.fresh.gaps_ns)
        if self.poller is not None:
            ttfts.frombytes(self.poller.take_ttfts())
            gaps.frombytes(self.poller.take_gaps())
        del self.fresh.ttft_ns[:], self.fresh.gaps_ns[:]
        return sorted(ttfts), sorted(gaps)


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool()
    yield made
    made.close()


Answer = tuple[bytes, list[int]]  # what comes, and where it is cut


def told(
    answers: list[Answer], *, in_c: bool = True, make: Callable[..., Pool] = Pool
) -> list[tuple[Facts, bool, bool]]:
    """All but the times of what a connection learns of answers that come one after the other, whether there
    was a head, and whether the connection is open then; the times are checked against each other."""
    pool, out = make(in_c=in_c), list[tuple[Facts, bool, bool]]()
    try:
        for number, (wire, cuts) in enumerate(answers):
            record = pool.ask(number, wire, cuts)
            ttfts, gaps = pool.take_fresh()
            assert gaps == sorted(record.gaps)
            assert ttfts == ([record.first_ns - record.intended_ns] if record.first_ns else [])
            if record.chunks:
                assert sum(record.gaps) == record.last_ns - record.first_ns
            assert all(gap >= 0 for gap in record.gaps)
            assert not record.first_ns or 0 < record.headers_ns <= record.first_ns
            transport = pool.connection.transport
            assert transport is not None
            # What is spoiled at its end alone may leave the connection of use: the poller gave it back by
            # then.
            spoiled = record.error is not None and not record.error.startswith("http_")
            out.append((timeless(record), record.headers_ns > 0, spoiled or not transport.is_closing()))
            if spoiled or transport.is_closing():
                break
        return out
    finally:
        pool.close()


def learned(wire: bytes, cuts: list[int], *, in_c: bool = True) -> Facts:
    """The same of one answer."""
    return told([(wire, cuts)], in_c=in_c)[0][0]


def expected(body: bytes) -> Facts:
    facts = reference(body, lambda offset: 0)
    return replace(facts, first=None, last=None)


def piece(data: bytes, *, upper: bool = False) -> bytes:
    """One HTTP chunk."""
    return (b"%X\r\n%b\r\n" if upper else b"%x\r\n%b\r\n") % (len(data), data)


def chunked(body: bytes, cuts: list[int], *, upper: bool = False) -> bytes:
    parts = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    return HEAD + b"".join(piece(part, upper=upper) for part in parts if part) + b"0\r\n\r\n"


@settings(max_examples=200, deadline=None, derandomize=True)
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


def packets(wire: bytes) -> list[int]:
    """Cuts behind the head and behind each event, so that something can be learned of the first token."""
    cuts = [end.end() for end in re.finditer(rb"\r\n\r\n|\n\n\r\n", wire)]
    return [cut for cut in cuts if cut < len(wire)]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(cut_bodies(), st.lists(st.floats(0, 1), max_size=8))
def test_an_answer_like_the_one_before_tells_the_same(case: tuple[bytes, list[int]], at: list[float]) -> None:
    body, cuts = case
    wire = chunked(body, cuts)
    where = sorted({round(share * len(wire)) for share in at} - {0, len(wire)})
    facts = [facts for facts, _, _ in told([(wire, packets(wire)), (wire, []), (wire, where)])]
    assert facts == [expected(body)] * len(facts)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(bodies())
def test_a_byte_at_a_time(case: tuple[bytes, list[int]]) -> None:
    body, ends = case
    wire = chunked(body, ends[:-1])
    assert learned(wire, list(range(1, len(wire)))) == expected(body)


ODD = st.sampled_from(
    [
        piece(vllm("x")),
        piece(vllm("y")),
        piece(vllm("")),
        piece(vllm('"')),
        piece(vllm("x") + vllm("y")),
        piece(vllm("x")[:-1]),
        piece(vllm("x")).upper(),
        piece(vllm("x"))[:-2],
        piece(vllm("x"))[:-1],
        piece(vllm("x")).replace(b"\r\n", b"\n"),
        piece(vllm("x")).replace(b"\r\n", b";a=b\r\n", 1),
        b"0" * 3 + piece(vllm("x")),
        b"0" * 9 + piece(vllm("x")),
        b"ffffffff\r\n" + vllm("x"),
        b"-5\r\nhello\r\n",
        b"5\r\nhello\r\n",
        piece(vllm("z", "stop")),
        piece(b"data: [DONE]\n\n"),
        piece(b'data: {"error":{"message":"broken"}}\n\n'),
        b"0\r\n\r\n",
        b"\r\n",
        b"\x00",
        HEAD,
    ]
)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.lists(ODD, max_size=12), st.lists(st.floats(0, 1), max_size=8))
def test_of_anything_at_all_both_read_paths_learn_the_same(parts: list[bytes], at: list[float]) -> None:
    wire = HEAD + piece(vllm("a")) + b"".join(parts)
    cuts = sorted({round(share * len(wire)) for share in at} - {0, len(wire)})
    assert learned(wire, cuts) == learned(wire, cuts, in_c=False)


def opening(**more: object) -> bytes:
    """The event before the first token."""
    return (
        vllm("")
        .replace(b'"content"', b'"role":"assistant","content"')
        .replace(b'"model"', b"".join(b'"%b":%d,' % (k.encode(), v) for k, v in more.items()) + b'"model"')
    )


def answer(number: int, first: bytes = b"", head: bytes = HEAD) -> bytes:
    """A plain answer, of which nothing but the name and the date is its own."""
    events = [opening(created=number), first or vllm("a"), vllm("b"), vllm("c", "stop"), b"data: [DONE]\n\n"]
    named = b"".join(map(piece, events)).replace(b"chatcmpl-1", b"chatcmpl-%d" % number)
    return head + named + b"0\r\n\r\n"


DATED = HEAD.replace(b"content-type", b"date: Sat, 21 Nov 2026 18:00:00 GMT\r\ncontent-type")
ODD_HEADS = [
    DATED.replace(b"date: ", b"date:"),
    DATED.replace(b"Sat", b"\xff\t"),
    DATED.replace(b"Sat", b"\x7f"),
    DATED.replace(b"date: Sat", b"date:\r\n Sat"),
    DATED.replace(b"date", b"connection: close\r\ndate"),
    DATED.replace(b"date", b"content-length: 3\r\ndate"),
    DATED.replace(b"date", b"content-encoding: gzip\r\ndate"),
    DATED.replace(b"transfer-encoding: chunked", b"x: y"),
    DATED.replace(b"200 OK", b"503 Busy"),
    DATED.replace(b"HTTP/1.1", b"HTTP/1.0"),
    b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD,
    HEAD[:-2],
    HEAD + HEAD,
]
KNOWN_HEADS = [HEAD, DATED, DATED.replace(b"18:00", b"18:01")]
#: What may come before the first token, or for it.
FIRSTS = [
    opening(created=7),
    opening(created=7) + vllm("x"),
    opening(created=7)[:-1],
    opening(created=7).replace(b"7", b"07"),
    opening(created=7).replace(b"7", b"7" * 19),
    opening(created=7).replace(b"chatcmpl-1", b'a"b'),
    opening(created=7).replace(b"chatcmpl-1", b'a\\"b'),
    opening(created=7).replace(b"chatcmpl-1", b"\xff"),
    opening(created=7).replace(b'"m"', b'"another"'),
    opening(fingerprint=7),
    vllm("x"),
    vllm("\n"),
    vllm("안녕"),
    vllm("x").replace(b'"x"', b'"\xff"'),
    vllm("x").replace(b'"x"', b'"\xed\xa0\x80"'),
    vllm("x").replace(b'"x"', b'"\n"'),
    vllm("x").replace(b'"x"', b'"\\q"'),
    vllm("x", usage=None),
    vllm("x").replace(b'"choices"', b'"usage":{"completion_tokens":1},"choices"'),
    vllm("x") + vllm(""),
    vllm("z", "stop"),
    b": a comment\n\n",
    b"\xef\xbb\xbf" + vllm("x"),
    b"data: \n\n",
    b"data: [DONE]\n\n",
]
DONE = piece(b"data: [DONE]\n\n")
ENDS = [
    b"",
    b"0\r\n\r\n",
    b"00\r\n\r\n",
    b"0\r\nx: y\r\n\r\n",
    DONE + b"0\r\n\r\n",
    piece(b'data: {"error":{"message":"broken"}}\n\n') + b"0\r\n\r\n",
    piece(vllm("z", "stop")) + b"0\r\n\r\n",
    piece(vllm("z", "stop")) + DONE + b"0\r\n\r\n",
    piece(vllm("z", "stop")) + DONE + b"0\r\n\r\n" + HEAD,
]


@st.composite
def odd_answers(draw: st.DrawFn) -> Answer:
    """Answers that begin as one that is known, or nearly so."""
    head = draw(st.sampled_from(KNOWN_HEADS * 8 + ODD_HEADS))
    parts = [piece(draw(st.sampled_from([vllm("x")] * len(FIRSTS) + FIRSTS)))]
    if draw(st.booleans()):
        parts = [piece(opening(created=draw(st.integers(0, 99)))), *parts]
    parts += draw(st.lists(st.just(piece(vllm("b"))) | ODD, max_size=draw(st.sampled_from([0, 0, 4]))))
    parts.append(draw(st.sampled_from(ENDS)))
    wire = head + b"".join(parts)
    if draw(st.booleans()):
        return wire, packets(wire)
    at = draw(st.lists(st.floats(0, 1), max_size=4))
    return wire, sorted({round(share * len(wire)) for share in at} - {0, len(wire)})


def check_alike(answers: list[Answer]) -> None:
    """Whatever was learned of one answer changes nothing of what the next ones tell."""
    assert told(answers) == told(answers, in_c=False)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.lists(odd_answers(), min_size=1, max_size=3), st.booleans())
def test_what_was_learned_of_one_answer_changes_nothing_of_the_next(rest: list[Answer], dated: bool) -> None:
    first, last = answer(1, head=DATED if dated else HEAD), answer(2)
    check_alike([(first, packets(first)), *rest, (last, [])])


def test_an_answer_that_the_parser_has_to_end_is_ended_by_it() -> None:
    """Its head was known, but not its first token: the next request needs a parser between messages."""
    first, escaped = answer(1), answer(2, vllm("\n"))
    check_alike([(first, packets(first)), (escaped, packets(escaped)[:3]), (escaped, packets(escaped)[:3])])


def test_a_token_is_not_learned_as_what_stands_before_the_first_token() -> None:
    ends = piece(vllm("c", "stop")) + DONE + b"0\r\n\r\n"
    first = HEAD + piece(vllm("a")) + piece(vllm("")) + ends
    check_alike([(first, [len(HEAD), len(first) - len(ends)]), (HEAD + piece(vllm("a")) * 2 + ends, [])])


def test_what_was_read_of_an_answer_before_teaches_nothing() -> None:
    zipped = gzip.compress(vllm("a") + vllm("b", "stop") + b"data: [DONE]\n\n")
    head = HEAD.replace(b"content", b"content-encoding: gzip\r\ncontent", 1)
    first, second, third = answer(1), answer(2, vllm("\n")), answer(3)
    check_alike(
        [
            (first, packets(first)),
            (head + piece(zipped) + b"0\r\n\r\n", []),
            (second, packets(second)),
            (third, packets(third)),
        ]
    )


@pytest.mark.parametrize(
    "head",
    [
        HEAD.replace(b"content", b"connection: close\r\ncontent", 1),
        HEAD.replace(b"HTTP/1.1", b"HTTP/1.0"),
        HEAD.replace(b"transfer-encoding: chunked", b"content-length: 9999"),
        HEAD.replace(b"200", b"500"),
    ],
)
def test_of_an_answer_that_ends_otherwise_nothing_is_learned(pool: Pool, head: bytes) -> None:
    wire = answer(1, head=head)
    pool.ask(1, wire, packets(wire))
    assert pool.templates is not None
    assert pool.templates.head == b""


@pytest.mark.parametrize("which", ["opening", "first"])
def test_a_server_that_begins_otherwise_from_now_on_is_learned_anew(pool: Pool, which: str) -> None:
    def changed(number: int) -> bytes:
        if which == "first":
            return answer(number, vllm("a", more=1))
        return answer(number).replace(b'"role"', b'"part"')

    pool.ask(1, answer(1), packets(answer(1)))
    for number in (2, 3):
        pool.ask(number, changed(number), packets(changed(number)))
    pool.connection._parser = None  # type: ignore[assignment]
    assert pool.ask(4, changed(4), packets(changed(4))[:3]).error is None


def test_an_answer_that_begins_as_one_before_is_not_parsed(pool: Pool) -> None:
    first = pool.ask(1, answer(1, head=DATED), packets(answer(1, head=DATED)))
    pool.connection._parser = None  # type: ignore[assignment]
    for number in (2, 3):
        wire = answer(number, vllm("x"), DATED.replace(b"18:00", b"18:0%d" % number))
        record = pool.ask(number, wire, [wire.index(b"\r\n\r\n") + 4])
        assert timeless(record) == timeless(first)
        assert record.headers_ns < record.first_ns == record.last_ns


def test_whoever_wants_the_text_gets_all_of_it(pool: Pool) -> None:
    pool.ask(1, answer(1), packets(answer(1)))
    record = Record(2, 0, 0, 0, 1)
    record.body = []
    pool.connection.send(record, b"x")
    pool.server.sendall(answer(2))
    while not pool.ended or pool.ended[-1] is not record:
        pool.poll()
    assert answer_text(record.body) == "abc"


def test_what_came_before_an_answer_was_given_up_is_kept(pool: Pool) -> None:
    pool.ask(1, answer(1), packets(answer(1)))
    record = Record(2, 0, 0, 0, 1)
    pool.connection.send(record, b"x")
    assert not pool.connection.answered
    pool.server.sendall(HEAD + piece(opening(created=2)))
    pool.poll()
    assert not pool.connection.answered
    pool.server.sendall(piece(vllm("a")) + piece(vllm("b")))
    pool.poll()
    assert pool.connection.answered
    assert record.first_ns == 0  # as far as Python has heard
    pool.connection.give_up("stalled", "nothing came")
    assert (record.error, record.chunks, len(record.gaps)) == ("stalled", 2, 1)
    assert 0 < record.headers_ns <= record.first_ns <= record.last_ns


def seen_by_python(events: list[bytes]) -> tuple[list[int], Record]:
    """Which of the events of a stream, the head being number 0, were not counted in C; one read each."""
    pool, seen = Pool(), []
    try:
        record = Record(1, 0, 0, 0, 1)
        pool.connection.send(record, b"x")
        for number, wire in enumerate([HEAD, *map(piece, events), b"0\r\n\r\n"]):
            before = pool.connection.read_ns
            pool.server.sendall(wire)
            pool.poll()
            if pool.connection.read_ns != before:
                seen.append(number)
        return seen, record
    finally:
        pool.close()


def test_of_a_plain_stream_python_sees_the_first_and_the_last_events() -> None:
    texts = [f" token{i}" for i in range(50)] + ['a "quoted" text\n', "back\\slash", 'both \\"', "안녕"]
    seen, record = seen_by_python([vllm("a"), *map(vllm, texts), vllm("", "stop"), b"data: [DONE]\n\n"])
    last = len(texts) + 4
    assert seen == [0, 1, last - 2, last - 1, last]
    assert (record.chunks, record.finish, record.error) == (len(texts) + 1, "stop", None)


@pytest.mark.parametrize(("key", "of_them"), [(b"created", []), (b"time", [11, 21])])
def test_where_each_second_has_a_spelling_of_its_own_python_sees_one_event_of_it(
    key: bytes, of_them: list[int]
) -> None:
    """Or none, where the difference is known to mean nothing."""

    def dated(second: int) -> bytes:
        return vllm(" x").replace(b'"model":"m"', b'"%b":%d,"model":"m"' % (key, second))

    seen, record = seen_by_python([dated(number // 10) for number in range(30)] + [vllm("", "stop")])
    assert seen == [0, 1, *of_them, 31, 32]
    assert (record.chunks, record.finish, record.error) == (30, "stop", None)
