"""TLS in the read path in C: what takes a line of Python, what is dated how, replies that have to wait."""

from __future__ import annotations

import ssl
import time
from array import array
from collections.abc import Iterator
from typing import Any

import pytest

from rvtop.load.native.loader import native
from rvtop.load.wire.tls import Tls
from tests.unit.poller_bench import Bench, kernel_stamps, token
from tests.unit.tls_peer import Peer

pytestmark = pytest.mark.skipif(not native(), reason="the read path in C was not built here")

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class Counted:
    """A Tls that notes with what ``decrypt`` was called."""

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self.put, self.take, self.encrypt = tls.put, tls.take, tls.encrypt
        self.decrypted: list[bytes] = []

    @property
    def even(self) -> bool:
        return self._tls.even

    def decrypt(self, data: bytes, failure: ssl.SSLError | None = None) -> Any:
        self.decrypted.append(data)
        return self._tls.decrypt(data, failure)


class Line:
    """A connection with TLS on a Bench, which expects tokens; its server's end."""

    def __init__(self, bench: Bench, *, tcp: bool = False) -> None:
        self.bench, self.peer = bench, Peer()
        self.tls = Counted(self.peer.client)
        self.number = bench.add(tcp=tcp, tls=self.tls)
        self.conn, self.server = bench.conns[self.number], bench.servers[self.number]
        self.say(self.peer.said + self.peer.seal(HEAD))
        assert bench.read == [(self.number, HEAD)]
        del self.tls.decrypted[:]
        bench.expect_tokens(self.number)

    def say(self, data: bytes) -> None:
        self.server.sendall(data)
        self.bench.poller.poll(0)

    def gaps(self) -> int:
        """How many tokens were counted since the last call."""
        return len(array("q", self.conn.take_gaps()))


@pytest.fixture
def stamps() -> Iterator[None]:
    with kernel_stamps():
        yield


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def test_a_token_in_a_record_of_its_own_takes_no_line_of_python(bench: Bench) -> None:
    line = Line(bench)
    for _ in range(3):
        line.say(line.peer.seal(token()))
    assert (line.gaps(), line.tls.decrypted) == (3, [])
    both = line.peer.seal(token()) + line.peer.seal(token())
    line.say(both)
    assert (line.gaps(), line.tls.decrypted) == (2, [both])
    line.say(line.peer.seal(token()))
    assert (line.gaps(), len(line.tls.decrypted)) == (1, 1)


def test_a_record_that_is_begun_is_finished_by_the_next_read(bench: Bench) -> None:
    line = Line(bench)
    whole = line.peer.seal(token())
    # The end of it looks like a whole record, and is none.
    for cut in (1, 5, 6, len(whole) - 1):
        line.say(whole[:cut])
        assert line.gaps() == 0
        line.say(whole[cut:])
        assert line.gaps() == 1
        line.say(line.peer.seal(token()))
        assert line.gaps() == 1
        whole = line.peer.seal(token())
    assert bench.lost == []


def test_close_notify_is_the_end_and_an_end_without_it_is_told_apart(bench: Bench) -> None:
    first, second = Line(bench), None
    first.say(first.peer.seal(token()) + first.peer.close())
    assert (first.gaps(), bench.lost, first.peer.client.closed) == (1, [0], True)
    del bench.read[:]
    second = Line(bench)
    second.say(second.peer.close())  # a read of its own, which looks like data
    assert (bench.lost, second.peer.client.closed) == ([0, 0], True)
    del bench.read[:]
    third = Line(bench)
    third.server.close()
    bench.poller.poll(0)
    assert (bench.lost, third.peer.client.closed) == ([0, 0, 0], False)


def test_a_spoiled_record_is_told_by_its_reason(bench: Bench) -> None:
    line = Line(bench)
    spoiled = bytearray(line.peer.seal(token()))
    spoiled[-1] ^= 1
    line.say(bytes(spoiled))
    (error,) = bench.lost
    assert isinstance(error, ssl.SSLError)
    assert error.reason == "DECRYPTION_FAILED_OR_BAD_RECORD_MAC"
    with pytest.raises(ssl.SSLError, match="bad record mac"):
        line.peer.open(line.server.recv(100))


@pytest.mark.usefixtures("stamps")
def test_what_came_while_the_loop_was_away_is_dated_by_its_arrival(bench: Bench) -> None:
    """However long TLS takes: one record, and one that is read in two parts, which comes with its end."""
    lines = [Line(bench, tcp=True)]
    del bench.read[:]
    lines.append(Line(bench, tcp=True))
    bench.poller.poll(0)
    whole = lines[1].peer.seal(token())
    lines[1].say(whole[:9])
    written = time.perf_counter_ns()
    lines[0].server.sendall(lines[0].peer.seal(token()))
    lines[1].server.sendall(whole[9:])
    time.sleep(0.05)
    back = time.perf_counter_ns()
    bench.poller.poll(0)
    dates = [line.conn.last_ns for line in lines]
    assert all(written - 1_000_000 < date < back - 25_000_000 for date in dates)


class Answers:
    """A Tls that answers whatever comes with ``reply``."""

    even = False

    def __init__(self, reply: bytes) -> None:
        self._reply = reply
        self.put = self.take = self.encrypt = lambda data: data

    def decrypt(self, data: bytes, failure: ssl.SSLError | None = None) -> Any:
        return data, self._reply, None


def test_a_reply_goes_out_at_once(bench: Bench) -> None:
    number = bench.add(tls=Answers(b"reply"))
    bench.servers[number].sendall(b"a")
    bench.poller.poll(0)
    assert bench.servers[number].recv(100) == b"reply"
    assert (bench.read, bench.rest) == ([(number, b"a")], [])


def test_no_request_overtakes_a_reply_that_the_socket_does_not_take(bench: Bench) -> None:
    reply = b"r" * (4 << 20)
    number = bench.add(tls=Answers(reply))
    bench.shrink(number)
    bench.conns[number].rest()
    assert bench.poller.idle == 1
    bench.servers[number].sendall(b"a")
    bench.poller.poll(0)
    (rest,) = bench.rest
    assert 0 < len(rest) < len(reply)
    assert bench.poller.send("record", b"x", 1, time.perf_counter_ns(), True) is None
    assert bench.poller.stale(time.perf_counter_ns()) == [number]


def test_a_request_waits_for_the_end_of_a_renegotiation() -> None:
    """What TLS can't write now it writes behind the server's next word."""

    class Renegotiates:
        def __init__(self) -> None:
            self.sent, self.busy = b"", True

        def write(self, data: bytes) -> int:
            if self.busy:
                raise ssl.SSLWantReadError
            self.sent += data[:5]
            return len(data[:5])

    peer = Peer()
    peer.client._object = between = Renegotiates()  # type: ignore[assignment]
    assert peer.client.encrypt(b"one request") == b""
    assert peer.client.encrypt(b", another") == b""
    between.busy = False
    peer.client.decrypt(peer.seal(b"word"))
    assert between.sent == b"one request, another"
