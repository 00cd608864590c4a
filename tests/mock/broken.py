"""The faults that must be filed under an error class (faults.py has the harmless ones)."""

from __future__ import annotations

import asyncio
import json

from tests.mock.talk import DONE, Talk, fault, sse

K = 3  # tokens that get through before a stream breaks

HTML = b"<html><head><title>Bad gateway</title></head><body><h1>It is broken</h1></body></html>\n"
STATUSES = {
    429: ("429 Too Many Requests", "the queue is full", ("retry-after: 1",)),
    500: ("500 Internal Server Error", "it broke", ()),
    503: ("503 Service Unavailable", "the engine restarts", ()),
    404: ("404 Not Found", "The model does not exist.", ()),
}


# ---- no answer


@fault("reads the request and never answers", "timeout_ttft")
async def never_answers(t: Talk) -> None:
    await t.hold()


@fault("sends the head of a 200 and nothing after it", "timeout_ttft")
async def head_only(t: Talk) -> None:
    await t.head()
    await t.hold()


@fault("comments, which keep a connection up, and never a token", "timeout_ttft")
async def only_pings(t: Talk) -> None:
    await t.head()
    for _ in range(20):
        await t.data(b": ping\n\n")
        await asyncio.sleep(t.gap_s)
    await t.hold()


@fault("reads the request, closes without a byte", "reset")
async def close_after_request(t: Talk) -> None:
    t.fin()


@fault("reads the request, resets the connection", "reset")
async def rst_after_request(t: Talk) -> None:
    t.rst()


# ---- streams that break off


@fault(f"a FIN after {K} tokens, in the middle of the transfer encoding", "truncated")
async def dies_midstream(t: Talk) -> None:
    await t.head()
    await t.play(t.tokens(K, finish=None))
    t.fin()


@fault("a FIN in the middle of an event's JSON", "truncated")
async def dies_mid_event(t: Talk) -> None:
    await t.head()
    await t.play(t.tokens(K, finish=None))
    await t.data(sse(t.token(K))[:40])
    t.fin()


@fault("ends well after some tokens, with neither finish reason nor [DONE]", "truncated")
async def no_end(t: Talk) -> None:
    await t.head()
    await t.play(t.tokens(K, finish=None))
    await t.end()


@fault("a body shorter than its content-length", "truncated")
async def short_body(t: Talk) -> None:
    data = b"".join(map(sse, t.tokens(K, finish=None)))
    await t.head("200 OK", "text/event-stream", str(len(data) + 1000))
    await t.raw(data)
    t.fin()


@fault("the connection ends inside a character of three bytes", "truncated")
async def half_utf8_cut(t: Talk) -> None:
    await t.head()
    await t.play(t.tokens(K, finish=None))
    event = sse(t.token(K, text="가"))
    await t.data(event[: event.index("가".encode()) + 2])
    t.fin()


@fault(f"a reset after {K} tokens", "reset")
async def rst_midstream(t: Talk) -> None:
    await t.head()
    await t.play(t.tokens(K, finish=None))
    await asyncio.sleep(0.05)  # a reset throws away what the client has not read yet
    t.rst()


@fault(f"{K} tokens, then silence on an open connection", "stalled")
async def stall(t: Talk) -> None:
    await t.head()
    await t.play(t.tokens(K, finish=None))
    await t.hold()


@fault("half of an event after some tokens, then silence", "stalled")
async def stall_mid_event(t: Talk) -> None:
    await t.head()
    await t.play(t.tokens(K, finish=None))
    await t.data(sse(t.token(K))[:40])
    await t.hold()


# ---- streams that end without a token


@fault("role chunk, finish reason, [DONE], and not one token", "empty")
async def empty(t: Talk) -> None:
    await t.head()
    await t.play([t.role(), t.token(0, "stop", text="")] if t.chat else [t.token(0, "stop", text="")])
    await t.data(DONE)
    await t.end()


@fault("[DONE] and nothing else", "empty")
async def only_done(t: Talk) -> None:
    await t.head()
    await t.data(DONE)
    await t.end()


@fault("an empty body that ends well: no event at all", "empty")
async def empty_body(t: Talk) -> None:
    await t.head()
    await t.end()


# ---- errors that say so


@fault(
    'an {"error": …} event after some tokens of a 200, then [DONE], as vLLM reports a failure', "stream_error"
)
async def error_event(t: Talk) -> None:
    await t.head()
    await t.play(t.tokens(K, finish=None))
    await t.data(
        sse({"error": {"message": "CUDA error", "type": "InternalServerError", "param": None, "code": 500}})
    )
    await t.data(DONE)
    await t.end()


@fault('an {"error": …} event as the first of a 200', "stream_error")
async def error_first(t: Talk) -> None:
    await t.head()
    await t.data(
        sse({"error": {"message": "bad prompt", "type": "BadRequestError", "param": None, "code": 400}})
    )
    await t.data(DONE)
    await t.end()


def with_status(code: int, html: bool) -> None:
    """Registers a plain HTTP error with a JSON or an HTML body."""
    status, message, extra = STATUSES[code]

    @fault(
        f"{status}{' + Retry-After' if extra else ''}, {'an HTML' if html else 'a JSON'} body",
        f"http_{code}",
        f"http_{code}_html" if html else f"http_{code}",
    )
    async def play(t: Talk) -> None:
        error = {"error": {"message": message, "type": "Error", "param": None, "code": code}}
        body, kind = (HTML, "text/html") if html else (json.dumps(error).encode(), "application/json")
        await t.whole(status, kind, body, *extra)


for _code in STATUSES:
    with_status(_code, html=False)
    with_status(_code, html=True)


@fault("307 to another path, which answers well", "http_307")
async def redirect(t: Talk) -> None:
    await t.whole("307 Temporary Redirect", "text/plain", b"", f"location: /good{t.path}")


# ---- not what was asked for


@fault("bytes that are no HTTP", "bad_stream")
async def not_http(t: Talk) -> None:
    await t.raw(b"SSH-2.0-OpenSSH_9.6\r\n\x00\x01\x02\x03\r\n\r\n")
    t.fin()


@fault("a 200 event stream of random bytes", "bad_stream")
async def garbage(t: Talk) -> None:
    await t.head()
    await t.data(bytes((i * 73 + 41) % 256 for i in range(4096)))
    await t.end()


@fault("data: not json, after a good role chunk", "bad_stream")
async def not_json(t: Talk) -> None:
    await t.head()
    await t.play([t.role()] if t.chat else [])
    await t.data(b"data: not json\n\n" + DONE)
    await t.end()


@fault("data: that is JSON but no object", "bad_stream")
async def not_object(t: Talk) -> None:
    await t.head()
    await t.data(b"data: [1, 2, 3]\n\n" + DONE)
    await t.end()


@fault("a whole last event whose text ends in half a character", "bad_stream")
async def half_utf8_event(t: Talk) -> None:
    await t.head()
    await t.play(t.tokens(t.n - 1))
    await t.data(sse(t.token(t.n - 1, "length", "가")).replace("가".encode(), "가".encode()[:2]) + DONE)
    await t.end()


@fault("a 200 HTML page", "bad_stream")
async def html_200(t: Talk) -> None:
    await t.whole("200 OK", "text/html", HTML)


@fault("a whole JSON answer although a stream was asked for", "bad_stream")
async def json_200(t: Talk) -> None:
    answer = t.chunk(
        [{"index": 0, "message": {"role": "assistant", "content": "no stream"}, "finish_reason": "stop"}]
    )
    await t.whole("200 OK", "application/json", json.dumps(answer).encode())


@fault("10 MB of text in one token's line, well formed: more than a client should hold", "bad_stream")
async def long_line(t: Talk) -> None:
    await t.head()
    huge = t.token(0, "length" if t.n == 1 else None, "x" * (10 << 20))
    rest = [t.token(i, "length" if i == t.n - 1 else None) for i in range(1, t.n)]
    await t.play([t.role(), huge, *rest, *t.usage()] if t.chat else [huge, *rest, *t.usage()])
    await t.data(DONE)
    await t.end()


@fault("10 MB without a line end, then a FIN", "bad_stream")
async def endless_line(t: Talk) -> None:
    await t.head("200 OK", "text/event-stream", "close")
    for _ in range(160):
        await t.data(b"x" * 65536)


@fault("a chunk size that is no number", "bad_stream")
async def bad_chunk(t: Talk) -> None:
    await t.head()
    await t.play(t.tokens(K, finish=None))
    await t.raw(b"zz\r\nwhat\r\n")
    t.fin()


@fault("a head that never ends: field after field, megabytes of them", "bad_stream")
async def endless_head(t: Talk) -> None:
    await t.raw(b"HTTP/1.1 200 OK\r\n")
    for i in range(4096):  # 4 MB; whoever still listens then hears nothing more
        await t.raw(b"x-pad-%d: %b\r\n" % (i, b"a" * 1000))
    await t.hold()


@fault("one header field that never ends", "bad_stream")
async def endless_field(t: Talk) -> None:
    await t.raw(b"HTTP/1.1 200 OK\r\nx-pad: ")
    for _ in range(64):
        await t.raw(b"a" * 65536)
    await t.hold()
