"""However an answer is put into records, and these into reads, it tells the same as without TLS."""

from __future__ import annotations

from functools import partial
from itertools import cycle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvtop.load.native.loader import native
from rvtop.load.wire.connection import Connection
from rvtop.load.wire.tls_connection import TlsConnection
from tests.property.test_load_native import (
    HEAD,
    ODD,
    Answer,
    Pool,
    answer,
    chunked,
    expected,
    odd_answers,
    packets,
    piece,
    told,
)
from tests.property.test_load_stream import cut_bodies, vllm
from tests.unit.tls_peer import Peer

DONE = b"data: [DONE]\n\n"

pytestmark = pytest.mark.skipif(not native(), reason="the read path in C was not built here")


class TlsPool(Pool):
    """A Pool whose connection is encrypted. Of what the server has to say ``shares`` come at once, in turn:
    the rest waits for what it says next."""

    def __init__(self, *, in_c: bool = True, shares: list[float]) -> None:
        self._peer = Peer()
        self._shares = cycle(shares)
        self._waits = self._peer.said
        super().__init__(in_c=in_c)

    def connect(self) -> Connection:
        return TlsConnection(self, self._peer.client)

    def say(self, data: bytes) -> None:
        self._waits += self._peer.seal(data)
        self._send(round(len(self._waits) * next(self._shares)))
        if self.ended:
            self._send(len(self._waits))

    def _send(self, size: int) -> None:
        now, self._waits = self._waits[:size], self._waits[size:]
        transport = self.connection.transport
        if now and transport is not None and not transport.is_closing():
            super().say(now)

    def heard(self) -> bytes:
        return self._peer.open(self.server.recv(1 << 14))

    def hang_up(self) -> None:
        self._send(len(self._waits))
        if not self.ended:
            super().say(self._peer.close())  # and no end of the TCP connection


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    cut_bodies(),
    st.lists(st.floats(0, 1), max_size=8),
    st.lists(st.floats(0, 1), min_size=1, max_size=5),
    st.booleans(),
)
def test_any_records_and_reads_of_any_stream_tell_what_the_reference_reads(
    case: tuple[bytes, list[int]], at: list[float], shares: list[float], in_c: bool
) -> None:
    body, cuts = case
    wire = chunked(body, cuts)
    where = sorted({round(share * len(wire)) for share in at} - {0, len(wire)} | set(packets(wire)))
    answers = [(wire, where), (wire, packets(wire)), (wire, [])]
    facts = [facts for facts, _, _ in told(answers, in_c=in_c, make=partial(TlsPool, shares=shares))]
    assert facts == [expected(body)] * len(facts)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(ODD, max_size=12), st.lists(st.floats(0, 1), max_size=8), st.booleans())
def test_of_anything_at_all_the_same_is_learned_as_without_tls(
    parts: list[bytes], at: list[float], in_c: bool
) -> None:
    wire = HEAD + piece(vllm("a")) + b"".join(parts)
    cuts = sorted({round(share * len(wire)) for share in at} - {0, len(wire)})
    check_alike([(wire, cuts)], in_c)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(odd_answers(), min_size=1, max_size=3), st.booleans())
def test_what_was_learned_of_one_answer_changes_nothing_of_the_next(rest: list[Answer], in_c: bool) -> None:
    first, last = answer(1), answer(2)
    check_alike([(first, packets(first)), *rest, (last, [])], in_c)


def check_alike(answers: list[Answer], in_c: bool) -> None:
    """A read each, with TLS and without."""
    assert told(answers, in_c=in_c, make=partial(TlsPool, shares=[1.0])) == told(answers, in_c=False)


@pytest.mark.parametrize("in_c", [True, False])
def test_records_of_16_kib_and_a_read_of_a_hundred_records(in_c: bool) -> None:
    body = vllm("a") + b"".join(vllm("word") for _ in range(400)) + vllm("z", "stop") + DONE
    wire = chunked(body, [len(vllm("a"))])
    small = list(range(600, len(wire), 600))
    for cuts, shares in (([], [1.0]), ([], [0.37]), (small, [0.0] * 100 + [1.0])):
        got = told([(wire, cuts)], in_c=in_c, make=partial(TlsPool, shares=shares))
        assert got == told([(wire, [])], in_c=False)
