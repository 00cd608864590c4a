"""Requests that the hub sends by itself at their time, and answers whose ends are told together."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator

import pytest

from rvtop.load.reads import native
from tests.unit.hub_bench import AFTER, BEFORE, Bench, piece, token, wait

pytestmark = pytest.mark.skipif(not native(), reason="the read path in C was not built here")

MS = 1_000_000
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"data: [DONE]\n\n"
ANSWER = HEAD + token() + piece(END) + b"0\r\n\r\n"


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    made.hub.learn(HEAD, b"", BEFORE + b"\x02" + AFTER)
    yield made
    made.close()


def quiet(sock: socket.socket) -> bool:
    return not select.select([sock], [], [], 0)[0]


# -- launches --------------------------------------------------------------------------------


def test_what_was_launched_is_sent_at_its_time(bench: Bench) -> None:
    bench.add()
    stream, at = bench.streams[0], time.perf_counter_ns() + 200 * MS
    stream.launch(b"request", at)
    bench.hub.poll()
    bench.hub.fire()
    early = stream.sent_ns, quiet(bench.servers[0])
    assert early == (0, True) or time.perf_counter_ns() >= at
    while not stream.sent_ns:
        wait(bench.hub)
        bench.hub.poll()
    assert at <= stream.sent_ns <= time.perf_counter_ns()
    assert bench.servers[0].recv(100) == b"request"
    bench.servers[0].sendall(ANSWER)
    bench.hub.poll()
    assert bench.ended == [END]
    assert stream.first_ns >= stream.sent_ns


def test_a_launch_counts_its_ttft_from_the_intended_time(bench: Bench) -> None:
    bench.add()
    bench.streams[0].launch(b"request", 5)
    bench.hub.fire()
    bench.servers[0].sendall(ANSWER)
    bench.hub.poll()
    ttft = int.from_bytes(bench.hub.take_ttfts(), "little")
    assert ttft == bench.streams[0].first_ns - 5


def test_the_earlier_of_a_launch_and_what_is_due_wakes_the_hub(bench: Bench) -> None:
    bench.add()
    called: list[int] = []
    bench.hub.on_due = lambda: called.append(time.perf_counter_ns())
    now = time.perf_counter_ns()
    bench.hub.due(now + 60_000 * MS)
    bench.streams[0].launch(b"request", now + 20 * MS)
    wait(bench.hub)
    bench.hub.poll()
    assert (bool(bench.streams[0].sent_ns), called) == (True, [])
    bench.hub.due(time.perf_counter_ns() + 20 * MS)
    while not called:
        wait(bench.hub)
        bench.hub.poll()
    assert len(called) == 1


def test_a_launch_goes_out_in_the_middle_of_a_turn(bench: Bench) -> None:
    """Eight streams later at most, however long the turn is."""
    for _ in range(10):
        bench.add(lambda data: time.sleep(0.005))
    bench.add()
    for server in bench.servers[:10]:
        server.sendall(b"x")
    begin = time.perf_counter_ns()
    bench.streams[10].launch(b"request", begin + 2 * MS)
    bench.hub.poll()
    took = time.perf_counter_ns() - begin
    assert begin < bench.streams[10].sent_ns < begin + took - 5 * MS


def test_launches_are_sent_in_their_order_and_those_of_released_streams_are_not(bench: Bench) -> None:
    for _ in range(4):
        bench.add()
    for number, stream in enumerate(bench.streams):
        stream.launch(b"%d" % number, 1 + number)
    bench.streams[0].release()
    bench.streams[2].release()
    bench.hub.fire()
    sent = [stream.sent_ns for stream in bench.streams]
    assert sent[0] == sent[2] == 0 < sent[1] <= sent[3]
    assert [quiet(server) for server in bench.servers] == [True, False, True, False]


def test_what_can_not_be_launched_is_refused(bench: Bench) -> None:
    for _ in range(3):
        bench.add()
    far = time.perf_counter_ns() + 60_000 * MS
    first, second, third = bench.streams
    first.launch(b"a", far)
    third.release()
    for stream, at in ((first, far), (second, far - 1), (third, far)):
        with pytest.raises(ValueError, match="not idle, or the time is before"):
            stream.launch(b"b", at)
    second.launch(b"b", far)


def test_of_a_launch_the_socket_does_not_take_the_rest_is_handed_on(bench: Bench) -> None:
    bench.add()
    request = bytes(range(256)) * (1 << 14)
    bench.streams[0].launch(request, 1)
    bench.hub.fire()
    server, taken = bench.servers[0], b""
    while not quiet(server):
        taken += server.recv(1 << 20)
    assert 0 < len(taken) < len(request)
    assert taken + b"".join(bench.rest) == request


def test_a_launch_to_a_server_that_is_gone_is_handed_on_whole(bench: Bench) -> None:
    bench.add()
    bench.streams[0].launch(b"request", 1)
    bench.servers[0].close()
    bench.hub.fire()
    assert bench.rest == [b"request"]
    bench.hub.poll()
    assert bench.lost == [0]


# -- ends ------------------------------------------------------------------------------------


def ask(bench: Bench, *, known: bool = True) -> int:
    """A request is in the air; its number."""
    number = bench.add()
    assert bench.streams[number].send(b"x", 1, 1, known) == 1
    return number


def test_ends_wait_for_each_other_while_more_are_in_the_air(bench: Bench) -> None:
    bench.hub.most_waiting = 2
    for _ in range(5):
        ask(bench)
    for answered, told in ((0, 0), (1, 0), (2, 3), (3, 3), (4, 5)):
        bench.servers[answered].sendall(ANSWER)
        bench.hub.poll()
        assert len(bench.ended) == told


def test_without_leave_to_wait_an_end_is_told_at_once(bench: Bench) -> None:
    for _ in range(2):
        ask(bench)
    bench.servers[0].sendall(ANSWER)
    bench.hub.poll()
    assert bench.ended == [END]


def test_whoever_asks_is_told_what_waits(bench: Bench) -> None:
    bench.hub.most_waiting = 9
    for _ in range(3):
        ask(bench)
    for number in (1, 0):
        bench.servers[number].sendall(ANSWER.replace(b"[DONE]", b"[DON%d]" % number))
        bench.hub.poll()
    assert bench.ended == []
    bench.hub.land()
    assert bench.ended == [END.replace(b"[DONE]", b"[DON1]"), END.replace(b"[DONE]", b"[DON0]")]
    bench.hub.land()
    assert len(bench.ended) == 2


def test_an_answer_that_python_reads_is_not_waited_for(bench: Bench) -> None:
    """Its end is not told here."""
    bench.hub.most_waiting = 9
    ask(bench, known=False)
    odd, plain = ask(bench), ask(bench)
    bench.servers[odd].sendall(b"HTTP/1.1 404 Not Found\r\n")
    bench.servers[plain].sendall(ANSWER)
    bench.hub.poll()
    assert bench.ended == [END]


@pytest.mark.parametrize("after", [b"", b"what?"])
@pytest.mark.parametrize("together", [False, True])
def test_what_comes_behind_an_end_is_told_behind_it(bench: Bench, after: bytes, together: bool) -> None:
    bench.hub.most_waiting = 9
    ask(bench)  # is in the air all the time
    told: list[object] = []
    ours, server = socket.socketpair()
    with ours, server:
        stream = bench.hub.add(ours.fileno(), *[told.append] * 4)
        stream.send(b"x", 1, 1, True)
        server.sendall(ANSWER)
        if after or not together:
            bench.hub.poll()
            assert told == []
        server.sendall(after)
        server.shutdown(socket.SHUT_WR)
        bench.hub.poll()
        stream.release()
    assert told == [END, *filter(None, [after]), 0]


def test_the_end_of_a_stream_that_was_released_is_not_told(bench: Bench) -> None:
    bench.hub.most_waiting = 9
    for _ in range(3):
        ask(bench)
    for server in bench.servers[:2]:
        server.sendall(ANSWER)
    bench.hub.poll()
    bench.streams[0].release()
    bench.hub.land()
    assert bench.ended == [END]


def test_one_who_fails_to_hear_an_end_keeps_no_other_from_hearing(bench: Bench) -> None:
    def fails(body: bytes) -> None:
        raise RuntimeError("a fault of the connection")

    bench.hub.most_waiting = 9
    bench.on_end = fails
    ask(bench)
    bench.on_end = bench.ended.append
    for _ in range(2):
        ask(bench)
    for server in bench.servers[:2]:
        server.sendall(ANSWER)
    bench.hub.poll()
    with pytest.raises(RuntimeError):
        bench.hub.land()
    bench.hub.land()
    assert bench.ended == [END]


def test_a_launch_does_not_wait_for_a_row_of_ends_to_be_told(bench: Bench) -> None:
    def slow(body: bytes) -> None:
        time.sleep(0.005)

    bench.on_end = slow
    for _ in range(6):  # the last one is in the air all the time
        ask(bench)
    last = bench.add()
    bench.hub.most_waiting = 9
    for server in bench.servers[:5]:
        server.sendall(ANSWER)
    bench.hub.poll()
    begin = time.perf_counter_ns()
    bench.streams[last].launch(b"request", begin + MS)
    bench.hub.land()
    assert begin < bench.streams[last].sent_ns < time.perf_counter_ns() - 5 * MS
