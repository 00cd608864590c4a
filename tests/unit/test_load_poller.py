"""The poller in C by itself: what callbacks do to it, and how it dates what comes meanwhile."""

from __future__ import annotations

import contextlib
import gc
import os
import select
import socket
import time
import weakref
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest

from rvtop.load.native import loader
from rvtop.load.native.loader import digest, make_poller, native
from rvtop.load.plan.schedule import NEVER
from tests.unit.poller_bench import Bench, kernel_stamps, token, wait

pytestmark = pytest.mark.skipif(not native(), reason="the read path in C was not built here")


@pytest.fixture
def stamps() -> Iterator[None]:
    with kernel_stamps():
        yield


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def test_tokens_are_counted_and_the_rest_is_handed_on(bench: Bench) -> None:
    bench.add()
    bench.expect_tokens(0)
    bench.servers[0].sendall(token() + token(b'\\"') + token(b"") + token())
    bench.poller.poll(0)
    assert bench.read == [(0, token(b"") + token())]
    assert len(array("q", bench.conns[0].take_gaps())) == 2
    assert len(array("q", bench.poller.take_gaps())) == 2
    bench.servers[0].sendall(token())  # not armed again
    bench.poller.poll(0)
    assert bench.read[1:] == [(0, token())]
    bench.servers[0].close()
    bench.poller.poll(0)
    assert bench.lost == [0]


def test_what_comes_in_the_middle_of_a_long_turn_is_not_dated_by_its_beginning(bench: Bench) -> None:
    written = 0

    def slow(data: bytes) -> None:
        nonlocal written
        time.sleep(0.02)
        written = time.perf_counter_ns()
        bench.servers[1].sendall(token())

    bench.add(slow)
    bench.add()
    bench.expect_tokens(1)
    for server in bench.servers:
        server.sendall(token())
    bench.poller.poll(0)
    _, second = array("q", bench.conns[1].take_gaps())
    assert second >= 15_000_000  # the two tokens lie on both sides of the pause
    assert bench.conns[1].last_ns >= written
    assert bench.conns[1].last_ns - second < written


@pytest.mark.usefixtures("stamps")
def test_what_came_while_the_loop_was_away_is_dated_by_its_arrival(bench: Bench) -> None:
    """The kernel has noted it; also for tokens, and for what Python reads."""
    read: list[int] = []
    for on_read in (None, None, lambda data: read.append(bench.conns[2].read_ns)):
        bench.add(on_read, tcp=True)
    bench.poller.poll(0)  # nothing had come by now
    bench.expect_tokens(0)
    bench.expect_tokens(1)
    written = time.perf_counter_ns()
    for server in bench.servers:
        server.sendall(token())
    time.sleep(0.05)
    back = time.perf_counter_ns()
    bench.poller.poll(0)
    dates = [bench.conns[0].last_ns, bench.conns[1].last_ns, read[-1]]
    assert all(written - 1_000_000 < date < back - 25_000_000 for date in dates)


@pytest.mark.usefixtures("stamps")
def test_what_a_failed_turn_left_behind_is_dated_by_its_arrival(bench: Bench) -> None:
    """Though the next turn follows at once."""

    def fails(data: bytes) -> None:
        raise RuntimeError("a fault of the connection")

    bench.add(fails, tcp=True)
    bench.add(tcp=True)
    bench.poller.poll(0)
    bench.expect_tokens(1)
    for server in bench.servers:
        server.sendall(token())
    written = time.perf_counter_ns()
    time.sleep(0.05)
    with contextlib.suppress(RuntimeError):
        bench.poller.poll(0)
    bench.poller.poll(0)
    assert len(array("q", bench.conns[1].take_gaps())) == 1
    assert bench.conns[1].last_ns < written + 25_000_000


@pytest.mark.usefixtures("stamps")
@pytest.mark.parametrize("fresh", [slice(0, 1), slice(1, 4)])
def test_streams_with_news_of_just_now_do_not_make_a_late_turn_a_timely_one(
    bench: Bench, fresh: slice
) -> None:
    """The stamp of a read is that of its last byte."""
    for _ in range(6):
        bench.add(tcp=True)
    bench.poller.poll(0)
    for number in range(6):
        bench.expect_tokens(number)
    for server in bench.servers:
        server.sendall(token())
    written = time.perf_counter_ns()
    time.sleep(0.05)
    for server in bench.servers[fresh]:
        server.sendall(token())
    bench.poller.poll(0)
    late = [stream for stream in bench.conns if stream not in bench.conns[fresh]]
    assert all(stream.last_ns < written + 25_000_000 for stream in late)


def test_a_call_that_is_due_and_fails_stops_no_reading(bench: Bench) -> None:
    called = []

    def fails() -> None:
        called.append(1)
        raise RuntimeError("a fault of the worker")

    bench.add()
    bench.poller.on_due = fails
    bench.poller.due(1)
    bench.servers[0].sendall(b"x")
    with pytest.raises(RuntimeError):
        bench.poller.poll(0)
    bench.poller.poll(0)
    assert (bench.read, called) == ([(0, b"x")], [1])


def test_a_reader_that_fails_stops_no_other(bench: Bench) -> None:
    def fails(data: bytes) -> None:
        raise RuntimeError("a fault of the connection")

    bench.add(fails)
    bench.add()
    for server in bench.servers:
        server.sendall(b"x")
    with pytest.raises(RuntimeError):
        bench.poller.poll(0)
    bench.poller.poll(0)
    assert bench.read == [(1, b"x")]


def test_a_time_that_comes_wakes_the_poller_once(bench: Bench) -> None:
    called: list[int] = []
    bench.poller.on_due = lambda: called.append(time.perf_counter_ns())
    at = time.perf_counter_ns() + 20_000_000
    bench.poller.due(at - 15_000_000)
    bench.poller.due(at)  # replaces it
    while not called:
        wait(bench.poller)
        bench.poller.poll(0)
    assert called[0] >= at
    assert select.select([bench.poller.fileno()], [], [], 0)[0] == []
    bench.poller.due(time.perf_counter_ns() + 10_000_000)
    bench.poller.due(NEVER)
    assert select.select([bench.poller.fileno()], [], [], 0.05)[0] == []
    assert len(called) == 1


def test_more_than_one_read_takes_is_read_to_its_end(bench: Bench) -> None:
    bench.add()
    server = bench.servers[0]
    server.setblocking(False)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    data, sent = os.urandom(1 << 20), 0
    with contextlib.suppress(BlockingIOError):
        while sent < len(data):
            sent += server.send(data[sent:])
    if sent <= 1 << 18:  # what one recv takes
        pytest.skip("sockets of this kernel hold too little")
    wait(bench.poller)
    bench.poller.poll(0)
    assert b"".join(part for _, part in bench.read) == data[:sent]


def test_the_end_behind_the_last_bytes_is_seen_in_the_same_turn(bench: Bench) -> None:
    bench.add()
    bench.servers[0].sendall(b"last")
    bench.servers[0].close()
    bench.poller.poll(0)
    assert (bench.read, bench.lost) == ([(0, b"last")], [0])


def test_what_a_failing_reader_left_behind_is_read_by_the_next_poll(bench: Bench) -> None:
    seen: list[bytes] = []

    def fails_once(data: bytes) -> None:
        seen.append(data)
        if len(seen) == 1:
            raise RuntimeError("a fault of the connection")

    bench.add(fails_once)
    bench.servers[0].sendall(b"x")
    bench.servers[0].close()
    with pytest.raises(RuntimeError):
        bench.poller.poll(0)
    bench.poller.poll(0)
    assert (seen, bench.lost) == ([b"x"], [0])


def test_a_reader_may_end_every_stream_of_the_turn(bench: Bench) -> None:
    def end_all(data: bytes) -> None:
        for stream in bench.conns:
            stream.release()

    for _ in range(3):
        bench.add(end_all)
    for server in bench.servers:
        server.sendall(b"x")
    bench.poller.poll(0)
    bench.poller.poll(0)
    assert bench.lost == []


def test_a_tick_waits_for_the_end_of_a_turn(bench: Bench) -> None:
    told: list[str] = []
    for _ in range(9):  # a look at what is due comes before the first and the ninth
        bench.add(lambda data: (told.append("read"), time.sleep(0.002)))  # type: ignore[arg-type]
    bench.poller.on_due = lambda: told.append("due")
    bench.poller.on_tick = lambda: told.append("tick")
    soon = time.perf_counter_ns() + 3_000_000
    bench.poller.due(soon)
    bench.poller.tick(soon)
    for server in bench.servers:
        server.sendall(b"x")
    while time.perf_counter_ns() < soon - 2_000_000:
        pass
    bench.poller.poll(0)
    assert (told.index("due") < 9, told[-1], told.count("tick")) == (True, "tick", 1)
    bench.poller.poll(0)
    assert told.count("tick") == told.count("due") == 1


def test_a_poll_that_may_linger_reads_on_until_somebody_was_called(bench: Bench) -> None:
    bench.add()
    bench.expect_tokens(0)
    bench.poller.on_due = lambda: bench.servers[0].sendall(b"what?")
    now = time.perf_counter_ns()
    bench.poller.due(now + 500_000_000)  # not before the poll begins, on a busy machine too
    bench.servers[0].sendall(token())
    bench.poller.poll(20_000_000_000)
    assert (time.perf_counter_ns() > now + 500_000_000, bench.read) == (True, [])
    assert len(array("q", bench.poller.take_gaps())) == 1
    bench.poller.poll(20_000_000_000)
    assert bench.read == [(0, b"what?")]
    now = time.perf_counter_ns()
    bench.poller.poll(30_000_000)  # nothing comes
    assert time.perf_counter_ns() - now >= 30_000_000


def test_a_word_is_heard_before_anything_else_of_its_turn(bench: Bench) -> None:
    """What it takes back is not sent, though its time has come."""
    bench.add_idle()
    bench.poller.schedule("record", b"request", time.perf_counter_ns() + 1_000_000)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        bench.poller.watch(ours.fileno(), lambda: (ours.recv(9), bench.poller.unschedule(0)))  # type: ignore[arg-type]
        time.sleep(0.002)
        theirs.sendall(b"stop")
        bench.poller.poll(0)
        assert (bench.poller.scheduled, bench.poller.take_sent()) == (0, [])
        bench.poller.watch(-1, print)
        theirs.sendall(b"stop")
        assert select.select([bench.poller.fileno()], [], [], 0)[0] == []


def test_a_word_is_heard_in_the_middle_of_a_long_turn(bench: Bench) -> None:
    """At the latest before something is sent, if the last look is some milliseconds old."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        at = time.perf_counter_ns() + 500_000_000  # not before the poll begins

        def slow(data: bytes) -> None:
            theirs.sendall(b"stop")
            while time.perf_counter_ns() < at:
                pass

        bench.add(slow)
        for _ in range(9):
            bench.add()
        bench.add_idle()
        bench.poller.schedule("record", b"request", at)
        bench.poller.watch(ours.fileno(), lambda: (ours.recv(9), bench.poller.unschedule(0)))  # type: ignore[arg-type]
        for server in bench.servers[:10]:
            server.sendall(b"x")
        bench.poller.poll(0)
        assert (len(bench.read), bench.poller.scheduled, bench.poller.take_sent()) == (9, 0, [])
        bench.poller.watch(-1, print)


def test_a_closed_poller_is_let_go_of() -> None:
    class Owner:
        def due(self) -> None:
            raise AssertionError("nothing was due")

    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    owner = Owner()
    owner.poller = make_poller()  # type: ignore[attr-defined]
    owner.poller.on_due = owner.due  # type: ignore[attr-defined]
    ours, server = socket.socketpair()
    with ours, server:
        owner.poller.on_no_connection = owner.poller.on_completed = owner.due  # type: ignore[attr-defined]
        owner.poller.watch(server.fileno(), owner.due)  # type: ignore[attr-defined]
        stream = owner.poller.add(ours.fileno(), owner, *[print] * 3)  # type: ignore[attr-defined]
        stream.rest()
        for at in (1, NEVER):
            owner.poller.schedule(owner, b"x", at)  # type: ignore[attr-defined]
        owner.poller.send_due()  # type: ignore[attr-defined]
        stream.release()
    del stream
    owner.poller.close()  # type: ignore[attr-defined]
    gone = weakref.ref(owner)
    del owner
    gc.collect()
    assert gone() is None
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_module_of_another_source_is_not_used(tmp_path: Path) -> None:
    folder = Path(loader.__file__).parent
    assert digest(folder) == loader._native.SOURCE
    sources = list(folder.glob("*.[ch]"))
    assert len(sources) > 1
    for one in sources:
        for source in sources:
            (tmp_path / source.name).write_bytes(source.read_bytes())
        with open(tmp_path / one.name, "ab") as changed:
            changed.write(b"\n")
        assert digest(tmp_path) != loader._native.SOURCE
