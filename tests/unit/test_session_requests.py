"""The requests that a session lists: the slowest of a minute and the last errors, with parts of a TTFT."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvtop.contract.messages import CODEC
from rvtop.contract.requests import LISTED, Requests
from rvtop.contract.stream import RequestList, SnapshotReader, SnapshotWriter
from rvtop.session.request_log import RequestLog, parts_of, typical_of
from rvtop.stats.typical import TOLERANCE_MS, TtftParts, split_ttft
from rvtop.stats.waterfall import NOTHING, told_of
from tests.ui import made

MS = 1_000_000
SECOND = 1_000_000_000
T0 = 77 * SECOND


def line(number: int, ttft_ms: float | None = 20.0, at_s: float = 0.0, **more: Any) -> bytes:
    """A line of requests.jsonl; without a TTFT it failed."""
    intended = round(at_s * SECOND)
    first = None if ttft_ms is None else intended + round(ttft_ms * MS)
    row: dict[str, Any] = {
        "id": number,
        "phase": "live",
        "model": "m",
        "worker": 0,
        "engine": None,
        "prompt": 3,
        "intended_ns": intended,
        "sent_ns": intended + MS,
        "headers_ns": None,
        "first_token_ns": first,
        "last_token_ns": None if first is None else first + 100 * MS,
        "itl_hist": [],
        "prompt_tokens": 12,
        "output_tokens": 8,
        "cached_tokens": None,
        "chunks": 8,
        "token_source": "usage",
        "server": None,
        "finish": "length",
        "error": "http_503" if ttft_ms is None else None,
        "error_text": "queue is full" if ttft_ms is None else None,
    }
    return json.dumps(row | more).encode() + b"\n"


def told(queue: Any, prefill: Any, **more: Any) -> dict[str, Any]:
    return {"engine": "e1", "queue_ms": queue, "prefill_ms": prefill, "decode_ms": 80.0, **more}


def test_the_slowest_of_the_last_minute_are_those_and_in_order() -> None:
    log, random, rows = RequestLog(T0, 1000.0), Random(7), []
    for number in range(6000):
        second = number // 50
        ttft = random.lognormvariate(3, 1)
        rows.append((second, round(ttft * MS), number))
        log.add(line(number, ttft, second), T0 + second * SECOND + (number % 50) * MS)
        if number % 50 == 49:
            log.end_second(T0 + second * SECOND + 999 * MS)
            window = [row for row in rows if row[0] > second - 60]
            best = sorted(window, key=lambda row: -row[1])[:LISTED]
            assert [row.id for row in log.requests.slowest] == [row[2] for row in best]
    assert len(log._seconds) <= 61
    assert max(len(s.slowest) for s in log._seconds) <= LISTED
    assert max(len(s.sample) for s in log._seconds) <= 128


def test_errors_are_the_last_ones_the_newest_first() -> None:
    log = RequestLog(T0, 1000.0)
    log.add(b"".join(line(number, None, at_s=number) for number in range(70)), T0)
    log.add(line(70, 5.0), T0)
    log.end_second(T0)
    assert [row.id for row in log.requests.errors] == list(range(69, 19, -1))
    first = log.requests.errors[0]
    assert (first.error, first.error_text, first.unix_s) == ("http_503", "queue is full", 1069.0)
    assert (first.ttft_ms, first.parts) == (None, None)
    assert [row.id for row in log.requests.slowest] == [70]


def test_what_has_not_changed_is_the_same_object() -> None:
    log = RequestLog(T0, 1000.0)
    log.add(line(1) + line(2, None), T0)
    log.end_second(T0)
    before = log.requests
    log.add(b"", T0)
    log.end_second(T0 + SECOND)
    assert log.requests is before
    log.end_second(T0 + 61 * SECOND)
    assert log.requests.slowest == ()
    assert log.requests.count == 0
    assert log.requests.errors == before.errors, "errors stay until others come"


@given(
    st.floats(0, 1e5),
    st.floats(0, 1e5),
    st.none() | st.floats(0, 1e5),
    st.none() | st.floats(0, 1e5),
    st.none() | st.floats(0, 1e5),
)
def test_parts_sum_to_the_ttft(
    late: float, rest: float, queue: float | None, retrieve: float | None, prefill: float | None
) -> None:
    ttft = late + rest
    parts = split_ttft(ttft, late, queue=queue, retrieve=retrieve, prefill=prefill)
    assert parts.total == pytest.approx(ttft, abs=TOLERANCE_MS + 1e-6)
    assert parts.network >= 0


def test_parts_of_a_line() -> None:
    def parts(ttft: float, server: dict[str, Any] | None) -> TtftParts:
        return parts_of(json.loads(line(1, ttft, server=server)))

    assert parts(30.0, told(4.0, 20.0)) == TtftParts(1.0, 5.0, queue=4.0, prefill=20.0)
    assert parts(30.0, told(4.0, 20.0, retrieve_ms=2.5)).retrieve == 2.5
    assert parts(30.0, None) == TtftParts(1.0, 29.0)
    assert not parts(30.0, None).told
    # More than the client waited in all: it is not of this TTFT.
    assert parts(30.0, told(400.0, 20.0)) == TtftParts(1.0, 29.0)
    assert parts(30.0, told("4", True)) == TtftParts(1.0, 29.0), "what a server sends may be anything"
    assert parts(30.0, told(-1.0, None)) == TtftParts(1.0, 29.0)


@given(st.lists(st.tuples(st.floats(0.1, 1e4), st.floats(0, 1), st.booleans()), min_size=1, max_size=300))
def test_typical_parts_sum_to_their_ttft(rows: list[tuple[float, float, bool]]) -> None:
    sample = [
        (ttft, 0.05, 1.0, *(told_of({"queue_ms": share * (ttft - 0.05)}) if tells else NOTHING))
        for ttft, share, tells in rows
    ]
    names = []
    for each in typical_of(sample):
        names.append(each.name)
        assert each.parts.total == pytest.approx(each.ttft_ms, rel=1e-6, abs=TOLERANCE_MS)
    assert names[:2] == ["mean", "p50"]
    assert ("p99" in names) == (len(rows) >= 20)


def test_ranks_are_those_of_all_requests() -> None:
    log = RequestLog(T0, 1000.0)
    lines = [line(number, 10.0 + number, server=told(number, 5.0)) for number in range(100)]
    log.add(b"".join(lines), T0)
    log.end_second(T0)
    by_name = {each.name: each for each in log.requests.typical}
    assert by_name["mean"].ttft_ms == pytest.approx(59.5)
    assert by_name["p50"].ttft_ms == pytest.approx(59.5, abs=2)
    assert by_name["p99"].ttft_ms == pytest.approx(108, abs=2)
    assert by_name["p99"].parts.queue == pytest.approx(98, abs=2)
    assert (log.requests.count, log.requests.told) == (100, 100)


def test_a_reader_has_the_same_lists_and_each_row_goes_once() -> None:
    log, writer, reader = RequestLog(T0, 1000.0), SnapshotWriter(), SnapshotReader()
    base, went = made.live(), 0
    for second in range(30):
        number = second * 3
        lines = line(number, 500.0 - second, second) + line(number + 1, None) + line(number + 2, 1.0)
        log.add(lines, T0 + second * SECOND)
        log.end_second(T0 + second * SECOND)
        picture = replace(base, requests=log.requests)
        for twice in (False, True):
            messages = [CODEC.decode(CODEC.encode(message)) for message in writer.messages(picture)]
            lists = [message for message in messages if isinstance(message, RequestList)]
            assert len(lists) == (0 if twice else 1)
            went += sum(len(each.new) for each in lists)
            assert [reader.take(message) for message in messages][-1] == picture
    assert went == 90


def test_a_row_that_was_lost_is_left_out() -> None:
    reader = SnapshotReader()
    reader.take(RequestList(slowest=(4, 5), errors=(6,), count=2))
    picture = reader.take(made.live())
    assert picture is not None
    assert picture.requests == Requests(count=2)


def test_texts_and_keys_of_others_are_not_taken_for_ours() -> None:
    """Names, error texts and what a server tells may look like any part of a line."""
    odd = '"error":"x","first_token_ns":5,"server":null,"finish":'
    server = {"error": 1, "finish": "f", "server": {"finish": 2}, "first_token_ns": 9, "queue_ms": 7.0}
    log = RequestLog(T0, 1000.0)
    log.add(line(1, 30.0, model=odd, phase=odd, server=server, finish=odd), T0)
    log.add(line(2, 40.0, model=odd, engine=odd), T0)
    log.add(line(3, None, model=odd, error_text=odd + '"error": null', server=server), T0)
    log.end_second(T0)
    made = log.requests
    assert [(row.id, row.ttft_ms) for row in made.slowest] == [(2, 40.0), (1, 30.0)]
    assert [row.id for row in made.errors] == [3]
    assert (made.count, made.told) == (2, 1)
    assert made.slowest[1].parts is not None
    assert made.slowest[1].parts.queue == 7.0
