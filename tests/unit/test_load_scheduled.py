"""Requests that the poller sends by itself at their time, and answers whose ends are told together."""

from __future__ import annotations

import select
import socket
import time
from array import array
from collections.abc import Iterator

import pytest

from rvtop.load.native.loader import native
from tests.unit.poller_bench import AFTER, BEFORE, Bench, piece, token, wait

pytestmark = pytest.mark.skipif(not native(), reason="the read path in C was not built here")

MS = 1_000_000
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"data: [DONE]\n\n"
ANSWER = HEAD + token() + piece(END) + b"0\r\n\r\n"


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    made.poller.set_template(HEAD, b"", BEFORE + b"\x02" + AFTER)
    yield made
    made.close()


def quiet(sock: socket.socket) -> bool:
    return not select.select([sock], [], [], 0)[0]


# -- can_schedule --------------------------------------------------------------------------------


def test_what_was_launched_is_sent_at_its_time(bench: Bench) -> None:
    bench.add_idle()
    stream, at = bench.conns[0], time.perf_counter_ns() + 200 * MS
    bench.poller.schedule("record", b"request", at)
    bench.poller.poll(0)
    bench.poller.send_due()
    early = bench.poller.take_sent()
    seen = early, quiet(bench.servers[0]), bench.poller.scheduled
    assert seen == ([], True, 1) or time.perf_counter_ns() >= at
    while bench.poller.scheduled:
        wait(bench.poller)
        bench.poller.poll(0)
    ((record, owner, sent_ns),) = early + bench.poller.take_sent()
    assert (record, owner, stream.record, bench.poller.idle) == ("record", 0, "record", 0)
    assert at <= sent_ns <= time.perf_counter_ns()
    assert bench.servers[0].recv(100) == b"request"
    bench.servers[0].sendall(ANSWER)
    bench.poller.poll(0)
    assert bench.ended == [("record", END)]
    assert (stream.record, bench.poller.idle) == (None, 1)
    assert stream.first_ns >= sent_ns


def test_what_is_told_of_an_answer_is_when_its_parts_came(bench: Bench) -> None:
    bench.add_idle()
    bench.poller.on_completed = lambda: None
    before = time.perf_counter_ns()
    bench.poller.send("record", b"request", before, before, True)
    edges = []
    for part in (HEAD, token(), token() + token(), piece(END) + b"0\r\n\r\n"):
        time.sleep(0.002)
        bench.servers[0].sendall(part)
        bench.poller.poll(0)
        edges.append(time.perf_counter_ns())
    ((record, head_ns, first_ns, read_ns, last_ns, gaps, body, _),) = bench.poller.take_completed()
    assert (record, body, len(gaps)) == ("record", END, 16)
    times = [head_ns, first_ns, last_ns, read_ns]
    assert all(a <= b for a, b in zip([before, *edges], times, strict=False))
    assert all(a <= b for a, b in zip(times, edges, strict=True))
    assert sum(array("q", gaps)) == last_ns - first_ns


def test_a_launch_counts_its_ttft_from_the_intended_time(bench: Bench) -> None:
    bench.add_idle()
    bench.poller.schedule("record", b"request", 5)
    bench.poller.send_due()
    bench.servers[0].sendall(ANSWER)
    bench.poller.poll(0)
    ttft = int.from_bytes(bench.poller.take_ttfts(), "little")
    assert ttft == bench.conns[0].first_ns - 5


def test_the_earlier_of_a_launch_and_what_is_due_wakes_the_poller(bench: Bench) -> None:
    bench.add_idle()
    called: list[int] = []
    bench.poller.on_due = lambda: called.append(time.perf_counter_ns())
    now = time.perf_counter_ns()
    bench.poller.due(now + 60_000 * MS)
    bench.poller.schedule("record", b"request", now + 20 * MS)
    wait(bench.poller)
    bench.poller.poll(0)
    assert (bench.poller.scheduled, called) == (0, [])
    bench.poller.due(time.perf_counter_ns() + 20 * MS)
    while not called:
        wait(bench.poller)
        bench.poller.poll(0)
    assert len(called) == 1


def test_a_launch_goes_out_in_the_middle_of_a_turn(bench: Bench) -> None:
    """Eight streams later at most, however long the turn is."""
    for _ in range(10):
        bench.add(lambda data: time.sleep(0.005))
    bench.add_idle()
    for server in bench.servers[:10]:
        server.sendall(b"x")
    begin = time.perf_counter_ns()
    bench.poller.schedule("record", b"request", begin + 2 * MS)
    bench.poller.poll(0)
    took = time.perf_counter_ns() - begin
    ((_, _, sent_ns),) = bench.poller.take_sent()
    assert begin < sent_ns < begin + took - 5 * MS


def test_launches_go_out_in_the_order_of_their_time_on_the_connection_that_was_idle_last(
    bench: Bench,
) -> None:
    for _ in range(4):
        bench.add()
    for number in (2, 0, 3, 1):
        bench.conns[number].rest()
    bench.conns[3].release()
    for name, at in (("b", 2), ("c", 3), ("a", 1), ("bb", 2)):
        bench.poller.schedule(name, b"x", at)
    bench.poller.send_due()
    assert [sent[:2] for sent in bench.poller.take_sent()] == [("a", 1), ("b", 0), ("bb", 2)]
    assert bench.no_connection == [("c", b"x")]
    assert [quiet(server) for server in bench.servers] == [False, False, False, True]


def test_a_connection_that_is_idle_for_too_long_is_not_used(bench: Bench) -> None:
    bench.add_idle()
    time.sleep(0.002)
    between = time.perf_counter_ns()
    bench.add_idle()
    now = time.perf_counter_ns()
    assert bench.poller.stale(now + 60_000 * MS) == []  # no limit yet
    bench.poller.idle_limit_ns = 60_000 * MS
    assert bench.poller.stale(now) == []
    assert bench.poller.stale(between + 60_000 * MS - MS) == [0]
    assert bench.poller.stale(now + 60_000 * MS) == [0, 1]
    assert bench.poller.send("record", b"x", now, now + 60_000 * MS, True) is None
    assert bench.poller.idle == 2
    assert bench.poller.send("record", b"x", now, now, True) == 1


def test_what_is_recalled_is_not_sent(bench: Bench) -> None:
    bench.add_idle()
    far = time.perf_counter_ns() + 60_000 * MS
    assert bench.poller.unschedule(0) is None
    for at in (far, far + 1, far + 2):
        bench.poller.schedule(at, b"x", at)
    assert (bench.poller.unschedule(far + 1), bench.poller.scheduled) == (far + 1, 1)
    assert (bench.poller.unschedule(far + 1), bench.poller.unschedule(0), bench.poller.scheduled) == (
        None,
        far,
        0,
    )
    bench.poller.send_due()
    assert (bench.poller.take_sent(), bench.poller.idle) == ([], 1)


def test_a_word_that_is_heard_before_a_launch_is_not_before_its_date(bench: Bench) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        bench.add_idle()
        bench.poller.watch(ours.fileno(), lambda: (time.sleep(0.02), ours.recv(9)))  # type: ignore[arg-type]
        bench.poller.schedule("record", b"request", 1)
        theirs.sendall(b"word")
        begin = time.perf_counter_ns()
        bench.poller.send_due()
        ((_, _, sent_ns),) = bench.poller.take_sent()
        assert sent_ns >= begin + 20 * MS
        bench.poller.watch(-1, print)


def test_a_word_takes_back_none_of_those_that_are_sent_at_one_time(bench: Bench) -> None:
    """Heard between them, it would have those that were sent planned again with the others."""
    ours, theirs = socket.socketpair()
    sent: list[object] = []

    def slow(schedule: tuple[object, bytes]) -> None:
        sent.append(schedule[0])
        theirs.sendall(b"word")
        time.sleep(0.01)

    with ours, theirs:
        bench.poller.on_no_connection = slow
        bench.poller.watch(ours.fileno(), lambda: (ours.recv(99), bench.poller.unschedule(0)))  # type: ignore[arg-type]
        for name, at in (("a", 5), ("b", 5), ("c", 6)):
            bench.poller.schedule(name, b"request", at)
        bench.poller.send_due()
        assert (sent, bench.poller.scheduled) == (["a", "b"], 0)
        bench.poller.watch(-1, print)


def test_thousands_are_launched_at_one_time(bench: Bench) -> None:
    for number in range(20_000):
        bench.poller.schedule(number, b"x", 7)
    assert bench.poller.unschedule(8) is None
    bench.poller.schedule("last", b"x", 9)
    assert bench.poller.unschedule(9) == 9
    bench.poller.schedule("again", b"x", 8)
    bench.poller.send_due()
    assert [schedule[0] for schedule in bench.no_connection] == [*range(20_000), "again"]


def test_a_poller_that_is_closed_calls_nobody(bench: Bench) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        bench.poller.watch(ours.fileno(), lambda: bench.read.append((0, b"a word")))
        bench.poller.close()
        theirs.sendall(b"word")
        bench.poller.poll(0)
        bench.poller.schedule("record", b"x", 1)
        with pytest.raises(RuntimeError, match="no callback is set"):
            bench.poller.send_due()
        assert bench.read == []


def test_a_stray_that_nobody_can_take_keeps_no_other_from_being_sent(bench: Bench) -> None:
    def fails(schedule: tuple[object, bytes]) -> None:
        raise RuntimeError("a fault of the pool")

    bench.poller.on_no_connection = fails
    for name in "abc":
        bench.poller.schedule(name, b"x", 1)
    with pytest.raises(RuntimeError):
        bench.poller.send_due()
    assert bench.poller.scheduled == 2
    for _ in range(2):
        bench.add_idle()
    bench.poller.send_due()
    assert [sent[0] for sent in bench.poller.take_sent()] == ["b", "c"]


def test_a_stream_in_use_or_released_sends_nothing(bench: Bench) -> None:
    for _ in range(2):
        bench.add()
    busy, gone = bench.conns
    busy.send("record", b"x", 1, 1, True)
    gone.release()
    for stream in (busy, gone):
        with pytest.raises(ValueError, match="released, or has a request in flight"):
            stream.send("other", b"y", 1, 1, True)
    gone.rest()
    assert (busy.record, gone.record, bench.poller.idle) == ("record", None, 0)


@pytest.mark.parametrize("how", ["schedule", "poller", "stream"])
def test_of_a_request_the_socket_does_not_take_the_rest_is_handed_on(bench: Bench, how: str) -> None:
    request = bytes(range(256)) * (1 << 14)
    bench.add()
    bench.shrink(0)
    if how == "stream":
        bench.conns[0].send("record", request, 1, 1, True)
    else:
        bench.conns[0].rest()
        if how == "poller":
            assert bench.poller.send("record", request, 1, 1, True) == 0
        else:
            bench.poller.schedule("record", request, 1)
            bench.poller.send_due()
    server, taken = bench.servers[0], b""
    while not quiet(server):
        taken += server.recv(1 << 20)
    assert 0 < len(taken) < len(request)
    assert taken + b"".join(bench.rest) == request
    server.sendall(ANSWER)  # before it has read all: whoever writes the rest has to see the end
    bench.poller.poll(0)
    assert (bench.ended, bench.read) == ([], [(0, ANSWER)])
    assert bench.conns[0].record == "record"
    bench.conns[0].finish()
    assert bench.conns[0].record is None


def test_a_launch_to_a_server_that_is_gone_is_handed_on_whole(bench: Bench) -> None:
    bench.add_idle()
    bench.poller.schedule("record", b"request", 1)
    bench.servers[0].close()
    bench.poller.send_due()
    assert bench.rest == [b"request"]
    bench.poller.poll(0)
    assert bench.lost == [0]


# -- ends ------------------------------------------------------------------------------------


def ask(bench: Bench, *, known: bool = True) -> int:
    """A request is in the air; its number."""
    number = bench.add()
    bench.conns[number].send(number, b"x", 1, 1, known)
    return number


def test_ends_wait_for_each_other_while_more_are_in_the_air(bench: Bench) -> None:
    bench.poller.most_waiting = 2
    for _ in range(5):
        ask(bench)
    for answered, told in ((0, []), (1, []), (2, [3]), (3, [3]), (4, [3, 2])):
        bench.servers[answered].sendall(ANSWER)
        bench.poller.poll(0)
        assert bench.waits == told
    assert bench.ended == [(number, END) for number in range(5)]


def test_without_leave_to_wait_an_end_is_told_at_once(bench: Bench) -> None:
    for _ in range(2):
        ask(bench)
    bench.servers[0].sendall(ANSWER)
    bench.poller.poll(0)
    assert bench.ended == [(0, END)]


def test_a_connection_is_idle_before_its_end_is_told(bench: Bench) -> None:
    bench.poller.most_waiting = 9
    for _ in range(2):
        ask(bench)
    bench.servers[0].sendall(ANSWER)
    bench.poller.poll(0)
    bench.poller.schedule("next", b"y", 1)
    bench.poller.send_due()
    assert [sent[:2] for sent in bench.poller.take_sent()] == [("next", 0)]
    bench.servers[0].sendall(ANSWER.replace(b"[DONE]", b"[NEXT]"))
    bench.poller.poll(0)
    assert bench.ended == []
    bench.reap()
    assert bench.ended == [(0, END), ("next", END.replace(b"[DONE]", b"[NEXT]"))]


def test_an_answer_that_python_reads_is_not_waited_for(bench: Bench) -> None:
    """Its end is not told here."""
    bench.poller.most_waiting = 9
    ask(bench, known=False)
    odd, plain = ask(bench), ask(bench)
    bench.servers[odd].sendall(b"HTTP/1.1 404 Not Found\r\n")
    bench.servers[plain].sendall(ANSWER)
    bench.poller.poll(0)
    assert bench.ended == [(plain, END)]


@pytest.mark.parametrize("after", [b"", b"what?"])
@pytest.mark.parametrize("together", [False, True])
def test_what_comes_behind_an_end_is_nobodys_answer(bench: Bench, after: bytes, together: bool) -> None:
    ask(bench)  # is in the air all the time
    told: list[tuple[object, object]] = []
    ours, server = socket.socketpair()
    bench.poller.on_completed = lambda: told.append(("completed", stream.record))
    with ours, server:
        hear = [
            lambda said, name=name: told.append((name, stream.record)) for name in ("read", "lost", "rest")
        ]
        stream = bench.poller.add(ours.fileno(), "owner", *hear)
        stream.send("record", b"x", 1, 1, True)
        server.sendall(ANSWER)
        if not together:
            bench.poller.poll(0)
            assert told == [("completed", None)]
        if after:
            server.sendall(after)
        server.shutdown(socket.SHUT_WR)
        bench.poller.poll(0)
        stream.release()
    read = [("read", "record")] if after and together else [("read", None)] if after else []
    assert [one for one in told if one[0] != "completed"] == [
        *read,
        ("lost", "record" if after and together else None),
    ]


def test_the_end_of_a_stream_that_was_released_is_told(bench: Bench) -> None:
    """The answer was whole."""
    bench.poller.most_waiting = 9
    for _ in range(2):
        ask(bench)
    bench.servers[0].sendall(ANSWER)
    bench.poller.poll(0)
    bench.conns[0].release()
    bench.reap()
    assert (bench.ended, bench.poller.idle) == ([(0, END)], 0)


def test_one_who_fails_to_hear_of_ends_is_told_again(bench: Bench) -> None:
    def fails() -> None:
        raise RuntimeError("a fault of the pool")

    bench.poller.on_completed = fails
    ask(bench)
    bench.servers[0].sendall(ANSWER)
    with pytest.raises(RuntimeError):
        bench.poller.poll(0)
    bench.poller.on_completed = bench.reap
    bench.poller.poll(0)
    assert bench.ended == [(0, END)]
