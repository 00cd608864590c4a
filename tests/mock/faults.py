"""The faults that are none: good answers in unusual clothes, all of which a client must read ("ok").

``FAULTS`` maps a name to what it does; ``OUTCOMES`` to how rvtop must file it: "ok" or an
error class. broken.py holds the rest.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from typing import Any

from tests.mock.talk import DONE, EVENT_STREAM, FAULTS, OUTCOMES, PIECES, Talk, fault, sse, whole_stream

# These have ports of their own and never read a request: see FaultyServer.
FAULTS["refused"], OUTCOMES["refused"] = "the port is bound but nobody listens", "refused"
FAULTS["blackhole"], OUTCOMES["blackhole"] = "connecting never ends: SYNs are dropped", "timeout_connect"
FAULTS["close_on_accept"], OUTCOMES["close_on_accept"] = "accepts and closes at once", "reset"


@fault("a good stream: role chunk, tokens, usage when asked for, [DONE]")
async def good(t: Talk) -> None:
    await t.head()
    await t.play(t.tokens() + t.usage())
    await t.data(DONE)
    await t.end()


@fault("one byte a write, head included")
async def drip(t: Talk) -> None:
    data = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + whole_stream(
        t
    )
    for i in range(len(data)):
        await t.raw(data[i : i + 1])
        await asyncio.sleep(0)
    t.fin()


@fault("a finish reason, then the end, without [DONE]")
async def no_done(t: Talk) -> None:
    await t.head()
    await t.play(t.tokens() + t.usage())
    await t.end()


@fault("a finish reason, then a FIN: no [DONE], no last chunk of the transfer encoding")
async def dies_after_finish(t: Talk) -> None:
    await t.head()
    await t.play(t.tokens())
    t.fin()


@fault("[DONE] but no finish reason")
async def no_finish(t: Talk) -> None:
    await t.head()
    await t.play(t.tokens(finish=None) + t.usage())
    await t.data(DONE)
    await t.end()


@fault("no usage chunk although asked for")
async def no_usage(t: Talk) -> None:
    await t.head()
    await t.play(t.tokens())
    await t.data(DONE)
    await t.end()


@fault("usage in every chunk (continuous_usage_stats), the role chunk's and the last included")
async def usage_every_chunk(t: Talk) -> None:
    await t.head()
    events = t.tokens()
    before = len(events) - t.n
    await t.play([{**one, "usage": t.counts(max(0, i + 1 - before))} for i, one in enumerate(events)])
    await t.play([t.chunk([], usage=t.counts(t.n))])
    await t.data(DONE)
    await t.end()


@fault("CRLF line ends")
async def crlf(t: Talk) -> None:
    await t.head()
    await t.data(whole_stream(t).replace(b"\n", b"\r\n"))
    await t.end()


@fault("comment lines between and before events")
async def comments(t: Talk) -> None:
    await t.head()
    await t.data(b": hello\n\n")
    for one in t.tokens() + t.usage():
        await t.data(b": ping - 2026-01-01 00:00:00\n\n" + sse(one))
    await t.data(b":\n" + DONE)
    await t.end()


@fault("event:, id: and retry: lines around the data")
async def event_lines(t: Talk) -> None:
    await t.head()
    await t.data(b"retry: 3000\n\n")
    for i, one in enumerate(t.tokens() + t.usage()):
        await t.data(b"event: message\nid: %d\n%b" % (i, sse(one)))
    await t.data(b"event: done\n" + DONE)
    await t.end()


@fault("each event's JSON over several data: lines")
async def multi_line_data(t: Talk) -> None:
    await t.head()
    for one in t.tokens() + t.usage():
        lines = json.dumps(one, ensure_ascii=False, indent=1).encode().split(b"\n")
        await t.data(b"".join(b"data: %b\n" % line for line in lines) + b"\n")
    await t.data(DONE)
    await t.end()


@fault("data: without a space after the colon")
async def no_space(t: Talk) -> None:
    await t.head()
    await t.data(whole_stream(t).replace(b"data: ", b"data:"))
    await t.end()


@fault("JSON with spaces and escapes, keys in another order, more fields than vLLM's")
async def other_shape(t: Talk) -> None:
    await t.head()
    for one in t.tokens() + t.usage():
        turned = {"x_extra": {"content": "no token"}, **dict(reversed(one.items())), "service_tier": None}
        await t.data(b"data: " + json.dumps(turned).encode() + b"\n\n")
    await t.data(DONE)
    await t.end()


@fault("tokens whose text looks like the protocol: [DONE], finish_reason, quotes, newlines, emoji escapes")
async def tricky_text(t: Talk) -> None:
    texts = [
        "data: [DONE]\n\n",
        '"finish_reason":"stop"',
        '{"error":"x"}',
        "\\",
        "\n",
        "\U0001f600",
        '"content":"',
    ]
    await t.head()
    events = [t.role()] if t.chat else []
    events += [t.token(i, "length" if i == t.n - 1 else None, texts[i % len(texts)]) for i in range(t.n)]
    for i, one in enumerate(events + t.usage()):
        await t.data(sse(one) if i % 2 else b"data: " + json.dumps(one).encode() + b"\n\n")
    await t.data(DONE)
    await t.end()


@fault("all events in one write")
async def coalesced(t: Talk) -> None:
    await t.head()
    await t.raw(b"".join(b"%x\r\n%b\r\n" % (len(e), e) for e in [whole_stream(t)]) + b"0\r\n\r\n")


@fault("each event in writes of three bytes, characters cut in two")
async def fragmented(t: Talk) -> None:
    await t.head()
    for one in t.tokens() + t.usage():
        data = sse(one)
        for at in range(0, len(data), 3):
            await t.data(data[at : at + 3])
        await asyncio.sleep(t.gap_s)
    await t.data(DONE)
    await t.end()


@fault("several tokens' text in one event; usage tells the truth")
async def merged_tokens(t: Talk) -> None:
    await t.head()
    events = [t.role()] if t.chat else []
    for at in range(0, t.n, 4):
        end = min(t.n, at + 4)
        text = "".join(PIECES[i % len(PIECES)] for i in range(at, end))
        events.append(t.token(at, "length" if end == t.n else None, text))
    await t.play(events + t.usage())
    await t.data(DONE)
    await t.end()


@fault("chunks with empty content, null content, no choices, between the tokens")
async def empty_chunks(t: Talk) -> None:
    await t.head()
    for one in t.tokens():
        await t.play([t.token(0, text=""), t.delta({}), t.delta({"content": None}), t.chunk([]), one])
    await t.play(t.usage())
    await t.data(DONE)
    await t.end()


@fault("a role-only chunk at once, the first token only ten gaps later")
async def early_role(t: Talk) -> None:
    await t.head()
    await t.play([t.delta({"role": "assistant", "content": ""})])
    await asyncio.sleep(10 * t.gap_s)
    await t.play([one for one in t.tokens() if one != t.role()] + t.usage())
    await t.data(DONE)
    await t.end()


async def channel(t: Talk, deltas: list[dict[str, Any]]) -> None:
    """A stream of one delta a token on some channel other than content."""
    await t.head()
    events = [t.delta(delta, "length" if i == t.n - 1 else None) for i, delta in enumerate(deltas)]
    await t.play([t.role(), *events, *t.usage()])
    await t.data(DONE)
    await t.end()


@fault("reasoning deltas under vLLM's newer name, reasoning")
async def reasoning(t: Talk) -> None:
    await channel(t, [{"reasoning": PIECES[i % len(PIECES)]} for i in range(t.n)])


@fault("reasoning deltas under the older name, reasoning_content")
async def reasoning_content(t: Talk) -> None:
    await channel(t, [{"reasoning_content": PIECES[i % len(PIECES)]} for i in range(t.n)])


@fault("tool_calls deltas: a name first, then arguments in pieces")
async def tool_calls(t: Talk) -> None:
    named = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": ""}}
    pieces = [{"index": 0, "function": {"arguments": f'"{i}'}} for i in range(1, t.n)]
    await channel(t, [{"tool_calls": [one]} for one in [named, *pieces]])


@fault("a body with a content-length instead of chunks")
async def content_length(t: Talk) -> None:
    await t.whole("200 OK", EVENT_STREAM, whole_stream(t))


@fault("a body that ends with the connection, HTTP/1.0 style")
async def close_delimited(t: Talk) -> None:
    await t.raw(b"HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + whole_stream(t))
    t.fin()


@fault("chunk extensions and trailers in the transfer encoding")
async def chunk_extensions(t: Talk) -> None:
    await t.head()
    for one in [*map(sse, t.tokens() + t.usage()), DONE]:
        await t.raw(b"%X;name=value\r\n%b\r\n" % (len(one), one))
    await t.raw(b"0\r\nx-trailer: yes\r\n\r\n")


async def compressed(t: Talk, encoding: str, wbits: int) -> None:
    """A body in a content-encoding, flushed after every event."""
    await t.head("200 OK", EVENT_STREAM, "chunked", f"content-encoding: {encoding}")
    packer = zlib.compressobj(wbits=wbits)
    for one in [*map(sse, t.tokens() + t.usage()), DONE]:
        await t.data(packer.compress(one) + packer.flush(zlib.Z_SYNC_FLUSH))
    await t.data(packer.flush())
    await t.end()


@fault("content-encoding: gzip, flushed after every event, asked for or not")
async def gzip(t: Talk) -> None:
    await compressed(t, "gzip", 31)


@fault("content-encoding: deflate, flushed after every event, asked for or not")
async def deflate(t: Talk) -> None:
    await compressed(t, "deflate", 15)


@fault("100 Continue and 103 Early Hints before the answer")
async def informational(t: Talk) -> None:
    await t.raw(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>; rel=preload\r\n\r\n")
    await good(t)


@fault("events as text/plain")
async def text_plain(t: Talk) -> None:
    await t.head("200 OK", "text/plain; charset=utf-8")
    await t.data(whole_stream(t))
    await t.end()


@fault("more events after [DONE]")
async def after_done(t: Talk) -> None:
    await t.head()
    await t.data(whole_stream(t))
    await t.data(b": bye\n\n" + DONE)
    await t.end()


@fault("a good stream, then the kept-alive connection is closed without a word")
async def closes_idle(t: Talk) -> None:
    await good(t)
    t.fin()
