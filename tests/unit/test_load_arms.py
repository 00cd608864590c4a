"""Which arm answered is in the record of each request, however its response was read."""

from __future__ import annotations

import pytest

from rvtop.load.native.loader import native
from rvtop.load.wire.record import lines
from tests.property.test_load_native import Pool

EVENT = 'data: {"choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":%s}]}\n\n'


def chunk(data: str) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data.encode())


def answer(arm: str) -> bytes:
    head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
    named = f"x-rvtop-arm: {arm}\r\n" if arm else ""
    parts = [EVENT % ("a", "null"), EVENT % ("b", "null"), EVENT % ("c", '"stop"') + "data: [DONE]\n\n"]
    return (head + named + "\r\n").encode() + b"".join(map(chunk, parts)) + b"0\r\n\r\n"


@pytest.mark.parametrize("in_c", [True, False])
@pytest.mark.parametrize("apart", [True, False])
def test_each_answer_names_its_arm(in_c: bool, apart: bool) -> None:
    if in_c and not native():
        pytest.skip("the read path in C was not built here")
    pool = Pool(in_c=in_c)
    arms = ["v1", "v2", "v1", "v1", "v2", "", "v2", "v1", "x" * 80, "v1"]
    read = []
    for number, arm in enumerate(arms):
        wire = answer(arm)
        record = pool.ask(number, wire, [wire.index(b"\r\n\r\n") + 4, len(wire) - 40] if apart else [])
        assert (record.error, record.chunks) == (None, 3)
        read.append(record)
    pool.close()
    assert [record.arm for record in read] == [arm[:64] or None for arm in arms]
    assert b'"arm":"v1"' in lines(read[:1], 0, ["p"], ["m"], 0)
    assert b'"arm"' not in lines(read[5:6], 0, ["p"], ["m"], 0)
