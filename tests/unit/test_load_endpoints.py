"""Answers of the endpoints over a real connection: how each fault is filed, and what a good one tells."""

from __future__ import annotations

import asyncio
from time import perf_counter_ns

import pytest

from rvtop.load.plan.api import Api
from rvtop.load.wire.answer import answers_of
from rvtop.load.wire.endpoint import Address, Endpoint
from rvtop.load.wire.pool import ConnectionPool
from rvtop.load.wire.record import Record

START = b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":5}}}\n\n'
DELTA = (
    b"event: content_block_delta\n"
    b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"%b"}}\n\n'
)
STOP = (
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
    b'"usage":{"output_tokens":3}}\n\nevent: message_stop\ndata: {"type":"message_stop"}\n\n'
)
PING = b'event: ping\ndata: {"type":"ping"}\n\n'
OVERLOADED = (
    b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
)
FAILED = (
    b'event: response.failed\ndata: {"type":"response.failed","response":{"status":"failed",'
    b'"error":{"code":"server_error","message":"out of memory"}}}\n\n'
)
SAID = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"a"}\n\n'
TOKENS = [START, PING, *(DELTA % word for word in (b"a", b" b", b'say \\"c\\"'))]
VECTOR = b'{"data":[{"embedding":[1]}],"usage":{"prompt_tokens":4,"total_tokens":4}}'
JSON = b"application/json"
SSE = b"text/event-stream"


async def answer(
    api: Api, pieces: list[bytes], kind: bytes = SSE, status: bytes = b"200 OK", *, ends: bool = True
) -> Record:
    """The record of one request whose answer is sent in ``pieces``; unless it ``ends``, the connection is
    closed behind them."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"POST /v1/" in head
        writer.write(
            b"HTTP/1.1 %b\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n" % (status, kind)
        )
        for piece in pieces:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
            await asyncio.sleep(0.002)  # so that they are read one by one
        writer.write(b"0\r\n\r\n" if ends else b"")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    ended: asyncio.Queue[Record] = asyncio.Queue()
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    target = Endpoint(Address(url, "/v1/x"))
    pool = ConnectionPool(target, ended.put_nowait, answers=answers_of(api))
    try:
        record = Record(0, 0, 0, 0, perf_counter_ns())
        pool.submit(record, target.request(b"", "t"))
        return await asyncio.wait_for(ended.get(), 240)
    finally:
        pool.close()
        server.close()


MESSAGES, RESPONSES, EMBEDDINGS = Api("messages"), Api("responses"), Api("embeddings")


@pytest.mark.parametrize("again", [1, 20])
async def test_tokens_of_a_message_are_counted_one_by_one(again: int) -> None:
    record = await answer(MESSAGES, [*TOKENS * again, PING, STOP])
    assert (record.error, record.finish, record.chunks) == (None, "end_turn", 3 * again)
    assert (record.prompt_tokens, record.output_tokens, len(record.gaps)) == (5, 3, 3 * again - 1)
    assert record.sent_ns < record.headers_ns <= record.first_ns < record.last_ns
    assert sum(record.gaps) == record.last_ns - record.first_ns


@pytest.mark.parametrize(
    ("api", "pieces", "error", "text"),
    [
        (MESSAGES, TOKENS, "truncated", "the body ended before message_stop"),
        (MESSAGES, [*TOKENS, STOP[:120]], "truncated", "before message_stop"),
        (MESSAGES, [*TOKENS, OVERLOADED], "stream_error", "Overloaded"),
        (MESSAGES, [START, STOP.replace(b'"output_tokens":3', b'"output_tokens":0')], "empty", "no token"),
        (MESSAGES, [b"<html>busy</html>"], "bad_stream", "no server-sent event"),
        (RESPONSES, [SAID], "truncated", "before response.completed"),
        (RESPONSES, [SAID, FAILED], "stream_error", "out of memory"),
        (RESPONSES, [b'data: {"type":"error","message":"no room"}\n\n'], "stream_error", "no room"),
        (RESPONSES, [b'data: {"type":"response.completed"}\n\n'], "bad_stream", "holds no response"),
        (EMBEDDINGS, [VECTOR[:40]], "truncated", "in the middle of its JSON"),
        (EMBEDDINGS, [b"busy"], "bad_stream", "not JSON"),
        (EMBEDDINGS, [b'{"error":{"message":"too long"}}'], "stream_error", "too long"),
        (EMBEDDINGS, [b'{"data":[]}'], "empty", "'data' is empty"),
        (Api("rerank"), [VECTOR], "bad_stream", "no list 'results'"),
    ],
)
async def test_a_faulty_answer_is_filed_as_what_it_is(
    api: Api, pieces: list[bytes], error: str, text: str
) -> None:
    record = await answer(api, pieces)
    assert record.error == error
    assert text in record.error_text


async def test_a_connection_that_ends_within_an_answer_cuts_it_off() -> None:
    for api, pieces in ((MESSAGES, TOKENS), (RESPONSES, [SAID]), (EMBEDDINGS, [VECTOR])):
        record = await answer(api, pieces, ends=False)
        assert record.error == "truncated"


async def test_a_refusal_is_filed_by_its_status() -> None:
    body = b'{"type":"error","error":{"type":"not_found_error","message":"no such model"}}'
    record = await answer(MESSAGES, [body], JSON, b"404 Not Found")
    assert (record.error, "no such model" in record.error_text) == ("http_404", True)


async def test_the_time_of_an_answer_in_one_piece_is_that_of_its_end() -> None:
    record = await answer(EMBEDDINGS, [VECTOR[:10], VECTOR[10:]], JSON)
    assert (record.error, record.first_ns, record.prompt_tokens, record.output_tokens) == (None, 0, 4, None)
    assert record.headers_ns < record.last_ns
