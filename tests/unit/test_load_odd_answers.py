"""Answers that servers and gateways give although no standard says so, and what they are filed under."""

from __future__ import annotations

import gzip
import http.client
import socket
import threading
import zlib

import pytest

from rvtop.load.wire.completion import Completion, Fresh
from rvtop.load.wire.record import Record
from rvtop.net.decompress import decompressor
from rvtop.net.http_get import AnswerTooLong, get
from rvtop.net.transport import Transport
from tests.faults.attempts.said import DONE, ROLE, STREAM, THREE, TWO, choice, data, sized, token
from tests.faults.attempts.wire import Row, check

STOP = data(choice({}, "stop"))
HALF_PAIR = b'data: {"choices":[{"index":0,"delta":{"content":"\\ud83d"},"finish_reason":null}]}\n\n'
NAN = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"logprobs":NaN,"finish_reason":null}]}\n\n'
ENDLESS = b'data: {"choices":[],"usage":{"completion_tokens":1e400}}\n\n'
OLD_ERROR = data({"object": "error", "message": "CUDA", "code": 500})
DEEP = b'data: {"x":' + b"[" * 3000 + b"]" * 3000 + b"}\n\n"


def read(body: bytes) -> Record:
    """What a body comes to."""
    record = Record(0, 0, 0, 0, 1)
    completion = Completion(record, Fresh())
    completion.feed(body, 2)
    completion.end(3)
    return record


@pytest.mark.parametrize(
    ("body", "chunks"),
    [
        pytest.param(b"data:\n\n" + THREE + b"data: \n\n" + DONE, 3, id="signs of life"),
        pytest.param(TWO + b"data: [DONE] \n\n", 2, id="a space behind [DONE]"),
        pytest.param(HALF_PAIR + THREE + DONE, 4, id="half a surrogate pair"),
        pytest.param(NAN + THREE + DONE, 4, id="NaN"),
        pytest.param(THREE + ENDLESS + DONE, 3, id="usage of 1e400"),
        pytest.param(ROLE + data(choice({"refusal": "no"})) + STOP + DONE, 1, id="refusal"),
        pytest.param(data(choice({"function_call": {"arguments": "{"}})) + STOP, 1, id="function_call"),
        pytest.param(data(choice({"content": "a"}, "")) + STOP, 1, id="an empty finish reason"),
    ],
)
def test_what_is_well_meant_is_taken(body: bytes, chunks: int) -> None:
    record = read(body)
    assert (record.error, record.chunks, record.tokens) == (None, chunks, chunks)


@pytest.mark.parametrize(
    ("body", "error", "says"),
    [
        pytest.param(token("a") + data(choice({"content": "b"}, "")), "truncated", "", id="no finish"),
        pytest.param(
            TWO + data({"object": "error", "message": "CUDA"}) + DONE, "stream_error", "CUDA", id="old"
        ),
        pytest.param(b'{"error":"the queue is full"}', "bad_stream", "the queue is full", id="no event"),
        pytest.param(TWO + DEEP, "bad_stream", "not JSON", id="deep"),
        pytest.param(TWO + b"data: [1,\n\n" + DONE, "bad_stream", "not JSON", id="broken"),
    ],
)
def test_what_is_not_well_is_named(body: bytes, error: str, says: str) -> None:
    record = read(body)
    assert record.error == error
    assert says in record.error_text


def test_gzip_may_have_members_and_what_stands_behind_it_is_left() -> None:
    whole = gzip.compress(b"one ") + gzip.compress(b"two") + b"\0\0\0"
    for step in (1, 2, 7, len(whole)):
        decoder = decompressor(b"gzip")
        assert decoder is not None
        cut = [whole[at : at + step] for at in range(0, len(whole), step)]
        assert b"".join(piece for part in cut for piece in decoder.decompress(part)) == b"one two"


def test_a_bomb_comes_in_pieces_and_damage_is_told() -> None:
    decoder = decompressor(b"deflate")
    assert decoder is not None
    assert max(map(len, decoder.decompress(zlib.compress(bytes(5 << 20))))) <= 1 << 20
    broken = decompressor(b"gzip")
    assert broken is not None
    with pytest.raises(zlib.error):
        list(broken.decompress(b"\x1f\x8b" + b"x" * 40))


@pytest.mark.parametrize("encoding", [b"br", b"zstd", b"gzip, gzip"])
def test_an_encoding_that_is_not_known_is_named(encoding: bytes) -> None:
    body, field = b"\x8b\x05\x80" * 20, b"content-encoding: " + encoding
    check(Row("", "", sized(body, field), end="bad_stream", says=encoding.decode(), cuts=(0,)))
    failed = sized(body, field, status=b"500 It Broke")
    check(Row("", "", failed, end="http_500", says=encoding.decode(), cuts=(0,)))


def test_identity_is_no_encoding() -> None:
    check(Row("", "", sized(STREAM, b"content-encoding: identity"), chunks=3, tokens=3, cuts=(0,)))


@pytest.mark.parametrize(
    ("body", "encoding", "read"),
    [
        (gzip.compress(b'{"data": [{"id": "m"}]}'), "gzip", b'{"data": [{"id": "m"}]}'),
        (zlib.compress(b"page"), "deflate", b"page"),
        (b"page", "identity", b"page"),
        (gzip.compress(bytes(3 << 20)), "gzip", bytes(3 << 20)),
    ],
    ids=["gzip", "deflate", "identity", "of 3 MiB"],
)
def test_a_page_that_came_compressed_is_read(body: bytes, encoding: str, read: bytes) -> None:
    assert _page(body, encoding) == read


def test_a_page_that_grows_beyond_the_limit_is_cut_off() -> None:
    with pytest.raises(AnswerTooLong, match="8 MiB"):
        _page(gzip.compress(bytes(64 << 20)), "gzip")


@pytest.mark.parametrize(("body", "encoding"), [(b"page", "br"), (b"page page", "gzip")])
def test_a_page_that_can_not_be_read_says_why(body: bytes, encoding: str) -> None:
    with pytest.raises(http.client.HTTPException, match="can't be read"):
        _page(body, encoding)


def _page(body: bytes, encoding: str) -> bytes:
    """What a first look gets of a server that answers so."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            taken, _ = listener.accept()
            with taken:
                taken.recv(4096)
                taken.sendall(sized(body, b"content-encoding: " + encoding.encode(), b"connection: close"))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/models"
        try:
            return get(url, Transport(), {}, 120.0)[1]
        finally:
            thread.join(120)
