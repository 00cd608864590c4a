"""A request's line in requests.jsonl, to the key."""

from __future__ import annotations

import json
from array import array
from operator import add

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvtop.load.native.loader import PURE_ENV, native
from rvtop.load.wire.record import ERRORS, TEXT_LIMIT, Record, lines
from rvtop.stats.histogram import LAST_NS, bucket_of

T0 = 1_000_000
KEYS = [
    "id",
    "phase",
    "model",
    "worker",
    "engine",
    "prompt",
    "intended_ns",
    "sent_ns",
    "headers_ns",
    "first_token_ns",
    "last_token_ns",
    "itl_hist",
    "prompt_tokens",
    "output_tokens",
    "cached_tokens",
    "chunks",
    "token_source",
    "server",
    "finish",
    "error",
    "error_text",
]


def written(*records: Record) -> list[dict[str, object]]:
    return [json.loads(line) for line in lines(records, T0, ["warm", "hold"], ["a", "b"], 3).splitlines()]


def test_a_request_that_went_well() -> None:
    record = Record(17, 1, 1, 4, T0 + 100)
    record.sent_ns, record.headers_ns, record.first_ns, record.last_ns = (
        T0 + n for n in (150, 900, 1000, 9000)
    )
    record.gaps, record.chunks = array("q", [3_000_000, 5_000_000, 3_000_000, 0]), 5
    record.output_tokens, record.prompt_tokens, record.cached_tokens = 6, 40, 32
    record.finish, record.engine, record.server = "stop", "b#0", {"engine": "b#0", "queue_ms": 1.5}
    (row,) = written(record)
    assert list(row) == KEYS
    small, large, none = bucket_of([3_000_000, 5_000_000, 0]).tolist()
    assert row == {
        "id": 17,
        "phase": "hold",
        "model": "b",
        "worker": 3,
        "engine": "b#0",
        "prompt": 4,
        "intended_ns": 100,
        "sent_ns": 150,
        "headers_ns": 900,
        "first_token_ns": 1000,
        "last_token_ns": 9000,
        "itl_hist": [[none, 1], [small, 2], [large, 1]],
        "prompt_tokens": 40,
        "output_tokens": 6,
        "cached_tokens": 32,
        "chunks": 5,
        "token_source": "usage",
        "server": {"engine": "b#0", "queue_ms": 1.5},
        "finish": "stop",
        "error": None,
        "error_text": None,
    }


def test_a_request_that_was_dropped_never_had_times() -> None:
    record = Record(0, 0, 0, 0, T0)
    record.fail("dropped", "max_in_flight 5 was reached")
    (row,) = written(record)
    assert list(row) == KEYS
    assert row["intended_ns"] == 0
    absent = ("sent_ns", "headers_ns", "first_token_ns", "last_token_ns", "output_tokens", "prompt_tokens")
    assert [row[key] for key in absent] == [None] * len(absent)
    assert (row["error"], row["error_text"], row["itl_hist"]) == (
        "dropped",
        "max_in_flight 5 was reached",
        [],
    )


def test_without_usage_chunks_are_counted_and_said_to_be() -> None:
    record = Record(0, 0, 0, 0, T0)
    record.first_ns = record.last_ns = T0 + 5
    record.chunks = 9
    (row,) = written(record)
    assert (row["output_tokens"], row["token_source"], record.tokens) == (9, "chunks", 9)


def test_the_first_reason_stays_and_is_one_short_line() -> None:
    record = Record(0, 0, 0, 0, T0)
    record.fail("http_500", "it\r\n  broke\x0b" + "!" * 1000)
    record.fail("reset", "later")
    (row,) = written(record)
    assert row["error"] == "http_500"
    assert str(row["error_text"]).startswith("it broke !!!")
    assert len(str(row["error_text"])) == TEXT_LIMIT


@pytest.mark.parametrize("pure", [False, True])
def test_a_batch_keeps_every_record_s_gaps_apart(pure: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if pure:
        monkeypatch.setenv(PURE_ENV, "1")
    rng = np.random.default_rng(5)
    records = []
    for number in range(40):
        record = Record(number, 0, 0, 0, T0)
        record.gaps = array("q", rng.integers(0, 50_000_000, rng.integers(0, 30)).tobytes())
        records.append(record)
    for record, row in zip(records, written(*records), strict=True):
        found: dict[int, int] = {}
        for gap in record.gaps:
            found[bucket_of(gap).item()] = found.get(bucket_of(gap).item(), 0) + 1
        assert row["itl_hist"] == [list(pair) for pair in sorted(found.items())]
    assert lines([], T0, [], [], 0) == b""


@pytest.mark.skipif(not native(), reason="the read path in C was not built here")
@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(
        st.integers(-(1 << 63), (1 << 63) - 1)
        | st.integers(0, 10**10)
        | st.builds(add, st.sampled_from(LAST_NS.tolist()), st.integers(-1, 1)),
        max_size=300,
    )
)
def test_gaps_are_counted_alike_in_c_and_in_numpy(gaps: list[int]) -> None:
    record = Record(0, 0, 0, 0, T0)
    record.gaps = array("q", gaps)
    found = np.unique(bucket_of(np.array(gaps, dtype=np.int64)), return_counts=True)
    (row,) = written(record)
    assert row["itl_hist"] == [list(pair) for pair in zip(*(part.tolist() for part in found), strict=True)]


def test_the_classes_are_those_of_the_design() -> None:
    named = (
        "dns, tls, refused, timeout_connect, timeout_ttft, stalled, reset, stream_error, bad_stream, "
        "truncated, empty, cancelled, dropped, unfinished, worker_lost, client_limit"
    )
    assert ", ".join(ERRORS) == named
